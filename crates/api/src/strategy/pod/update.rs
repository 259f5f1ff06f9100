//! What may change in a pod, and what its keeper may report.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{
    super::{
        access::{at, copy, entries, get, int, list, map, same, same_field, set, text},
        check,
        field::{Faults, Path},
        names,
    },
    container::image_whitespace,
    placement,
};

/// All faults of a pod's change, beyond those of the new pod itself.
pub fn pod_update(faults: &mut Faults, new: &Value, old: &Value) {
    let none = Value::Null;
    let (new_metadata, old_metadata) = (get(new, "metadata").unwrap_or(&none), get(old, "metadata").unwrap_or(&none));
    annotations(faults, new_metadata, old_metadata);
    let (new, old) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    let path = Path::root("spec");
    for field in ["containers", "initContainers"] {
        if list(new, field).len() != list(old, field).len() {
            faults.forbidden(&path.field(field), "pod updates may not add or remove containers");
            return;
        }
        for (i, container) in list(new, field).iter().enumerate() {
            let at = path.field(field);
            let at = at.index(i);
            if text(container, "image").is_empty() {
                faults.required(&at.field("image"), "");
            }
            image_whitespace(faults, &at, container);
        }
    }
    if !deadline(faults, &path.field("activeDeadlineSeconds"), new, old) {
        return;
    }
    only_added_tolerations(faults, &path.field("tolerations"), list(new, "tolerations"), list(old, "tolerations"));
    let (new_gates, old_gates) = (list(new, "schedulingGates"), list(old, "schedulingGates"));
    for (i, gate) in new_gates.iter().enumerate() {
        let name = text(gate, "name");
        if !old_gates.iter().any(|other| text(other, "name") == name) {
            faults.forbidden(
                &path.field("schedulingGates").index(i).field("name"),
                &format!("only deletion is allowed, but found new scheduling gate '{name}'"),
            );
        }
    }
    if same(new, old) {
        return;
    }
    let mut munged = new.clone();
    for field in ["containers", "initContainers"] {
        let before = list(old, field);
        for (i, container) in super::super::access::items_mut(&mut munged, field).enumerate() {
            copy(container, &before[i], "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        copy(&mut munged, old, field);
    }
    if int(old, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && int(&munged, "terminationGracePeriodSeconds") == Some(1)
    {
        copy(&mut munged, old, "terminationGracePeriodSeconds");
    }
    if !old_gates.is_empty() {
        gated_placement(faults, &path, &mut munged, old);
    }
    if !same(&munged, old) {
        faults.forbidden(&path, &format!("{IMMUTABLE_REST}\n{}", difference("core.PodSpec", old, &munged)));
    }
}

const IMMUTABLE_REST: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn annotations(faults: &mut Faults, new: &Value, old: &Value) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let value = |metadata: &Value| map(metadata, "annotations").and_then(|map| map.get(MIRROR)).cloned();
    let path = Path::root("metadata.annotations");
    match (value(old), value(new)) {
        (Some(old), new) if new.as_ref() != Some(&old) => {
            faults.forbidden(&path.key(MIRROR), "may not remove or update mirror pod annotation");
        }
        (None, Some(_)) => faults.forbidden(&path.key(MIRROR), "may not add mirror pod annotation"),
        _ => {}
    }
}

fn deadline(faults: &mut Faults, path: &Path<'_>, new: &Value, old: &Value) -> bool {
    match (int(new, "activeDeadlineSeconds"), int(old, "activeDeadlineSeconds")) {
        (Some(new), old) => {
            if !(0..=i64::from(i32::MAX)).contains(&new) {
                faults.invalid(path, new, format!("must be between 0 and {}, inclusive", i32::MAX));
                return false;
            }
            if old.is_some_and(|old| old < new) {
                faults.invalid(path, new, "must be less than or equal to previous value");
                return false;
            }
        }
        (None, Some(_)) => {
            faults.invalid(path, &Value::Null, "must not update from a positive integer to nil value");
        }
        (None, None) => {}
    }
    true
}

fn only_added_tolerations(faults: &mut Faults, path: &Path<'_>, new: &[Value], old: &[Value]) {
    let alike =
        |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|field| same_field(a, b, field));
    if !old.iter().all(|old| new.iter().any(|new| alike(new, old))) {
        faults.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    placement::tolerations(faults, path, new);
}

/// A pod that is held back may be placed more narrowly.
fn gated_placement(faults: &mut Faults, path: &Path<'_>, munged: &mut Value, old: &Value) {
    if !same_field(munged, old, "nodeSelector") {
        let kept = entries(old, "nodeSelector")
            .all(|(key, value)| map(munged, "nodeSelector").and_then(|map| map.get(key)) == Some(value));
        if !kept {
            faults.invalid(
                &path.field("nodeSelector"),
                get(munged, "nodeSelector").unwrap_or(&Value::Null),
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            );
        }
        copy(munged, old, "nodeSelector");
    }
    let terms_path =
        &["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    let terms = |spec: &Value| at(spec, terms_path).and_then(Value::as_array).cloned().unwrap_or_default();
    let (new_terms, old_terms) = (terms(munged), terms(old));
    let affinity = path.field("affinity");
    let node = affinity.field("nodeAffinity");
    let required = node.field("requiredDuringSchedulingIgnoredDuringExecution");
    let terms_at = required.field("nodeSelectorTerms");
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        faults.invalid(
            &terms_at,
            &Value::Array(new_terms),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
    } else {
        for (i, (old, new)) in old_terms.iter().zip(&new_terms).enumerate() {
            let only_added = ["matchExpressions", "matchFields"].iter().all(|field| {
                let (old, new) = (list(old, field), list(new, field));
                new.len() >= old.len() && new[..old.len()] == *old
            });
            if !only_added {
                faults.invalid(&terms_at.index(i), new, "only additions are allowed (no mutations or deletions)");
            }
        }
    }
    let mut affinity = get(munged, "affinity").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    match at(old, &["affinity", "nodeAffinity"]) {
        Some(node) => set(&mut affinity, "nodeAffinity", node.clone()),
        None => {
            super::super::access::remove(&mut affinity, "nodeAffinity");
        }
    }
    set(munged, "affinity", affinity);
}

/// The difference of two objects as upstream shows it: changed fields by their Go names, the rest elided.
pub fn difference(name: &str, old: &Value, new: &Value) -> String {
    let mut out = format!("  {name}{{\n");
    let none = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
    let mut unchanged = 0;
    let elide = |out: &mut String, count: &mut usize| {
        match *count {
            0 => {}
            1 => out.push_str("  \t... // 1 identical field\n"),
            n => {
                let _ = writeln!(out, "  \t... // {n} identical fields");
            }
        }
        *count = 0;
    };
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        let empty = Value::Null;
        if same(
            &Value::Object(Map::from_iter([("v".to_owned(), before.unwrap_or(&empty).clone())])),
            &Value::Object(Map::from_iter([("v".to_owned(), after.unwrap_or(&empty).clone())])),
        ) {
            unchanged += 1;
            continue;
        }
        elide(&mut out, &mut unchanged);
        let field = go_name(key);
        let shown = |value: Option<&Value>| match value {
            None | Some(Value::Null) => "nil".to_owned(),
            Some(value) => value.to_string(),
        };
        let _ = writeln!(out, "- \t{field}: {},", shown(before));
        let _ = writeln!(out, "+ \t{field}: {},", shown(after));
    }
    elide(&mut out, &mut unchanged);
    out.push_str("  }\n");
    out
}

fn go_name(key: &str) -> String {
    let mut chars = key.chars();
    let mut name: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    name.push_str(chars.as_str());
    if name.starts_with("Dns") { name.replacen("Dns", "DNS", 1) } else { name }
}

/// All faults of a change of a pod's status.
pub fn status_update(faults: &mut Faults, new: &Value, old: &Value) {
    let none = Value::Null;
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    let (new_status, old_status) = (get(new, "status").unwrap_or(&none), get(old, "status").unwrap_or(&none));
    annotations(faults, get(new, "metadata").unwrap_or(&none), get(old, "metadata").unwrap_or(&none));
    let path = Path::root("metadata.conditions");
    for (i, condition) in list(new_status, "conditions").iter().enumerate() {
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            faults.invalid_each(&path.index(i).field("Type"), kind, names::qualified_name(kind));
        }
    }
    let path = Path::root("status");
    if text(new_spec, "nodeName") != text(old_spec, "nodeName") {
        faults.forbidden(&path.field("nodeName"), "may not be changed directly");
    }
    let nominated = text(new_status, "nominatedNodeName");
    if !nominated.is_empty() && nominated != text(old_status, "nominatedNodeName") {
        faults.invalid_each(&path.field("nominatedNodeName"), nominated, names::dns1123_subdomain(nominated));
    }
    if text(new_status, "qosClass") != text(old_status, "qosClass") {
        faults.invalid(&path.field("qosClass"), text(new_status, "qosClass"), check::IMMUTABLE);
    }
    let restart = text(old_spec, "restartPolicy");
    for (field, specs, restart) in [
        ("containerStatuses", "containers", restart),
        ("initContainerStatuses", "initContainers", restart),
        ("ephemeralContainerStatuses", "ephemeralContainers", "Never"),
    ] {
        container_states(
            faults,
            &path.field(field),
            list(new_status, field),
            list(old_status, field),
            list(old_spec, specs),
            restart,
        );
    }
    for (i, address) in list(new_status, "podIPs").iter().enumerate() {
        check::ip(faults, &path.field("podIPs").index(i), text(address, "ip"));
    }
    let hosts = list(new_status, "hostIPs");
    if let Some(first) = hosts.first() {
        if text(new_status, "hostIP") != text(first, "ip") {
            faults.invalid(&path.field("hostIPs").index(0).field("ip"), text(first, "ip"), "must be equal to `hostIP`");
        }
        for (i, address) in hosts.iter().enumerate() {
            check::ip(faults, &path.field("hostIPs").index(i), text(address, "ip"));
        }
    }
}

/// What ended for good stays ended.
fn container_states(
    faults: &mut Faults,
    path: &Path<'_>,
    new: &[Value],
    old: &[Value],
    containers: &[Value],
    restart: &str,
) {
    if restart == "Always" {
        return;
    }
    for (i, before) in old.iter().enumerate() {
        let Some(ended) = at(before, &["state", "terminated"]) else { continue };
        if restart == "OnFailure" && int(ended, "exitCode").unwrap_or(0) != 0 {
            continue;
        }
        let name = text(before, "name");
        let own_rule = containers
            .iter()
            .find(|container| text(container, "name") == name)
            .is_some_and(|container| get(container, "restartPolicy").is_some());
        if own_rule {
            continue;
        }
        let revived =
            new.iter().any(|after| text(after, "name") == name && at(after, &["state", "terminated"]).is_none());
        if revived {
            faults.forbidden(&path.index(i).field("state"), "may not be transitioned to non-terminated state");
        }
    }
}
