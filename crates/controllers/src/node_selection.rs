//! Whether a pod may be on a node: selectors, affinity, taints. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};
use kube::ResourceExt;

/// Whether the toleration covers the taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    set(&toleration.effect).is_none_or(|e| e == taint.effect)
        && match (set(&toleration.key), toleration.operator.as_deref()) {
            (None, Some("Exists")) => true,
            (Some(key), Some("Exists")) => key == taint.key,
            (Some(key), _) => {
                key == taint.key
                    && toleration.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default()
            }
            (None, _) => false,
        }
}

/// Whether the pod's node selector and required node affinity match the node.
pub fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.labels();
    if !spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// The first taint with one of the effects that the tolerations do not cover.
pub fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints
        .filter(|t| effects.contains(&t.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// A term without requirements matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let fields = BTreeMap::from([("metadata.name".to_owned(), node.name_any())]);
    let by_label = term.match_expressions.as_deref().unwrap_or_default();
    let by_field = term.match_fields.as_deref().unwrap_or_default();
    !(by_label.is_empty() && by_field.is_empty())
        && by_label.iter().all(|r| requirement_matches(r, node.labels()))
        && by_field.iter().all(|r| requirement_matches(r, &fields))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => value.is_none_or(|v| !values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(have, bound)| have > bound),
        "Lt" => numbers().is_some_and(|(have, bound)| have < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": {"disk": "ssd", "cores": "8"}},
            "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}))
        .unwrap()
    }

    #[test]
    fn selectors_and_affinity_choose_nodes() {
        let term = |r: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [r]}]}}});
        for (spec, fits) in [
            (json!({"nodeSelector": {"disk": "ssd"}}), true),
            (json!({"nodeSelector": {"disk": "hdd"}}), false),
            (json!({"affinity": term(json!({"key": "cores", "operator": "Gt", "values": ["4"]}))}), true),
            (json!({"affinity": term(json!({"key": "cores", "operator": "Lt", "values": ["4"]}))}), false),
            (json!({"affinity": term(json!({"key": "zone", "operator": "DoesNotExist"}))}), true),
            (json!({"affinity": term(json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]}))}), false),
        ] {
            let mut whole = json!({"containers": []});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            assert_eq!(selects(&serde_json::from_value(whole).unwrap(), &node()), fits, "{spec}");
        }
    }

    #[test]
    fn taints_count_by_effect_and_toleration() {
        let tolerate: Toleration = serde_json::from_value(json!({"key": "k", "operator": "Exists"})).unwrap();
        assert!(untolerated(&node(), &[], &["NoSchedule"]).is_some());
        assert!(untolerated(&node(), &[], &["NoExecute"]).is_none());
        assert!(untolerated(&node(), &[tolerate], &["NoSchedule"]).is_none());
    }
}
