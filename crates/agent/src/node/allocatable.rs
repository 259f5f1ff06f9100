//! All pods together get no more memory than the node promises them.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, events::Severity};

/// Before a limit that could not be set is tried again: pods may use more than that still.
const RETRY: Duration = Duration::from_secs(60);

/// Sets the limit, which is what the machine has less what is reserved (what eviction keeps free is not: it would come too
/// late), or takes that of an earlier agent away.
pub async fn enforce(context: Arc<Context>, node: Node, stop: CancellationToken) {
    let enforced = context.config.enforce_allocatable;
    let limit = if enforced { context.machine.memory_bytes - context.config.reserved.memory } else { -1 };
    let recorder = &context.recorder;
    loop {
        let resources = engine::Resources { memory_limit: Some(limit), ..engine::Resources::default() };
        let result = context.runtime.limit_all(resources).await;
        if !enforced {
            return;
        }
        match result {
            Ok(()) => {
                let text = "Updated Node Allocatable limit across pods";
                recorder.node(&node, Severity::Normal, "NodeAllocatableEnforced", text);
                return;
            }
            Err(error) => {
                let text = format!("Failed to update Node Allocatable Limits: {error}");
                recorder.node(&node, Severity::Warning, "FailedNodeAllocatableEnforcement", text);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}
