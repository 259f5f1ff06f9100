//! `v1 Namespace`, `Node`, `ServiceAccount`, `Event`, `ResourceQuota` and `LimitRange`, and Leases.

use serde_json::{Value, json};

use super::{
    access::{at, copy, ensure, ensure_object, fill, get, items_mut, list, set, text},
    prepare::{self, PLAIN, WITH_STATUS},
};
use crate::resource::{NameRule, Strategy};

/// The strategy of Namespaces.
pub const NAMESPACE: Strategy = Strategy {
    default: default_namespace,
    prepare_create: create_namespace,
    prepare_update: update_namespace,
    prepare_status_update: prepare::status_update,
    name: NameRule::Label,
    ..PLAIN
};

/// The strategy of Nodes.
pub const NODE: Strategy = Strategy {
    default: default_node,
    prepare_create: create_node,
    prepare_update: prepare::keep_status,
    prepare_status_update: prepare::status_update,
    ..PLAIN
};

/// The strategy of ServiceAccounts.
pub const SERVICE_ACCOUNT: Strategy = Strategy { ..PLAIN };

/// The strategy of Events, of both groups.
pub const EVENT: Strategy = Strategy { create_on_update: true, ..PLAIN };

/// The strategy of ResourceQuotas.
pub const RESOURCE_QUOTA: Strategy = Strategy { ..WITH_STATUS };

/// The strategy of LimitRanges.
pub const LIMIT_RANGE: Strategy = Strategy { default: default_limit_range, create_on_update: true, ..PLAIN };

/// The strategy of Leases.
pub const LEASE: Strategy = Strategy { create_on_update: true, unconditional_update: false, ..PLAIN };

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
    if let Some(finalizers) = finalizers.as_array_mut() {
        if !finalizers.iter().any(|each| each == "kubernetes") {
            finalizers.push(json!("kubernetes"));
        }
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
    if get(status, "allocatable").is_none() {
        if let Some(capacity) = get(status, "capacity").cloned() {
            set(status, "allocatable", capacity);
        }
    }
}

/// A node registers itself with its status, so that stays.
fn create_node(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    let range = text(spec, "podCIDR").to_owned();
    if !range.is_empty() && list(spec, "podCIDRs").is_empty() {
        set(spec, "podCIDRs", json!([range]));
    }
}

fn default_limit_range(object: &mut Value) {
    let Some(spec) = super::access::object_mut(object, "spec") else { return };
    for limit in items_mut(spec, "limits") {
        if text(limit, "type") != "Container" {
            continue;
        }
        let of = |limit: &Value, field: &str| super::access::map(limit, field).cloned().unwrap_or_default();
        let (most, least) = (of(limit, "max"), of(limit, "min"));
        let default = ensure_object(limit, "default");
        for (name, value) in most {
            fill(default, &name, value);
        }
        let limits = of(limit, "default");
        let request = ensure_object(limit, "defaultRequest");
        for (name, value) in limits.into_iter().chain(least) {
            fill(request, &name, value);
        }
        for field in ["default", "defaultRequest"] {
            if super::access::is_empty(limit, field) {
                super::access::remove(limit, field);
            }
        }
    }
}
