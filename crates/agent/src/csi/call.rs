//! One call over a driver's socket.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use tokio::net::UnixStream;

use grpc::{Message, Status, Target};

/// How long a driver may take (the kubelet's `csiTimeout`).
const PATIENCE: Duration = Duration::from_secs(120);

/// Calls a method such as `csi.v1.Node/NodeGetInfo`; gives the encoded answer.
pub async fn call(socket: &Path, method: &str, message: &Message) -> Result<Bytes, Status> {
    match tokio::time::timeout(PATIENCE, exchange(socket, method, message)).await {
        Ok(result) => result,
        Err(_) => Err(Status::new(Status::DEADLINE_EXCEEDED, "context deadline exceeded")),
    }
}

/// Whether a call that ended like that has surely ended: the driver is not at it any more (what the kubelet takes for
/// final, by the CSI specification's and gRPC's words).
pub fn is_final(status: &Status) -> bool {
    !matches!(
        status.code,
        Status::CANCELED
            | Status::DEADLINE_EXCEEDED
            | Status::UNAVAILABLE
            | Status::RESOURCE_EXHAUSTED
            | Status::ABORTED
    )
}

async fn exchange(socket: &Path, method: &str, message: &Message) -> Result<Bytes, Status> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let path = socket.display();
        let text = format!("connection error: desc = \"transport: Error while dialing: dial unix {path}: {error}\"");
        Status::new(Status::UNAVAILABLE, text)
    })?;
    let target = Target { authority: "localhost", method, user_agent: "hythe" };
    grpc::call(stream, target, message).await.map_err(|error| match error {
        grpc::CallError::Refused(status) => status,
        grpc::CallError::Transport(text) => Status::new(Status::UNAVAILABLE, text),
        grpc::CallError::NoStatus => Status::new(Status::INTERNAL, error.to_string()),
    })
}
