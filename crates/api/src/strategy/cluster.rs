//! `v1 Namespace`, `Node`, `ServiceAccount`, and Leases.

use serde_json::{Value, json};

use super::{
    access::{at, copy, ensure, ensure_object, entries, fill, get, int, list, list_at, set, text},
    check,
    field::{Faults, Path},
    names,
    pod::placement::taint_effect,
    prepare::{self, PLAIN},
    resources,
};
use crate::{
    resource::{NameRule, Strategy},
    status::Cause,
};

/// The strategy of Namespaces.
pub const NAMESPACE: Strategy = Strategy {
    default: default_namespace,
    prepare_create: create_namespace,
    prepare_update: update_namespace,
    prepare_status_update: prepare::status_update,
    validate: validate_namespace,
    validate_status_update: validate_namespace_status,
    name: NameRule::Label,
    ..PLAIN
};

/// The strategy of Nodes.
pub const NODE: Strategy = Strategy {
    default: default_node,
    // A node registers itself with its status, so that stays.
    prepare_update: prepare::keep_status,
    prepare_status_update: prepare::status_update,
    validate: validate_node,
    validate_update: validate_node_update,
    validate_status_update: validate_node_update,
    ..PLAIN
};

/// The strategy of ServiceAccounts.
pub const SERVICE_ACCOUNT: Strategy = Strategy { ..PLAIN };

/// The strategy of the core group's Events: any name that fits into a path.
pub const CORE_EVENT: Strategy = Strategy {
    validate: super::event::validate,
    validate_update: super::event::validate_update,
    name: NameRule::PathSegment,
    create_on_update: true,
    ..PLAIN
};

/// The strategy of Events of `events.k8s.io`.
pub const EVENT: Strategy = Strategy {
    validate: super::event::validate,
    validate_update: super::event::validate_update,
    create_on_update: true,
    ..PLAIN
};

/// The strategy of Leases.
pub const LEASE: Strategy = Strategy {
    validate: validate_lease,
    validate_update: |new, _| validate_lease(new),
    create_on_update: true,
    unconditional_update: false,
    ..PLAIN
};

fn default_namespace(object: &mut Value) {
    let name = at(object, &["metadata", "name"]).and_then(Value::as_str).unwrap_or("").to_owned();
    if !name.is_empty() {
        let labels = ensure_object(ensure_object(object, "metadata"), "labels");
        set(labels, "kubernetes.io/metadata.name", name);
    }
    fill(ensure_object(object, "status"), "phase", "Active");
}

fn create_namespace(object: &mut Value) {
    prepare::empty_status(object, json!({"phase": "Active"}));
    let finalizers = ensure(ensure_object(object, "spec"), "finalizers", || json!([]));
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|each| each == "kubernetes")
    {
        finalizers.push(json!("kubernetes"));
    }
}

/// The finalizers of the spec change through `/finalize` only.
fn update_namespace(new: &mut Value, old: &Value) {
    prepare::keep_status(new, old);
    let none = json!({});
    copy(ensure_object(new, "spec"), get(old, "spec").unwrap_or(&none), "finalizers");
}

fn default_node(object: &mut Value) {
    let status = ensure_object(object, "status");
    if get(status, "allocatable").is_none()
        && let Some(capacity) = get(status, "capacity").cloned()
    {
        set(status, "allocatable", capacity);
    }
    one_range(ensure_object(object, "spec"));
}

/// The first of `podCIDRs` is `podCIDR`; where they differ, the latter is meant.
fn one_range(spec: &mut Value) {
    let range = text(spec, "podCIDR").to_owned();
    match list(spec, "podCIDRs").first() {
        Some(first) if range.is_empty() => {
            let first = first.clone();
            set(spec, "podCIDR", first);
        }
        Some(first) if *first == range.as_str() => {}
        _ if range.is_empty() => {}
        _ => set(spec, "podCIDRs", json!([range])),
    }
}

fn validate_namespace(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("spec.finalizers");
    for finalizer in list_at(object, &["spec", "finalizers"]).iter().filter_map(Value::as_str) {
        faults.invalid_each(&path, finalizer, names::qualified_name(finalizer));
        if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
            faults.invalid(&path, finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
    faults.into_causes()
}

fn validate_namespace_status(new: &Value, _: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let phase = get(new, "status").map_or("", |status| text(status, "phase"));
    let deleted = at(new, &["metadata", "deletionTimestamp"]).is_some();
    let path = Path::root("status.Phase");
    if !deleted && phase != "Active" {
        faults.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
    } else if deleted && phase != "Terminating" {
        faults.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
    }
    faults.into_causes()
}

fn validate_node(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    taints(&mut faults, list(spec, "taints"));
    node_resources(&mut faults, object);
    let path = Path::root("spec.podCIDRs");
    let ranges = list(spec, "podCIDRs");
    for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        check::cidr(&mut faults, &path.index(i), range);
    }
    if ranges.len() > 1 {
        let v6 = |range: &Value| range.as_str().is_some_and(|range| range.contains(':'));
        if ranges.len() > 2 || v6(&ranges[0]) == v6(&ranges[1]) {
            faults.invalid(
                &path,
                get(spec, "podCIDRs").unwrap_or(&none),
                "may specify no more than one CIDR for each IP family",
            );
        }
        for (i, range) in ranges.iter().enumerate() {
            if ranges[..i].contains(range) {
                faults.duplicate(&path.index(i), range);
            }
        }
    }
    faults.into_causes()
}

fn validate_node_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    node_resources(&mut faults, new);
    let addresses = list_at(new, &["status", "addresses"]);
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            faults.duplicate(&Path::root("status.addresses").index(i), address);
        }
    }
    let before = list(old_spec, "podCIDRs");
    if !before.is_empty() && before != list(new_spec, "podCIDRs") {
        faults.forbidden(&Path::root("spec.podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
    }
    let provider = text(old_spec, "providerID");
    if !provider.is_empty() && provider != text(new_spec, "providerID") {
        faults.forbidden(
            &Path::root("spec.providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
    taints(&mut faults, list(new_spec, "taints"));
    faults.into_causes()
}

fn node_resources(faults: &mut Faults, node: &Value) {
    let Some(status) = get(node, "status") else { return };
    for field in ["capacity", "allocatable"] {
        for (name, quantity) in entries(status, field) {
            resources::quantity_value(faults, &Path::root("status").field(field).field(name), name, quantity);
        }
    }
}

/// Upstream places these under `metadata.taints`.
fn taints(faults: &mut Faults, taints: &[Value]) {
    let path = Path::root("metadata.taints");
    for (i, taint) in taints.iter().enumerate() {
        let at = path.index(i);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        faults.invalid_each(&at.field("key"), key, names::qualified_name(key));
        let messages = names::label_value(value);
        if !messages.is_empty() {
            faults.invalid(&at.field("value"), value, messages.join(";"));
        }
        if effect.is_empty() {
            faults.required(&at.field("effect"), "");
        } else {
            taint_effect(faults, &at.field("effect"), effect);
        }
        if taints[..i].iter().any(|before| text(before, "key") == key && text(before, "effect") == effect) {
            let shown = json!({"Effect": effect, "Key": key, "TimeAdded": get(taint, "timeAdded"), "Value": value});
            faults.duplicate_because(&at, &shown, "taints must be unique by key and effect pair");
        }
    }
}

fn validate_lease(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let Some(spec) = get(object, "spec") else { return Vec::new() };
    let path = Path::root("spec");
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        faults.invalid(&path.field("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    check::nonnegative(&mut faults, &path, spec, "leaseTransitions");
    let strategy = text(spec, "strategy");
    if !strategy.is_empty() {
        let at = path.field("strategy");
        if strategy.contains('/') {
            faults.invalid_each(&at.field("strategy"), strategy, names::qualified_name(strategy));
        } else if strategy != "OldestEmulationVersion" {
            faults.not_supported(&at.field("strategy"), strategy, &["OldestEmulationVersion"]);
        }
    } else if !text(spec, "preferredHolder").is_empty() {
        faults.forbidden(&path.field("preferredHolder"), "may only be specified if `strategy` is defined");
    }
    faults.into_causes()
}
