//! Labels of nodes that have other names now, wherever nodes are chosen by them (`pkg/api/node/util.go`).

use serde_json::Value;

use crate::strategy::{
    access::{entries, list, text},
    field::Path,
    names,
};

const LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What became of a label, if something did.
pub(super) fn deprecated(label: &str) -> Option<&'static str> {
    LABELS.iter().find(|(known, _)| *known == label).map(|(_, words)| *words)
}

/// `matchExpressions` of a node selector's term or of a label selector; `values` are looked at if asked for.
pub(super) fn expressions(found: &mut Vec<String>, path: &Path<'_>, term: &Value, values: bool) {
    let path = path.field("matchExpressions");
    for (index, wanted) in list(term, "matchExpressions").iter().enumerate() {
        let (at, key) = (path.index(index), text(wanted, "key"));
        if let Some(words) = deprecated(key) {
            found.push(format!("{}: {key} is {words}", at.field("key")));
        }
        if !values {
            continue;
        }
        for (index, value) in list(wanted, "values").iter().filter_map(Value::as_str).enumerate() {
            for fault in names::label_value(value) {
                found.push(format!("{}: {value} is invalid, {fault}", at.field("values").index(index)));
            }
        }
    }
}

/// A label selector that means nodes.
pub(super) fn selector(found: &mut Vec<String>, path: &Path<'_>, selector: &Value) {
    expressions(found, path, selector, false);
    for (label, _) in entries(selector, "matchLabels") {
        if let Some(words) = deprecated(label) {
            found.push(format!("{}: {words}", path.field("matchLabels").field(label)));
        }
    }
}

/// `allowedTopologies` of a StorageClass.
pub(super) fn topologies(found: &mut Vec<String>, class: &Value) {
    for (i, term) in list(class, "allowedTopologies").iter().enumerate() {
        for (j, wanted) in list(term, "matchLabelExpressions").iter().enumerate() {
            if let Some(words) = deprecated(text(wanted, "key")) {
                let at = Path::root("allowedTopologies");
                let at = at.index(i).field("matchLabelExpressions").index(j).field("key").to_string();
                found.push(format!("{at}: {words}"));
            }
        }
    }
}

/// `scheduling.nodeSelector` of a RuntimeClass.
pub(super) fn runtime_class(found: &mut Vec<String>, class: &Value) {
    for (label, _) in entries(&class["scheduling"], "nodeSelector") {
        if let Some(words) = deprecated(label) {
            found.push(format!("scheduling.nodeSelector: {words}"));
        }
    }
}
