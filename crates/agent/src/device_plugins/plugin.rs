//! What the node asks a plugin.

use std::{collections::BTreeMap, path::Path, time::Duration};

use tokio::net::UnixStream;

use super::messages::{self, Allocation, Device, Options};
use grpc::{CallError, Message, Status, Target};

/// How long a plugin may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Follows the plugin's devices until it goes, or `told` says that nobody wants to hear it any more.
pub async fn list_and_watch(endpoint: &Path, told: impl Fn(BTreeMap<String, Device>) -> bool) -> Result<(), String> {
    let stream = connect(endpoint).await?;
    let each = |message: bytes::Bytes| told(messages::devices(&message));
    let result = grpc::stream(stream, method("v1beta1.DevicePlugin/ListAndWatch"), &Message::default(), each).await;
    result.map_err(|error| describe(endpoint, error))
}

/// What it wants to be asked.
pub async fn options(endpoint: &Path) -> Result<Options, String> {
    let answer = call(endpoint, "v1beta1.DevicePlugin/GetDevicePluginOptions", &Message::default()).await?;
    Ok(Options::decode(&answer))
}

/// What a container needs to use these devices.
pub async fn allocate(endpoint: &Path, ids: &[String]) -> Result<Allocation, String> {
    let answer = call(endpoint, "v1beta1.DevicePlugin/Allocate", &messages::allocate(ids)).await?;
    Ok(Allocation::decode(&answer))
}

/// Which devices a container that has some best gets of those that are free, so that it has `size` of them.
pub async fn preferred(endpoint: &Path, free: &[String], has: &[String], size: usize) -> Result<Vec<String>, String> {
    let asked = messages::preferred(free, has, size);
    let answer = call(endpoint, "v1beta1.DevicePlugin/GetPreferredAllocation", &asked).await?;
    Ok(messages::preferred_devices(&answer))
}

/// A container with these devices is about to start.
pub async fn pre_start(endpoint: &Path, ids: &[String]) -> Result<(), String> {
    call(endpoint, "v1beta1.DevicePlugin/PreStartContainer", &messages::pre_start(ids)).await.map(drop)
}

async fn call(endpoint: &Path, name: &str, message: &Message) -> Result<bytes::Bytes, String> {
    let call = async {
        let stream = connect(endpoint).await?;
        grpc::call(stream, method(name), message).await.map_err(|error| describe(endpoint, error))
    };
    let late = || Status::new(Status::DEADLINE_EXCEEDED, "context deadline exceeded").to_string();
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(late()))
}

fn method(name: &str) -> Target<'_> {
    Target { authority: "localhost", method: name, user_agent: "hythe" }
}

async fn connect(endpoint: &Path) -> Result<UnixStream, String> {
    UnixStream::connect(endpoint).await.map_err(|error| unavailable(endpoint, &error))
}

fn describe(endpoint: &Path, error: CallError) -> String {
    match error {
        CallError::Refused(status) => status.to_string(),
        other => unavailable(endpoint, &other),
    }
}

fn unavailable(endpoint: &Path, error: &dyn std::fmt::Display) -> String {
    Status::new(Status::UNAVAILABLE, format!("connection error: {}: {error}", endpoint.display())).to_string()
}
