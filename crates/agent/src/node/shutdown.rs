//! The end of the node: its pods are told, those of the lowest priority first (upstream's graceful node shutdown).

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    events::Severity,
    node::eviction,
    pods::{Eviction, phase::is_over},
    static_pods,
};

/// Why a node that goes down takes no pods.
pub const SHUTTING_DOWN: &str = "node is shutting down";

/// How long pods of some priorities may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// From this priority on, up to that of the next turn. The first one is also that of all pods below it.
    pub priority: i32,
    /// SIGKILL comes after it, or after the pod's own grace period if that is shorter.
    pub grace: Duration,
}

/// The turns that two grace periods make: that of all pods, and the part of it that is kept for critical ones.
pub fn turns(all: Duration, critical: Duration) -> Vec<Turn> {
    let others = all.saturating_sub(critical);
    vec![Turn { priority: 0, grace: others }, Turn { priority: eviction::CRITICAL, grace: critical }]
}

/// When the last shutdown began and ended, in a file that the next agent reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastShutdown {
    /// The word that the machine goes down.
    pub start_time: Option<Timestamp>,
    /// All pods had ended, or their time was over.
    pub end_time: Option<Timestamp>,
}

impl LastShutdown {
    /// As an agent with that data directory has left it.
    pub fn read(context: &Context) -> Self {
        let text = fs::read(file(context)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write(self, context: &Context) {
        let text = serde_json::to_vec(&self).unwrap_or_default();
        if let Err(error) = fs::write(file(context), text) {
            tracing::warn!(%error, "the time of the shutdown can't be noted");
        }
    }
}

fn file(context: &Context) -> PathBuf {
    context.data_dir().join("graceful_node_shutdown_state")
}

/// Ends all pods within the times of the configuration; returns when they have ended or their time is over.
pub async fn shut_down(context: &Arc<Context>) {
    let begun = LastShutdown { start_time: Some(Timestamp::now()), end_time: None };
    begun.write(context);
    context.health.send_modify(|health| health.not_ready = Some(SHUTTING_DOWN));
    if let Some(node) = context.node.get() {
        context.recorder.node(node, Severity::Normal, "Shutdown", "Shutdown manager detected shutdown event");
    }
    let turns = &context.config.shutdown;
    for (index, turn) in turns.iter().enumerate() {
        end(context, turn.grace, |pod| turn_of(turns, pod) == index).await;
    }
    LastShutdown { end_time: Some(Timestamp::now()), ..begun }.write(context);
}

/// Which of the turns, which are in the order of their priorities, is that of a pod.
fn turn_of(turns: &[Turn], pod: &Pod) -> usize {
    let own = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    let priority = if eviction::is_critical(pod) { own.max(eviction::CRITICAL) } else { own };
    turns.iter().rposition(|turn| turn.priority <= priority).unwrap_or(0)
}

async fn end(context: &Arc<Context>, time: Duration, which: impl Fn(&Pod) -> bool) {
    let views: Vec<_> = context.pods.all().into_iter().filter(|v| v.sandbox.is_some() && which(&v.pod)).collect();
    if views.is_empty() {
        return;
    }
    let mut ends = Vec::new();
    for view in views {
        let uid = view.pod.metadata.uid.clone().unwrap_or_default();
        let Some(mut changes) = context.pods.follow(&uid) else { continue };
        let is_static = static_pods::is_static(&view.pod);
        if is_static {
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
        // An actor that is gone has ended its pod. The others' last words are to reach the API.
        ends.push(
            async move { drop(changes.wait_for(|v| v.sandbox.is_none() && (is_static || is_over(&v.pod))).await) },
        );
    }
    // SIGKILL follows the time; then a moment for the last words to be written.
    let all = futures::future::join_all(ends);
    if tokio::time::timeout(time + Duration::from_secs(2), all).await.is_err() {
        tracing::warn!("not all pods have ended in the time that a shutdown leaves them");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_pod_has_the_turn_of_the_next_lower_priority() {
        let turn = |priority| Turn { priority, grace: Duration::ZERO };
        let turns = [turn(0), turn(1000), turn(10_000), turn(eviction::CRITICAL)];
        let of = |priority: Option<i32>, annotations: serde_json::Value| {
            let pod =
                json!({"metadata": {"annotations": annotations}, "spec": {"priority": priority, "containers": []}});
            turn_of(&turns, &serde_json::from_value(pod).expect("a pod"))
        };
        let plain = |priority| of(Some(priority), json!({}));
        assert_eq!([-5, 0, 999, 1000, 9999, 10_000].map(plain), [0, 0, 0, 1, 1, 2]);
        assert_eq!((plain(2_000_001_000), of(None, json!({}))), (3, 0));
        assert_eq!(of(None, json!({"kubernetes.io/config.source": "file"})), 3, "a static pod is critical");
        assert_eq!(turn_of(&turns[3..], &Pod::default()), 0, "the lowest of all");
    }

    #[test]
    fn what_critical_pods_keep_is_a_part_of_the_whole() {
        let seconds = Duration::from_secs;
        let made: Vec<_> = turns(seconds(30), seconds(10)).iter().map(|t| (t.priority, t.grace)).collect();
        assert_eq!(made, [(0, seconds(20)), (eviction::CRITICAL, seconds(10))]);
    }
}
