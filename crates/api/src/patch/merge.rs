//! JSON merge patch (RFC 7396), with the one liberty that upstream takes: nulls also vanish from objects
//! inside of lists that are new.

use serde_json::{Map, Value};

/// The patch is not a JSON object. 400 Bad Request upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid JSON Patch")]
pub struct NotAnObject;

/// Merges `patch` into `target`: null removes, objects merge, all else replaces.
pub fn apply(target: &mut Value, patch: Value) -> Result<(), NotAnObject> {
    let Value::Object(patch) = patch else {
        return Err(NotAnObject);
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        merge(target, patch);
    }
    Ok(())
}

fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, mut value) in patch {
        if value.is_null() {
            target.shift_remove(&key);
            continue;
        }
        match (target.get_mut(&key), &mut value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, std::mem::take(new)),
            (Some(Value::Object(_)), _) => {
                target.insert(key, value);
            }
            _ => {
                drop_nulls(&mut value);
                target.insert(key, value);
            }
        }
    }
}

/// Removes null fields at every depth; null items of lists stay.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
