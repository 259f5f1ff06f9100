//! The managed fields of a new object, written in one walk: creates are the hot path.

use serde_json::{Map, Value};

use super::{
    entries::{self, Operation},
    managers::Manager,
    walk::{Node, View},
    zero::{always_there, is_reset, is_unowned_metadata},
};
use crate::schema::Type;

/// Records `manager` as the owner of all that a new object says. Entries that came with it are dropped: the
/// creator owns every field.
pub fn manage_create(of: &'static Type, new: &mut Value, manager: &Manager<'_>) {
    let fields = fields_of_new(of, new, manager.subresource);
    let Some(metadata) = new.as_object_mut().and_then(|o| o.get_mut("metadata")).and_then(Value::as_object_mut) else {
        return;
    };
    metadata.shift_remove("managedFields");
    if fields.is_empty() {
        return;
    }
    let entry = entries::write_entry(
        manager.shown_name(),
        Operation::Update,
        manager.api_version,
        Some(manager.time()),
        Value::Object(fields),
        manager.subresource,
    );
    metadata.insert("managedFields".to_owned(), Value::Array(vec![entry]));
}

/// The `FieldsV1` of a new object: the same as comparing it with nothing.
pub fn fields_of_new(of: &'static Type, new: &Value, subresource: &str) -> Map<String, Value> {
    let Value::Object(map) = new else {
        return Map::new();
    };
    let mut out = Map::with_capacity(map.len());
    for (key, value) in sorted(map) {
        if matches!(key, "apiVersion" | "kind") || is_reset(key, subresource) {
            continue;
        }
        let there = of.field(key).is_some_and(|f| always_there(of, f, true));
        let node = Node::Struct(of).field(key);
        match (key, node, value) {
            ("metadata", Node::Struct(_), Value::Object(metadata)) => {
                if let Some(below) = fields(node, metadata, true, is_unowned_metadata) {
                    out.insert("f:metadata".to_owned(), below);
                }
            }
            (_, _, value) => push(&mut out, key, write(node, value, there)),
        }
    }
    out
}

fn push(out: &mut Map<String, Value>, name: &str, below: Option<Value>) {
    if let Some(below) = below {
        let mut key = String::with_capacity(name.len() + 2);
        key.push_str("f:");
        key.push_str(name);
        out.insert(key, below);
    }
}

/// What stands under a key of `FieldsV1`; `None` if nothing there is owned. `there`: the place itself existed.
fn write(node: Node, value: &Value, there: bool) -> Option<Value> {
    match node.view(value) {
        View::Fields(map) => fields(node, map, there, |_| false),
        View::Items(list) => items(node, list, there),
        View::Leaf => {
            let absent = match value {
                Value::Null => true,
                Value::Bool(false) => there,
                Value::String(s) => there && s.is_empty(),
                Value::Number(n) => there && n.as_f64() == Some(0.0),
                _ => false,
            };
            (!absent).then(|| Value::Object(Map::new()))
        }
    }
}

fn fields(node: Node, map: &Map<String, Value>, there: bool, skip: fn(&str) -> bool) -> Option<Value> {
    let mut out = start(there, map.len());
    for (key, value) in sorted(map) {
        if skip(key) {
            continue;
        }
        let (below, below_there) = match node {
            Node::Struct(of) => match of.field(key) {
                Some(field) => (Node::of(&field.shape), there && always_there(of, field, false)),
                None => (Node::Any, false),
            },
            _ => (node.field(key), false),
        };
        push(&mut out, key, write(below, value, below_there));
    }
    finish(out, there)
}

fn items(node: Node, list: &[Value], there: bool) -> Option<Value> {
    let mut elements: Vec<_> = list.iter().filter_map(|i| Some((node.element_of(i).ok()?, i))).collect();
    elements.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = start(there, elements.len());
    let mut rest = elements.as_slice();
    while let Some(((element, item), mut after)) = rest.split_first() {
        let mut repeated = false;
        while after.first().is_some_and(|(next, _)| next == element) {
            after = &after[1..];
            repeated = true;
        }
        let below = if repeated { None } else { write(node.item(), item, false) };
        out.insert(element.to_fields_key(), below.unwrap_or_else(|| Value::Object(Map::new())));
        rest = after;
    }
    finish(out, there)
}

fn start(there: bool, len: usize) -> Map<String, Value> {
    let mut out = Map::with_capacity(len + 1);
    if !there {
        out.insert(".".to_owned(), Value::Object(Map::new()));
    }
    out
}

/// A place without anything below is written as `{}`, and only if it is owned itself.
fn finish(mut out: Map<String, Value>, there: bool) -> Option<Value> {
    if there {
        return (!out.is_empty()).then_some(Value::Object(out));
    }
    if out.len() == 1 {
        out.clear();
    }
    Some(Value::Object(out))
}

fn sorted(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut fields: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), v)).collect();
    fields.sort_unstable_by_key(|(key, _)| *key);
    fields
}
