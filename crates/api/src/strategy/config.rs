//! `v1 ConfigMap` and `v1 Secret`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    access::{at, ensure_object, entries, fill_text, flag, map, remove, same_field, set, text},
    check::IMMUTABLE,
    field::{Faults, Path},
    names,
    prepare::PLAIN,
};
use crate::{resource::Strategy, status::Cause, token_secret};

/// The strategy of ConfigMaps.
pub const CONFIG_MAP: Strategy =
    Strategy { validate: validate_config_map, validate_update: validate_config_map_update, ..PLAIN };

/// The strategy of Secrets.
pub const SECRET: Strategy = Strategy {
    default: default_secret,
    prepare_update: keep_secret_type,
    validate: validate_secret,
    validate_update: validate_secret_update,
    ..PLAIN
};

/// `stringData` is a way to write `data`: it is merged in and never read back.
fn default_secret(object: &mut Value) {
    if let Some(Value::Object(plain)) = remove(object, "stringData")
        && !plain.is_empty()
    {
        let data = ensure_object(object, "data");
        for (key, value) in plain {
            set(data, &key, STANDARD.encode(value.as_str().unwrap_or("")));
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

/// The most that all values of a ConfigMap or Secret may take, in bytes.
pub const DATA_LIMIT: usize = 1024 * 1024;

fn validate_config_map(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let mut size = 0;
    let binary = map(object, "binaryData");
    for (key, value) in entries(object, "data") {
        size += value.as_str().map_or(0, str::len);
        let messages = names::config_key(key);
        if !messages.is_empty() {
            faults.invalid_each(&Path::root("data").key(key), key, messages);
        }
        if binary.is_some_and(|binary| binary.contains_key(key)) {
            faults.invalid(&Path::root("data").key(key), key, "duplicate of key present in binaryData");
        }
    }
    for (key, value) in entries(object, "binaryData") {
        size += decoded_length(value.as_str().unwrap_or(""));
        faults.invalid_each(&Path::root("binaryData").key(key), key, names::config_key(key));
    }
    if size > DATA_LIMIT {
        faults.too_long(&Path::root(""), DATA_LIMIT);
    }
    faults.into_causes()
}

fn validate_config_map_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    stays_immutable(&mut faults, new, old, &["data", "binaryData"]);
    faults.extend(validate_config_map(new));
    faults.into_causes()
}

fn stays_immutable(faults: &mut Faults, new: &Value, old: &Value, fields: &[&str]) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        faults.forbidden(&Path::root("immutable"), DETAIL);
    }
    for field in fields {
        if !same_field(new, old, field) {
            faults.forbidden(&Path::root(field), DETAIL);
        }
    }
}

/// How many bytes a base64 text stands for.
fn decoded_length(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(text.len() / 4 * 3)
}

fn validate_secret(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("data");
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        size += decoded_length(value.as_str().unwrap_or(""));
        let messages = names::config_key(key);
        if !messages.is_empty() {
            faults.invalid_each(&path.key(key), key, messages);
        }
    }
    if size > DATA_LIMIT {
        faults.too_long(&path, DATA_LIMIT);
    }
    let data = |key: &str| map(object, "data").and_then(|data| data.get(key)).and_then(Value::as_str);
    match text(object, "type") {
        token_secret::TYPE => {
            let account = at(object, &["metadata", "annotations", token_secret::ACCOUNT]).and_then(Value::as_str);
            if account.unwrap_or("").is_empty() {
                faults.required(&Path::root("metadata.annotations").key(token_secret::ACCOUNT), "");
            }
        }
        "kubernetes.io/dockercfg" => json_object(&mut faults, ".dockercfg", data(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => {
            json_object(&mut faults, ".dockerconfigjson", data(".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth" if data("username").is_none() && data("password").is_none() => {
            faults.required(&path.key("username"), "");
            faults.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data("ssh-privatekey").unwrap_or("").is_empty() => {
            faults.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if data(key).is_none() {
                    faults.required(&path.key(key), "");
                }
            }
        }
        _ => {}
    }
    faults.into_causes()
}

/// A value that must be a JSON object; its content is never shown.
fn json_object(faults: &mut Faults, key: &str, value: Option<&str>) {
    let path = Path::root("data");
    let path = path.key(key);
    let Some(value) = value else {
        faults.required(&path, "");
        return;
    };
    let bytes = STANDARD.decode(value).unwrap_or_default();
    let fault = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                _ => "bool",
            };
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        }
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(error) => match bytes.get(error.column().saturating_sub(1)) {
            Some(byte) if error.line() == 1 && error.column() == 1 => {
                format!("invalid character '{}' looking for beginning of value", char::from(*byte))
            }
            _ => "invalid JSON".to_owned(),
        },
    };
    faults.invalid(&path, "<secret contents redacted>", fault);
}

fn validate_secret_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    if text(new, "type") != text(old, "type") {
        faults.invalid(&Path::root("type"), text(new, "type"), IMMUTABLE);
    }
    stays_immutable(&mut faults, new, old, &["data"]);
    faults.extend(validate_secret(new));
    faults.into_causes()
}
