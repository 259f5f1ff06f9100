//! postStart and preStop hooks.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::{
    context::Context,
    probes::{exec, http},
};

/// Where a hook runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The sandbox.
    pub sandbox: String,
    /// The container's id in it.
    pub container: String,
    /// The pod's address.
    pub pod_ip: String,
}

/// Runs a hook to its end. The error is for the log alone: what a hook says may be a secret, so that events only tell
/// that it failed (as upstream's do).
pub async fn run(
    context: &Arc<Context>,
    place: &Place,
    container: &Container,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let done = exec::run(context, &place.sandbox, &place.container, &command, None).await;
        return match done {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => Err(format!(
                "command '{}' exited with {}: {}",
                command.join(" "),
                output.exit_code,
                String::from_utf8_lossy(&output.text)
            )),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(action) = &handler.http_get {
        let request = http::request(action, container, &place.pod_ip)?;
        return match http::get(&request, Duration::from_secs(30)).await {
            Ok(answer) if answer.status >= 400 => {
                Err(format!("HTTP lifecycle hook ({}) failed with status {}", request.url(), answer.status))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    Err("invalid handler: no action".to_owned())
}
