//! What two runs have in common if they came to the same end: identities, times, versions and generated names are
//! replaced, lists without an order of their own are sorted.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Fields that say nothing about the end.
const DROPPED: [&str; 8] =
    ["resourceVersion", "managedFields", "message", "generation", "kind", "apiVersion", "clusterIP", "clusterIPs"];
/// Lists in no particular order.
const SORTED: [&str; 5] = ["conditions", "endpoints", "active", "addresses", "subsets"];

/// `state`: lists of objects by their plural.
pub fn normal(state: Value, namespace: &str) -> Value {
    let mut names = BTreeMap::new();
    for object in state.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_array).flatten() {
        if let (Some(name), Some(prefix)) =
            (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str())
        {
            names.insert(name.to_owned(), format!("{prefix}*"));
        }
        if let Some(address) = object["status"]["podIP"].as_str() {
            names.insert(address.to_owned(), "ADDRESS".to_owned());
        }
    }
    names.insert(namespace.to_owned(), "NAMESPACE".to_owned());
    let Value::Object(state) = state else { return Value::Null };
    let normal = state.into_iter().map(|(plural, objects)| {
        let objects = match objects {
            Value::Array(objects) => {
                let objects = objects.into_iter().map(|object| of_object(&plural, object));
                let objects = objects.map(|object| plain(object, &names, namespace)).collect();
                Value::Array(sorted(objects))
            }
            other => plain(other, &names, namespace),
        };
        (plural, objects)
    });
    normal.collect()
}

/// Whether the status is about the newest spec says more than its number; and what an autoscaler's status says depends
/// on how often it has looked.
fn of_object(plural: &str, mut object: Value) -> Value {
    if plural == "horizontalpodautoscalers" {
        object["status"] = Value::Null;
        return object;
    }
    let generation = object["metadata"]["generation"].clone();
    if let Some(observed) = object.get_mut("status").and_then(|status| status.get_mut("observedGeneration")) {
        *observed = (*observed == generation).into();
    }
    object
}

fn plain(value: Value, names: &BTreeMap<String, String>, namespace: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !DROPPED.contains(&name.as_str()));
            let plain = kept.map(|(name, value)| {
                let value = plain(value, names, namespace);
                let value = match value {
                    Value::Array(items) if SORTED.contains(&name.as_str()) => Value::Array(sorted(items)),
                    other => other,
                };
                (name, value)
            });
            plain.collect()
        }
        Value::Array(items) => items.into_iter().map(|item| plain(item, names, namespace)).collect(),
        Value::String(text) => Value::String(plain_text(text, names, namespace)),
        other => other,
    }
}

fn plain_text(text: String, names: &BTreeMap<String, String>, namespace: &str) -> String {
    if let Some(name) = names.get(&text) {
        return name.clone();
    }
    if let Some(rest) = text.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('-')) {
        return format!("NAMESPACE-{rest}");
    }
    if text.starts_with("kube-api-access-") {
        return "kube-api-access-*".to_owned();
    }
    let bytes = text.as_bytes();
    let has = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    if text.len() == 36 && [8, 13, 18, 23].into_iter().all(|at| has(at, b'-')) {
        return "UID".to_owned();
    }
    if text.len() >= 20 && has(4, b'-') && has(10, b'T') && text.ends_with('Z') {
        return "TIME".to_owned();
    }
    text
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_cached_key(Value::to_string);
    values
}

/// Where two states differ, for people.
pub fn difference(wanted: &Value, found: &Value) -> String {
    let mut lines = Vec::new();
    compare("", wanted, found, &mut lines);
    lines.join("\n")
}

fn compare(at: &str, wanted: &Value, found: &Value, lines: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(&format!("{at}/{key}"), &wanted[key.as_str()], &found[key.as_str()], lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{at}/{index}"), a, b, lines);
            }
        }
        _ if wanted != found => lines.push(format!("{at}: wanted {wanted}, found {found}")),
        _ => {}
    }
}
