//! What most kinds do before a create or an update: clear or keep the status, count the generation.

use serde_json::{Value, json};

use super::access::{copy, get, int, remove, same_field, set};
use crate::{
    resource::{NameRule, Strategy},
    status::Cause,
};

/// The strategy of a kind that needs nothing special: no status of its own, no generation.
pub const PLAIN: Strategy = Strategy {
    default: nothing,
    prepare_create: nothing,
    prepare_update: keep_nothing,
    prepare_status_update: status_update,
    validate: no_fault,
    validate_update: no_fault_update,
    validate_status_update: no_fault_update,
    name: NameRule::Subdomain,
    create_on_update: false,
    unconditional_update: true,
    grace: None,
};

/// The strategy of a kind of which nothing is known, not even whether it has a status.
pub const UNKNOWN: Strategy = Strategy {
    prepare_create: |object| {
        remove(object, "status");
    },
    prepare_update: keep_status,
    ..PLAIN
};

/// The strategy of a kind with a status subresource but no generation.
pub const WITH_STATUS: Strategy = Strategy { prepare_create: clear_status, prepare_update: keep_status, ..PLAIN };

/// The strategy of a kind with a status subresource whose generation counts changes of its spec.
pub const WITH_GENERATION: Strategy =
    Strategy { prepare_create: first_generation, prepare_update: next_generation, ..PLAIN };

/// Leaves the object alone.
pub fn nothing(_: &mut Value) {}

/// Leaves the new object alone.
pub fn keep_nothing(_: &mut Value, _: &Value) {}

/// Finds nothing.
pub fn no_fault(_: &Value) -> Vec<Cause> {
    Vec::new()
}

/// Finds nothing.
pub fn no_fault_update(_: &Value, _: &Value) -> Vec<Cause> {
    Vec::new()
}

/// A new object's status is empty.
pub fn clear_status(object: &mut Value) {
    empty_status(object, json!({}));
}

/// A new object's status is what an empty one reads: `{}`, and the fields that are always written.
pub fn empty_status(object: &mut Value, status: Value) {
    set(object, "status", status);
}

/// An update of the main resource keeps the status.
pub fn keep_status(new: &mut Value, old: &Value) {
    copy(new, old, "status");
}

/// An empty status, and generation 1.
pub fn first_generation(object: &mut Value) {
    empty_status(object, json!({}));
    set_generation(object, 1);
}

/// Keeps the status; the generation grows if the spec changed.
pub fn next_generation(new: &mut Value, old: &Value) {
    keep_status(new, old);
    count_generation(new, old, &["spec"]);
}

/// Generation 1, and no status of its own.
pub fn first_generation_only(object: &mut Value) {
    set_generation(object, 1);
}

/// The generation grows if any of the top-level fields changed.
pub fn count_generation(new: &mut Value, old: &Value, fields: &[&str]) {
    let before = get(old, "metadata").and_then(|metadata| int(metadata, "generation")).unwrap_or(0);
    let changed = fields.iter().any(|field| !same_field(new, old, field));
    set_generation(new, before + i64::from(changed));
}

/// Sets `metadata.generation`; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    if let Some(metadata) = object.as_object_mut().and_then(|map| map.get_mut("metadata")) {
        if generation == 0 {
            remove(metadata, "generation");
        } else {
            set(metadata, "generation", generation);
        }
    }
}

/// An update of `/status` keeps everything but the status and the metadata.
pub fn status_update(new: &mut Value, old: &Value) {
    let Some(old) = old.as_object() else { return };
    let Some(map) = new.as_object_mut() else { return };
    map.retain(|key, _| matches!(key.as_str(), "status" | "metadata" | "apiVersion" | "kind") || old.contains_key(key));
    for (key, value) in old {
        if !matches!(key.as_str(), "status" | "metadata" | "apiVersion" | "kind") && map.get(key) != Some(value) {
            map.insert(key.clone(), value.clone());
        }
    }
}

/// As [`status_update`], and the labels stay too.
pub fn status_update_keeping_labels(new: &mut Value, old: &Value) {
    status_update(new, old);
    keep_metadata(new, old, &["labels"]);
}

/// Makes those fields of the metadata the same as in `old`.
pub fn keep_metadata(new: &mut Value, old: &Value, fields: &[&str]) {
    let none = json!({});
    let from = get(old, "metadata").unwrap_or(&none);
    if let Some(metadata) = new.as_object_mut().and_then(|map| map.get_mut("metadata")) {
        for field in fields {
            copy(metadata, from, field);
        }
    }
}
