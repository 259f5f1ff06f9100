//! `v1 Endpoints` and `discovery.k8s.io/v1 EndpointSlice`.

use serde_json::Value;

use super::{
    access::{fill, fill_text, get, items_mut, same_field},
    prepare::{self, PLAIN},
};
use crate::resource::Strategy;

/// The strategy of Endpoints.
pub const ENDPOINTS: Strategy = Strategy { default: default_endpoints, create_on_update: true, ..PLAIN };

/// The strategy of EndpointSlices.
pub const ENDPOINT_SLICE: Strategy = Strategy {
    default: default_slice,
    prepare_create: prepare::first_generation_only,
    prepare_update: update_slice,
    ..PLAIN
};

fn default_endpoints(object: &mut Value) {
    for subset in items_mut(object, "subsets") {
        for port in items_mut(subset, "ports") {
            fill_text(port, "protocol", "TCP");
        }
    }
}

fn default_slice(object: &mut Value) {
    for port in items_mut(object, "ports") {
        fill(port, "name", "");
        fill(port, "protocol", "TCP");
    }
}

fn update_slice(new: &mut Value, old: &Value) {
    let none = Value::Null;
    let labels_changed =
        !same_field(get(new, "metadata").unwrap_or(&none), get(old, "metadata").unwrap_or(&none), "labels");
    prepare::count_generation(new, old, &["endpoints", "ports", "addressType"]);
    if labels_changed {
        let before = super::access::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        prepare::set_generation(new, before + 1);
    }
}
