//! Which taints a node's conditions call for, and when a pod that does not tolerate them must leave. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::condition;
use crate::{node_selection::tolerates, pods};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition → taint that keeps new pods away.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// A node's taints.
pub fn of(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten())
}

/// The taints that a node should have: its owner's own, and those that its conditions call for.
pub fn wanted(node: &Node, now: Timestamp) -> Vec<Taint> {
    let mut called_for: Vec<(&str, &str)> = Vec::new();
    match condition(node, "Ready") {
        Some("True") => {}
        Some("Unknown") => called_for.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        _ => called_for.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    called_for
        .extend(PRESSURES.iter().filter(|(c, _)| condition(node, c) == Some("True")).map(|(_, t)| (*t, "NoSchedule")));
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        called_for.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, t)| taint.key == *t)
    };
    let same = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut taints: Vec<Taint> =
        of(node).filter(|t| !ours(t) || called_for.iter().any(|c| same(t, c))).cloned().collect();
    for call in &called_for {
        if !taints.iter().any(|t| same(t, call)) {
            taints.push(Taint { key: call.0.into(), effect: call.1.into(), value: None, time_added: Some(Time(now)) });
        }
    }
    taints
}

/// Whether they make pods leave because the node is not ready or can't be reached.
pub fn evict(taints: &[Taint]) -> bool {
    taints.iter().any(|t| t.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&t.key.as_str()))
}

/// The zone of a node as upstream names it, region and all; empty if it is in none.
pub fn zone(node: &Node) -> String {
    let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", |v| v);
    match (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone")) {
        ("", "") => String::new(),
        (region, zone) => format!("{region}:\0:{zone}"),
    }
}

/// When a pod must leave because of `NoExecute` taints: `None` if it tolerates them all for good. What it tolerates for
/// a time counts from when both pod and taint were there: by the taint's word, or since `seen`, if that is earlier
/// or the taint does not tell.
pub fn leaves_at(pod: &Pod, taints: &[&Taint], seen: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let none = Vec::new();
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_ref()).unwrap_or(&none);
    taints
        .iter()
        .filter_map(|taint| {
            let matching: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
            if matching.is_empty() {
                return Some(now);
            }
            // The shortest of those that end; without any that ends the pod stays.
            let seconds = matching.iter().filter_map(|t| t.toleration_seconds).min()?;
            let since = taint.time_added.as_ref().map_or(seen, |t| t.0.max(arrival(pod)).min(seen));
            since.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).ok()
        })
        .min()
}

/// When the pod came to its node.
fn arrival(pod: &Pod) -> Timestamp {
    let bound = pods::condition(pod, "PodScheduled").filter(|c| c.status == "True");
    let bound = bound.and_then(|c| c.last_transition_time.as_ref());
    bound.or(pod.metadata.creation_timestamp.as_ref()).map_or(Timestamp::MIN, |t| t.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(ready: &str, cordoned: bool) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"},
            "spec": {"unschedulable": cordoned, "taints": [{"key": "mine", "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}, {"type": "MemoryPressure", "status": "True"}]}}))
        .unwrap()
    }

    fn keys(taints: &[Taint]) -> Vec<(&str, &str)> {
        taints.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect()
    }

    #[test]
    fn taints_follow_the_conditions_and_the_owners_own_stay() {
        let now = Timestamp::UNIX_EPOCH;
        let pressure = ("node.kubernetes.io/memory-pressure", "NoSchedule");
        assert_eq!(keys(&wanted(&node("True", false), now)), [("mine", "NoSchedule"), pressure]);
        assert_eq!(
            keys(&wanted(&node("Unknown", true), now)),
            [
                ("mine", "NoSchedule"),
                (UNREACHABLE, "NoSchedule"),
                (UNREACHABLE, "NoExecute"),
                pressure,
                (UNSCHEDULABLE, "NoSchedule")
            ]
        );
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let pod = |tolerations: serde_json::Value| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": "p"}, "spec": {"containers": [], "tolerations": tolerations}}),
            )
            .unwrap()
        };
        let at = |text: &str| -> Timestamp { format!("2026-01-01T{text}Z").parse().unwrap() };
        let start = at("00:00:00");
        let taint =
            Taint { key: UNREACHABLE.into(), effect: "NoExecute".into(), value: None, time_added: Some(Time(start)) };
        let leaves = |p: &Pod| leaves_at(p, &[&taint], start, start);
        assert_eq!(leaves(&pod(json!([]))), Some(start));
        assert_eq!(leaves(&pod(json!([{"operator": "Exists"}]))), None);
        let five_minutes =
            json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        let mut patient = pod(five_minutes);
        assert_eq!(leaves(&patient), Some(at("00:05:00")));
        assert_eq!(leaves(&pod(json!([{"key": "other", "operator": "Exists"}]))), Some(start));
        // A taint by hand does not tell since when it is there, and a pod may come later than the taint.
        let by_hand = Taint { time_added: None, ..taint.clone() };
        assert_eq!(leaves_at(&patient, &[&by_hand], start, at("00:04:00")), Some(at("00:05:00")));
        patient.metadata.creation_timestamp = Some(Time(at("00:02:00")));
        assert_eq!(leaves_at(&patient, &[&taint], at("00:03:00"), at("00:03:00")), Some(at("00:07:00")));
    }
}
