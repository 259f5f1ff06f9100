//! The end of the node: its pods are told, the critical ones last (upstream's graceful node shutdown).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    context::Context,
    node::eviction,
    pods::{Eviction, PodView},
    static_pods,
};

/// Why a node that goes down takes no pods.
pub const SHUTTING_DOWN: &str = "node is shutting down";

/// Ends all pods within the times of the configuration; returns when they have ended or their time is over.
pub async fn shut_down(context: &Arc<Context>) {
    context.health.send_modify(|health| health.not_ready = Some(SHUTTING_DOWN));
    let critical = context.config.shutdown_grace_critical.min(context.config.shutdown_grace);
    let others = context.config.shutdown_grace - critical;
    end(context, others, |view| !eviction::is_critical(&view.pod)).await;
    end(context, critical, |_| true).await;
}

async fn end(context: &Arc<Context>, time: Duration, which: impl Fn(&PodView) -> bool) {
    let views: Vec<_> = context.pods.all().into_iter().filter(|v| v.sandbox.is_some() && which(v)).collect();
    let mut ends = Vec::new();
    for view in views {
        let uid = view.pod.metadata.uid.clone().unwrap_or_default();
        let Some(mut changes) = context.pods.follow(&uid) else { continue };
        if static_pods::is_static(&view.pod) {
            // It runs again when the node does.
            context.pods.end_static(&uid);
        } else {
            let own = view.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
            context.pods.evict(
                &uid,
                Eviction {
                    reason: "Terminated",
                    message: "Pod was terminated in response to imminent node shutdown.".to_owned(),
                    annotations: BTreeMap::new(),
                    grace: Some(own.max(0).unsigned_abs().min(time.as_secs())),
                    disrupts: true,
                },
            );
        }
        // An actor that is gone has ended its pod.
        ends.push(async move { drop(changes.wait_for(|v| v.sandbox.is_none()).await) });
    }
    // SIGKILL follows the time; then a moment for the last words to be written.
    let all = futures::future::join_all(ends);
    if tokio::time::timeout(time + Duration::from_secs(2), all).await.is_err() {
        tracing::warn!("not all pods have ended in the time that a shutdown leaves them");
    }
}
