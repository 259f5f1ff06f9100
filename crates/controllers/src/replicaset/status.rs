//! What the status says, summed up from the pods.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::kind::Replicated;
use crate::{Error, pods};

/// The counts and conditions that the pods call for. `failure` is what stopped the last attempt to make or delete
/// pods, if it was made.
pub fn status_of<K: Replicated>(
    set: &K,
    owned: &[Arc<Pod>],
    active: &[Arc<Pod>],
    failure: Option<&Error>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready = set.min_ready_seconds();
    let template_labels = set.template().and_then(|t| t.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let count = |test: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| test(p)).count() as i32;
    let before = set.counts();
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let failed = conditions.iter().position(|c| c.type_ == "ReplicaFailure");
    match (failure, failed) {
        (Some(error), None) => {
            let creating = (active.len() as i32) < set.replicas();
            conditions.push(ReplicaSetCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                reason: Some(if creating { "FailedCreate" } else { "FailedDelete" }.into()),
                message: Some(error.message()),
                last_transition_time: Some(Time(now)),
            });
        }
        (None, Some(index)) => {
            conditions.remove(index);
        }
        _ => {}
    }
    let terminating = owned.iter().filter(|p| p.metadata.deletion_timestamp.is_some() && !pods::is_terminal(p)).count();
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: some_if(count(&|p| template_labels.iter().all(|(k, v)| p.labels().get(k) == Some(v)))),
        ready_replicas: some_if(count(&pods::is_ready)),
        available_replicas: some_if(count(&|p| pods::is_available(p, min_ready, now))),
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.meta().generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

/// Upstream leaves zero counts out.
fn some_if(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ready: bool, node: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    #[test]
    fn status_counts_what_the_pods_say() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "s", "generation": 3},
            "spec": {"replicas": 2, "selector": {}, "minReadySeconds": 10, "template": {}},
        }))
        .unwrap();
        let active = [Arc::new(pod("a", true, Some("n"))), Arc::new(pod("b", false, Some("n")))];
        let soon: Timestamp = "2026-01-01T00:00:05Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let status = status_of(&set, &active, &active, None, soon);
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(1), None));
        assert_eq!(status.observed_generation, Some(3));
        let status = status_of(&set, &active, &active, None, later);
        assert_eq!(status.available_replicas, Some(1));
    }
}
