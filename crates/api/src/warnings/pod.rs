//! Pods and templates of pods (`pkg/api/pod/warnings.go`).

use std::{collections::HashSet, fmt::Display};

use serde_json::Value;

use super::{address, label, port::Ports, volume};
use crate::strategy::{
    access::{list, text},
    field::Path,
};

/// Annotations that do nothing any more.
const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const APP_ARMOR_OF_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const BYTES: &[&str] = &["memory", "ephemeral-storage"];

/// `pod` has metadata and spec; `path` is its own.
pub(super) fn warn(found: &mut Vec<String>, path: &Path<'_>, pod: &Value, is_template: bool) {
    let (spec, annotations) = (&pod["spec"], &pod["metadata"]["annotations"]);
    let whole = path;
    let path = &whole.field("spec");
    node_labels(found, path, spec);
    let notes = whole.field("metadata");
    let notes = notes.field("annotations");
    for (key, words) in ANNOTATIONS.iter().filter(|(key, _)| !annotations[*key].is_null()) {
        found.push(format!("{}: {words}", notes.key(key)));
    }
    volume::of_pod(found, &path.field("volumes"), list(spec, "volumes"));
    twins(found, &path.field("hostAliases"), list(spec, "hostAliases"), "ip");
    twins(found, &path.field("imagePullSecrets"), list(spec, "imagePullSecrets"), "name");
    for (index, _) in list(spec, "imagePullSecrets").iter().enumerate().filter(|(_, s)| text(s, "name").is_empty()) {
        let at = path.field("imagePullSecrets");
        found.push(format!("{}: invalid empty name \"\"", at.index(index).field("name")));
    }
    volume::fractions(found, &path.field("overhead"), &spec["overhead"], BYTES);
    let security = &spec["securityContext"];
    if security["seccompProfile"].is_null() && !annotations[SECCOMP_OF_POD].is_null() {
        found.push(format!("{}: {SECCOMP}", notes.key(SECCOMP_OF_POD)));
    }
    let mut ports = Ports::default();
    let mut of_ports = Vec::new();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let path = path.field(kind);
        for (index, container) in list(spec, kind).iter().enumerate() {
            let path = path.index(index);
            let own = &container["securityContext"];
            let mut annotated = |prefix: &str, words: &str| {
                let key = format!("{prefix}{}", text(container, "name"));
                if !annotations[&key].is_null() {
                    found.push(format!("{}: {words}", notes.key(&key)));
                }
            };
            if annotations.is_object() && own["seccompProfile"].is_null() {
                annotated(SECCOMP_OF_CONTAINER, SECCOMP);
            }
            let has_profile = !security["appArmorProfile"].is_null() || !own["appArmorProfile"].is_null();
            if annotations.is_object() && is_template && !has_profile {
                annotated(APP_ARMOR_OF_CONTAINER, APP_ARMOR);
            }
            let resources = path.field("resources");
            for part in ["limits", "requests"] {
                volume::fractions(found, &resources.field(part), &container["resources"][part], BYTES);
            }
            environment(found, &path, list(container, "env"));
            ports.add(&mut of_ports, &path, container);
        }
    }
    found.append(&mut of_ports);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|grace| grace < 0) {
        let path = path.field("terminationGracePeriodSeconds");
        found.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    affinity(found, &path.field("affinity"), &spec["affinity"]);
    let names = path.field("dnsConfig");
    for (index, server) in list(&spec["dnsConfig"], "nameservers").iter().filter_map(Value::as_str).enumerate() {
        address::ip(found, &names.field("nameservers").index(index), server);
    }
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        address::ip(found, &path.field("hostAliases").index(index).field("ip"), text(alias, "ip"));
    }
}

fn node_labels(found: &mut Vec<String>, path: &Path<'_>, spec: &Value) {
    for key in spec["nodeSelector"].as_object().into_iter().flat_map(|labels| labels.keys()) {
        if let Some(words) = label::deprecated(key) {
            found.push(format!("{}: {words}", path.field("nodeSelector").key(key)));
        }
    }
    let (affinity, node) = (path.field("affinity"), &spec["affinity"]["nodeAffinity"]);
    let at = affinity.field("nodeAffinity");
    let required = at.field("requiredDuringSchedulingIgnoredDuringExecution");
    let terms = list(&node["requiredDuringSchedulingIgnoredDuringExecution"], "nodeSelectorTerms");
    for (index, one) in terms.iter().enumerate() {
        label::expressions(found, &required.field("nodeSelectorTerms").index(index), one, false);
    }
    let preferred = at.field("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, one) in list(node, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        label::expressions(found, &preferred.index(index).field("preference"), &one["preference"], false);
    }
    let spread = path.field("topologySpreadConstraints");
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let key = text(constraint, "topologyKey");
        if let Some(words) = label::deprecated(key) {
            found.push(format!("{}: {key} is {words}", spread.index(index).field("topologyKey")));
        }
        selector(found, &spread.index(index), constraint);
    }
}

fn selector(found: &mut Vec<String>, path: &Path<'_>, owner: &Value) {
    if owner["labelSelector"].is_null() {
        found.push(format!("{}: {NO_SELECTOR}", path.field("labelSelector")));
    }
}

fn affinity(found: &mut Vec<String>, path: &Path<'_>, affinity: &Value) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = path.field(kind);
        let required = at.field("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in list(&affinity[kind], "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
        {
            selector(found, &required.index(index), term);
        }
        let preferred = at.field("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in list(&affinity[kind], "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
        {
            selector(found, &preferred.index(index).field("podAffinityTerm"), &term["podAffinityTerm"]);
        }
    }
}

/// Items of a list that share what tells them apart.
fn twins(found: &mut Vec<String>, path: &Path<'_>, items: &[Value], field: &str) {
    for (index, item) in items.iter().enumerate() {
        let own = text(item, field);
        if items[..index].iter().any(|other| text(other, field) == own) {
            found.push(format!("{}: duplicate {field} {own:?}", path.index(index).field(field)));
        }
    }
}

/// Variables that hide an earlier one of their name without building on it.
fn environment(found: &mut Vec<String>, container: &dyn Display, variables: &[Value]) {
    let mut seen = HashSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let name = text(variable, "name");
        if seen.insert(name) {
            continue;
        }
        let (value, earlier) = (text(variable, "value"), format!("$({name})"));
        if !variable["valueFrom"].is_null() || value == earlier || !value.contains(&earlier) {
            found.push(format!(
                "{container}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}
