//! `v1 ConfigMap` and `v1 Secret`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    access::{ensure_object, fill_text, remove, set},
    prepare::PLAIN,
};
use crate::resource::Strategy;

/// The strategy of ConfigMaps.
pub const CONFIG_MAP: Strategy = Strategy { ..PLAIN };

/// The strategy of Secrets.
pub const SECRET: Strategy = Strategy { default: default_secret, prepare_update: keep_secret_type, ..PLAIN };

/// `stringData` is a way to write `data`: it is merged in and never read back.
fn default_secret(object: &mut Value) {
    if let Some(Value::Object(plain)) = remove(object, "stringData") {
        if !plain.is_empty() {
            let data = ensure_object(object, "data");
            for (key, value) in plain {
                set(data, &key, STANDARD.encode(value.as_str().unwrap_or("")));
            }
        }
    }
    fill_text(object, "type", "Opaque");
}

/// Upstream: an empty type of an update means the old one.
fn keep_secret_type(new: &mut Value, old: &Value) {
    let kind = super::access::text(old, "type");
    if !kind.is_empty() {
        fill_text(new, "type", kind);
    }
}
