//! Where a pod may run: affinity, tolerations, topology spread, gates.

use serde_json::Value;

use super::super::{
    access::{entries, get, int, list, text},
    check::{label_selector, optional_one_of, values_suit_operator},
    field::{Faults, Path},
    names,
};

/// `affinity`.
pub fn affinity(faults: &mut Faults, path: &Path<'_>, affinity: &Value) {
    if let Some(node) = get(affinity, "nodeAffinity") {
        let path = path.field("nodeAffinity");
        if let Some(selector) = get(node, REQUIRED) {
            node_selector(faults, &path.field(REQUIRED), selector);
        }
        let at = path.field(PREFERRED);
        for (i, term) in list(node, PREFERRED).iter().enumerate() {
            weight(faults, &at.index(i), term);
            if let Some(preference) = get(term, "preference") {
                node_selector_term(faults, &at.index(i).field("preference"), preference, false);
            }
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = get(affinity, kind) else { continue };
        let path = path.field(kind);
        for (i, term) in list(pods, REQUIRED).iter().enumerate() {
            pod_term(faults, &path.field(REQUIRED).index(i), term);
        }
        for (i, term) in list(pods, PREFERRED).iter().enumerate() {
            let at = path.field(PREFERRED);
            let at = at.index(i);
            weight(faults, &at, term);
            if let Some(term) = get(term, "podAffinityTerm") {
                pod_term(faults, &at.field("podAffinityTerm"), term);
            }
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn weight(faults: &mut Faults, path: &Path<'_>, term: &Value) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        faults.invalid(&path.field("weight"), weight, "must be in the range 1-100");
    }
}

/// A `NodeSelector`, of a pod or a PersistentVolume.
pub fn node_selector(faults: &mut Faults, path: &Path<'_>, selector: &Value) {
    let path = path.field("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        faults.required(&path, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(faults, &path.index(i), term, true);
    }
}

fn node_selector_term(faults: &mut Faults, path: &Path<'_>, term: &Value, check_values: bool) {
    for (i, requirement) in list(term, "matchExpressions").iter().enumerate() {
        let at = path.field("matchExpressions");
        let at = at.index(i);
        let values = list(requirement, "values");
        if !values_suit_operator(faults, &at, requirement) {
            match text(requirement, "operator") {
                "Gt" | "Lt" => {
                    if values.len() != 1 {
                        faults.required(
                            &at.field("values"),
                            "must be specified single value when `operator` is 'Lt' or 'Gt'",
                        );
                    }
                }
                other => faults.invalid(&at.field("operator"), other, "not a valid selector operator"),
            }
        }
        let key = text(requirement, "key");
        faults.invalid_each(&at.field("key"), key, names::qualified_name(key));
        if check_values {
            for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
                faults.invalid_each(&at.field("values").index(j), value, names::label_value(value));
            }
        }
    }
    for (i, requirement) in list(term, "matchFields").iter().enumerate() {
        let at = path.field("matchFields");
        let at = at.index(i);
        let values = list(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    faults.required(
                        &at.field("values"),
                        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                    );
                }
            }
            other => faults.invalid(&at.field("operator"), other, "not a valid selector operator"),
        }
        match text(requirement, "key") {
            "metadata.name" => {
                for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
                    faults.invalid_each(&at.field("values").index(j), value, names::dns1123_subdomain(value));
                }
            }
            other => faults.invalid(&at.field("key"), other, "not a valid field selector key"),
        }
    }
}

fn pod_term(faults: &mut Faults, path: &Path<'_>, term: &Value) {
    for selector in ["labelSelector", "namespaceSelector"] {
        if let Some(value) = get(term, selector) {
            label_selector(faults, &path.field(selector), value);
        }
    }
    for namespace in list(term, "namespaces").iter().filter_map(Value::as_str) {
        faults.invalid_each(&path.field("namespace"), namespace, names::dns1123_label(namespace));
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = list(term, field);
        if !keys.is_empty() && get(term, "labelSelector").is_none() {
            faults.forbidden(&path.field(field), "must not be specified when labelSelector is not set");
            continue;
        }
        for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
            faults.invalid_each(&path.field(field).index(i), key, names::qualified_name(key));
        }
    }
    for (i, key) in list(term, "matchLabelKeys").iter().enumerate() {
        if list(term, "mismatchLabelKeys").contains(key) {
            faults.invalid(
                &path.field("matchLabelKeys").index(i),
                key,
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        faults.required(&path.field("topologyKey"), "can not be empty");
    }
    faults.invalid_each(&path.field("topologyKey"), key, names::qualified_name(key));
}

/// `tolerations`.
pub fn tolerations(faults: &mut Faults, path: &Path<'_>, tolerations: &[Value]) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = path.index(i);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        if key.is_empty() {
            if operator != "Exists" {
                faults.invalid(
                    &at.field("operator"),
                    operator,
                    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                );
            }
        } else {
            faults.invalid_each(&at.field("key"), key, names::qualified_name(key));
        }
        if get(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            faults.invalid(&at.field("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator {
            "Equal" | "" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    faults.invalid(&at.field("operator"), value, messages.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    faults.invalid(&at.field("operator"), value, "value must be empty when `operator` is 'Exists'");
                }
            }
            other => faults.not_supported(&at.field("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(faults, &at.field("effect"), effect);
        }
    }
}

/// The effect of a taint or toleration.
pub fn taint_effect(faults: &mut Faults, path: &Path<'_>, effect: &str) {
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        faults.not_supported(path, effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
}

/// `topologySpreadConstraints`.
pub fn topology_spread(faults: &mut Faults, path: &Path<'_>, constraints: &[Value]) {
    for (i, constraint) in constraints.iter().enumerate() {
        let at = path.index(i);
        let skew = int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            faults.invalid(&at.field("maxSkew"), skew, "must be greater than zero");
        }
        let key = text(constraint, "topologyKey");
        if key.is_empty() {
            faults.required(&at.field("topologyKey"), "can not be empty");
        }
        let action = text(constraint, "whenUnsatisfiable");
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            faults.not_supported(&at.field("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let repeats = constraints[i + 1..]
            .iter()
            .any(|other| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action);
        if repeats {
            faults.duplicate(&at.field("{topologyKey, whenUnsatisfiable}"), &format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            if domains <= 0 {
                faults.invalid(&at.field("minDomains"), domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                faults.invalid(
                    &at.field("minDomains"),
                    domains,
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"),
                );
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            optional_one_of(faults, &at, constraint, field, &["Honor", "Ignore"]);
        }
        spread_label_keys(faults, &at.field("matchLabelKeys"), constraint);
        if let Some(selector) = get(constraint, "labelSelector") {
            label_selector(faults, &at.field("labelSelector"), selector);
        }
    }
}

fn spread_label_keys(faults: &mut Faults, path: &Path<'_>, constraint: &Value) {
    let keys = list(constraint, "matchLabelKeys");
    if keys.is_empty() {
        return;
    }
    let selector = get(constraint, "labelSelector");
    if selector.is_none() {
        faults.forbidden(path, "must not be specified when labelSelector is not set");
    }
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        faults.invalid_each(&path.index(i), key, names::qualified_name(key));
        // One requirement of a single value is the pod's own label, which was added when it was made.
        let selected = selector.is_some_and(|selector| {
            let about = |requirement: &&Value| text(requirement, "key") == key;
            let all: Vec<&Value> = list(selector, "matchExpressions").iter().filter(about).collect();
            let added = |one: &&Value| text(one, "operator") == "In" && list(one, "values").len() == 1;
            entries(selector, "matchLabels").any(|(name, _)| name == key) || all.len() > 1 || !all.iter().all(added)
        });
        if selected {
            faults.invalid(&path.index(i), key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

/// `schedulingGates`.
pub fn scheduling_gates(faults: &mut Faults, path: &Path<'_>, gates: &[Value]) {
    for (i, gate) in gates.iter().enumerate() {
        let name = text(gate, "name");
        faults.invalid_each(&path.index(i), name, names::qualified_name(name));
        if gates[..i].iter().any(|before| text(before, "name") == name) {
            faults.duplicate(&path.index(i), name);
        }
    }
}
