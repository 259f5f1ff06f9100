//! One gRPC call over a driver's socket. Calls are rare, so each has a connection of its own and nothing stays open.

use std::{path::Path, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

use super::message::Message;

/// Longest answer that is read.
const LARGEST: usize = 4 << 20;
/// How long a driver may take (the kubelet's `csiTimeout`).
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Why a call failed, as Go's gRPC says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", name(*.code))]
pub struct CallError {
    /// gRPC's status code.
    pub code: u32,
    /// The driver's words.
    pub message: String,
}

impl CallError {
    fn unavailable(error: impl std::fmt::Display) -> Self {
        Self { code: 14, message: error.to_string() }
    }
}

/// Calls a method such as `csi.v1.Node/NodeGetInfo`; gives the encoded answer.
pub async fn call(socket: &Path, method: &str, message: &Message) -> Result<Bytes, CallError> {
    match tokio::time::timeout(PATIENCE, exchange(socket, method, message)).await {
        Ok(result) => result,
        Err(_) => Err(CallError { code: 4, message: "context deadline exceeded".to_owned() }),
    }
}

async fn exchange(socket: &Path, method: &str, message: &Message) -> Result<Bytes, CallError> {
    let dial = |e: std::io::Error| {
        CallError::unavailable(format!(
            "connection error: desc = \"transport: Error while dialing: dial unix {}: {e}\"",
            socket.display()
        ))
    };
    let stream = UnixStream::connect(socket).await.map_err(dial)?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(CallError::unavailable)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let request = Request::post(format!("http://localhost/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "hythe")
            .body(Full::new(frame(&message.0)))
            .map_err(CallError::unavailable)?;
        let response = sender.send_request(request).await.map_err(CallError::unavailable)?;
        let early = status(response.headers());
        let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(CallError::unavailable)?;
        match early.or_else(|| body.trailers().and_then(status)) {
            Some((0, _)) => Ok(body.to_bytes().get(5..).map(Bytes::copy_from_slice).unwrap_or_default()),
            Some((code, message)) => Err(CallError { code, message }),
            None => Err(CallError { code: 13, message: "the answer is not a gRPC one".to_owned() }),
        }
    }
    .await;
    connection.abort();
    answer
}

fn status(headers: &http::HeaderMap) -> Option<(u32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").and_then(|v| v.to_str().ok()).unwrap_or_default();
    Some((code, decode(message)))
}

/// gRPC's percent encoding of messages.
fn decode(message: &str) -> String {
    let mut out = Vec::new();
    let mut rest = message.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *byte == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES.get(code as usize).copied().unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_those_of_gos_grpc() {
        let error = CallError { code: 13, message: decode("no%20disk: 100%") };
        assert_eq!(error.to_string(), "rpc error: code = Internal desc = no disk: 100%");
        assert_eq!(&frame(b"ab")[..], [0, 0, 0, 0, 2, b'a', b'b']);
    }
}
