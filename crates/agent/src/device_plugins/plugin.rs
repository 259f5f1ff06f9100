//! What the node asks a plugin.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    grpc,
    messages::{self, Allocation},
};

/// How long a plugin may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Follows the plugin's devices until it goes, or `told` says that nobody wants to hear it any more.
pub async fn list_and_watch(endpoint: &Path, told: impl Fn(BTreeMap<String, bool>) -> bool) -> Result<(), String> {
    let on_message = |message: &[u8]| told(messages::devices(message));
    grpc::stream(endpoint, "/v1beta1.DevicePlugin/ListAndWatch", on_message).await
}

/// What a container needs to use these devices.
pub async fn allocate(endpoint: &Path, ids: &[String]) -> Result<Allocation, String> {
    let request = messages::allocate(ids);
    let answer = within(grpc::call(endpoint, "/v1beta1.DevicePlugin/Allocate", request)).await?;
    Ok(Allocation::decode(&answer))
}

/// A container with these devices is about to start.
pub async fn pre_start(endpoint: &Path, ids: &[String]) -> Result<(), String> {
    let request = messages::pre_start(ids);
    within(grpc::call(endpoint, "/v1beta1.DevicePlugin/PreStartContainer", request)).await.map(drop)
}

async fn within<T>(call: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned();
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(late()))
}
