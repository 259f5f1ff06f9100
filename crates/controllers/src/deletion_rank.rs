//! Which pods go first when there are too many.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::pods;

/// The `surplus` pods that matter least. `related` are all active pods of the owner's siblings and its own: of
/// equal pods the one whose node has more of them goes first.
pub fn least(active: &[Arc<Pod>], related: &[Arc<Pod>], surplus: usize) -> Vec<Arc<Pod>> {
    let mut crowds: HashMap<&str, usize> = HashMap::new();
    for node in related.iter().filter_map(|p| node(p)) {
        *crowds.entry(node).or_default() += 1;
    }
    let crowd = |pod: &Pod| node(pod).and_then(|n| crowds.get(n).copied()).unwrap_or(0);
    let mut ranked: Vec<_> = active.iter().map(|pod| (deletion_rank(pod, crowd(pod)), pod)).collect();
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    ranked.into_iter().take(surplus).map(|(_, pod)| pod.clone()).collect()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// Smaller goes first: unassigned, pending, not ready, cheap to delete, on a crowded node, ready for a shorter
/// time, restarted more often, newer (upstream's `ActivePodsWithRanks`).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct DeletionRank {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    crowding: std::cmp::Reverse<usize>,
    ready_since: std::cmp::Reverse<Option<Timestamp>>,
    restarts: std::cmp::Reverse<i32>,
    created: std::cmp::Reverse<Option<Timestamp>>,
}

fn deletion_rank(pod: &Pod, crowding: usize) -> DeletionRank {
    use std::cmp::Reverse;
    DeletionRank {
        assigned: pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()),
        phase: match pods::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        },
        ready: pods::is_ready(pod),
        cost: pod
            .annotations()
            .get("controller.kubernetes.io/pod-deletion-cost")
            .and_then(|c| c.parse().ok())
            .unwrap_or(0),
        crowding: Reverse(crowding),
        ready_since: Reverse(pods::ready_since(pod)),
        restarts: Reverse(pods::restarts(pod)),
        created: Reverse(pod.creation_timestamp().map(|t| t.0)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ready: bool, node: Option<&str>) -> Arc<Pod> {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }));
        Arc::new(pod.unwrap())
    }

    fn names(pods: Vec<Arc<Pod>>) -> Vec<String> {
        pods.iter().map(|p| p.name_any()).collect()
    }

    #[test]
    fn the_pods_that_serve_least_are_deleted_first() {
        let all = [pod("ready", true, Some("n")), pod("not-ready", false, Some("n")), pod("unassigned", false, None)];
        assert_eq!(names(least(&all, &all, 2)), ["unassigned", "not-ready"]);
    }

    #[test]
    fn of_equal_pods_the_one_on_the_node_crowded_by_its_kin_goes_first() {
        let all = [pod("a", true, Some("n")), pod("b", true, Some("m"))];
        let kin = [all[0].clone(), all[1].clone(), pod("c", true, Some("m"))];
        assert_eq!(names(least(&all, &kin, 1)), ["b"]);
    }
}
