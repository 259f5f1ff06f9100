//! A claim's selector over volumes' labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether the labels are selected; no selector selects all.
pub fn selects(selector: Option<&LabelSelector>, labels: Option<&BTreeMap<String, String>>) -> bool {
    let Some(selector) = selector else { return true };
    let value = |key: &str| labels.and_then(|l| l.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(k, v)| value(k) == Some(v));
    equal
        && selector.match_expressions.iter().flatten().all(|e| {
            let listed = |v: &String| e.values.as_ref().is_some_and(|all| all.contains(v));
            match e.operator.as_str() {
                "In" => value(&e.key).is_some_and(listed),
                "NotIn" => !value(&e.key).is_some_and(listed),
                "Exists" => value(&e.key).is_some(),
                "DoesNotExist" => value(&e.key).is_none(),
                _ => false,
            }
        })
}
