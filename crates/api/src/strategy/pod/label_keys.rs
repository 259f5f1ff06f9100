//! `matchLabelKeys` and `mismatchLabelKeys`: the pod's own labels become a part of the selectors beside them when it is
//! made (KEP-3633, KEP-3243), so that whoever places pods needs to know of selectors alone.

use serde_json::{Value, json};

const AFFINITIES: [&str; 2] = ["podAffinity", "podAntiAffinity"];

/// Adds them to the selectors of a new pod's affinity and spread constraints.
pub(super) fn merge(pod: &mut Value) {
    let Some(spec) = pod.get("spec") else { return };
    if spec.get("affinity").is_none() && spec.get("topologySpreadConstraints").is_none() {
        return;
    }
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    for constraint in items(spec.get_mut("topologySpreadConstraints")) {
        add(constraint, &labels);
    }
    for affinity in AFFINITIES {
        let Some(affinity) = spec.get_mut("affinity").and_then(|all| all.get_mut(affinity)) else { continue };
        for term in items(affinity.get_mut("requiredDuringSchedulingIgnoredDuringExecution")) {
            add(term, &labels);
        }
        for weighted in items(affinity.get_mut("preferredDuringSchedulingIgnoredDuringExecution")) {
            weighted.get_mut("podAffinityTerm").into_iter().for_each(|term| add(term, &labels));
        }
    }
}

fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

/// A selector that is not there matches nothing and stays so.
fn add(term: &mut Value, labels: &Value) {
    let mut more = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term[field].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = labels[key].as_str() {
                more.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut).filter(|_| !more.is_empty())
    else {
        return;
    };
    let expressions = selector.entry("matchExpressions").or_insert(Value::Null);
    if expressions.is_null() {
        *expressions = json!([]);
    }
    if let Some(expressions) = expressions.as_array_mut() {
        expressions.append(&mut more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_own_labels_become_a_part_of_its_selectors() {
        let mut pod = json!({
            "metadata": {"labels": {"hash": "1", "tenant": "a"}},
            "spec": {
                "topologySpreadConstraints": [
                    {"labelSelector": {"matchLabels": {"app": "x"}}, "matchLabelKeys": ["hash", "absent"]},
                    {"matchLabelKeys": ["hash"]},
                ],
                "affinity": {"podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"labelSelector": {"matchExpressions": [{"key": "tenant", "operator": "Exists"}]}, "mismatchLabelKeys": ["tenant"]},
                    ],
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "podAffinityTerm": {"labelSelector": {}, "matchLabelKeys": ["hash"]}},
                    ],
                }},
            },
        });
        merge(&mut pod);
        let hash = json!({"key": "hash", "operator": "In", "values": ["1"]});
        let spread = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(spread[0]["labelSelector"], json!({"matchLabels": {"app": "x"}, "matchExpressions": [hash]}));
        assert_eq!(spread[1].get("labelSelector"), None);
        let apart = &pod["spec"]["affinity"]["podAntiAffinity"];
        let tenants = &apart["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"]["matchExpressions"];
        assert_eq!(tenants[1], json!({"key": "tenant", "operator": "NotIn", "values": ["a"]}));
        let preferred = &apart["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        assert_eq!(preferred["labelSelector"]["matchExpressions"], json!([hash]));
    }
}
