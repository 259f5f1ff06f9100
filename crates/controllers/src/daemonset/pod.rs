//! A DaemonSet's pod for a node, and on which nodes there is to be one. Pure.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration},
};
use kube::ResourceExt;

use crate::{node_selection, pod_control};

/// The label that tells pods of one template from those of another.
pub const HASH: &str = "controller-revision-hash";
const GENERATION: &str = "pod-template-generation";
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// What every daemon tolerates.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK_UNAVAILABLE: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The pod for this node: the scheduler places it by its node affinity.
pub fn build(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod = pod_control::from_template(set, &template);
    pod.labels_mut().insert(HASH.into(), hash.into());
    if let Some(generation) = generation(set) {
        pod.labels_mut().insert(GENERATION.into(), generation);
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    bind(spec, node);
    pod
}

/// The generation of the template, as it was counted before there were revisions.
fn generation(set: &DaemonSet) -> Option<String> {
    set.annotations().get(TEMPLATE_GENERATION).cloned()
}

fn tolerate(spec: &mut PodSpec) {
    let network = Some(NETWORK_UNAVAILABLE).filter(|_| spec.host_network == Some(true));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        match tolerations.iter_mut().find(|t| t.key.as_deref() == Some(key) && t.effect.as_deref() == Some(effect)) {
            Some(there) => *there = toleration,
            None => tolerations.push(toleration),
        }
    }
}

/// Required terms give way to the node's name: the controller has already judged by them.
fn bind(spec: &mut PodSpec, node: &str) {
    let requirement =
        NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(vec![node.into()]) };
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_with(Affinity::default).node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is on or is for.
pub fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let field = fields.find(|r| r.key == "metadata.name" && r.operator == "In")?;
    field.values.as_ref()?.first().map(String::as_str)
}

/// What a node is to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// There is to be a pod.
    Wanted,
    /// A pod that is there may stay.
    Tolerated,
    /// There is to be none.
    Unfit,
}

/// Judges a node.
pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let mut spec = set.spec.as_ref().and_then(|s| s.template.spec.clone()).unwrap_or_default();
    if spec.node_name.as_deref().is_some_and(|n| !n.is_empty() && n != node.name_any())
        || !node_selection::selects(&spec, node)
    {
        return Fit::Unfit;
    }
    tolerate(&mut spec);
    let tolerations = spec.tolerations.unwrap_or_default();
    let repels = |effects: &[&str]| node_selection::untolerated(node, &tolerations, effects).is_some();
    match (repels(&["NoSchedule", "NoExecute"]), repels(&["NoExecute"])) {
        (false, _) => Fit::Wanted,
        (true, false) => Fit::Tolerated,
        (true, true) => Fit::Unfit,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(pod: Value) -> DaemonSet {
        let template = json!({"metadata": {"labels": {"app": "d"}}, "spec": pod});
        serde_json::from_value(
            json!({"metadata": {"name": "d", "uid": "d"}, "spec": {"selector": {}, "template": template}}),
        )
        .unwrap()
    }

    fn node(taints: Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "a", "labels": {"disk": "ssd"}}, "spec": {"taints": taints}}),
        )
        .unwrap()
    }

    #[test]
    fn a_pod_is_for_its_node_and_tolerates_what_daemons_do() {
        let pod = build(&set(json!({"containers": [], "hostNetwork": true})), "h", "a");
        assert_eq!(target(&pod), Some("a"));
        assert_eq!(pod.labels()[HASH], "h");
        assert_eq!(pod.spec.unwrap().tolerations.unwrap().len(), 7);
    }

    #[test]
    fn nodes_are_chosen_by_selector_and_taint() {
        let plain = json!({"containers": []});
        for (pod, taints, expected) in [
            (plain.clone(), json!([]), Fit::Wanted),
            (json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), json!([]), Fit::Unfit),
            (plain.clone(), json!([{"key": "k", "effect": "NoSchedule"}]), Fit::Tolerated),
            (plain.clone(), json!([{"key": "k", "effect": "NoExecute"}]), Fit::Unfit),
            (plain.clone(), json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]), Fit::Wanted),
            (plain, json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]), Fit::Wanted),
            (
                json!({"containers": [], "tolerations": [{"operator": "Exists"}]}),
                json!([{"key": "k", "effect": "NoExecute"}]),
                Fit::Wanted,
            ),
        ] {
            assert_eq!(fit(&set(pod.clone()), &node(taints.clone())), expected, "{pod} {taints}");
        }
    }
}
