//! Renders the definitions with their descriptions for OpenAPI: one line each, name, tab, JSON.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::DeflateEncoder};
use serde_json::{Map, Value, json};

use crate::facts::{Fact, Facts};

/// References read `#/definitions/NAME` as in OpenAPI v2; the lines are sorted by name.
pub fn render(schema: &Map<String, Value>, facts: &Facts) -> String {
    let mut names: Vec<&String> = schema.keys().collect();
    names.sort();
    let mut out = String::new();
    for name in names {
        out.push_str(name);
        out.push('\t');
        out.push_str(&definition(name, &schema[name], facts).to_string());
        out.push('\n');
    }
    out
}

pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all bytes")
}

/// Changes whenever a document may: it covers the definitions, the crate's version and the code that
/// turns the catalogue into documents.
pub fn hash(described: &[u8]) -> u64 {
    let mut hash = fnv(0xcbf2_9ce4_8422_2325, described);
    hash = fnv(hash, std::env::var("CARGO_PKG_VERSION").expect("cargo sets it").as_bytes());
    for directory in ["src/catalogue", "src/openapi"] {
        for file in files(Path::new(directory)) {
            hash = fnv(hash, &fs::read(&file).expect("a listed file can be read"));
        }
    }
    hash
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn definition(name: &str, schema: &Value, facts: &Facts) -> Value {
    let mut out = match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => json!({ "type": "string" }),
        "IntOrString" => json!({ "type": "string", "format": "int-or-string" }),
        _ if schema.get("oneOf").is_some() => json!({}),
        _ => {
            let mut schema = schema.clone();
            schema.as_object_mut().expect("a definition is an object").remove("description");
            schema
        }
    };
    out["description"] = schema["description"].as_str().unwrap_or_default().into();
    if let Some(properties) = out.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, property) in properties {
            extend(property, &facts.of_field(name, field));
        }
    }
    if facts.of_type(name).atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    refer(&mut out);
    out
}

/// Adds the extensions that say how a field merges.
fn extend(property: &mut Value, fact: &Fact) {
    let list = property["type"] == "array";
    if let Some(json) = &fact.default {
        property["default"] = serde_json::from_str(json).expect("defaults in merge.txt are JSON");
    }
    if let Some(keys) = &fact.map {
        property["x-kubernetes-list-map-keys"] = json!(keys);
        property["x-kubernetes-list-type"] = "map".into();
    } else if fact.set {
        property["x-kubernetes-list-type"] = "set".into();
    } else if fact.atomic {
        property[if list { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" }] = "atomic".into();
    }
    if let Some(key) = fact.merge.as_deref().filter(|key| !key.is_empty()) {
        property["x-kubernetes-patch-merge-key"] = key.into();
    }
    let strategies: Vec<&str> =
        [(fact.merge.is_some(), "merge"), (fact.retain_keys, "retainKeys"), (fact.replace, "replace")]
            .iter()
            .filter_map(|(holds, word)| holds.then_some(*word))
            .collect();
    if !strategies.is_empty() {
        property["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
}

fn refer(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/definitions/");
            }
            map.values_mut().for_each(refer);
        }
        Value::Array(items) => items.iter_mut().for_each(refer),
        _ => {}
    }
}
