//! What an applied configuration claims, and whether it fits the schema.

use serde_json::Value;

use super::{
    element::PathElement,
    fieldset::FieldSet,
    walk::{Node, View},
};
use crate::schema::{Shape, Type};

/// The paths of all that an object says.
pub fn field_set(of: &'static Type, object: &Value) -> FieldSet {
    below(Node::Struct(of), object).1
}

/// Whether the place itself is in the set, and what is below.
fn below(node: Node, value: &Value) -> (bool, FieldSet) {
    let mut set = FieldSet::default();
    match node.view(value) {
        View::Leaf => return (!(value.is_null() && (node.is_fields() || node.is_items())), set),
        View::Fields(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            for key in keys {
                let value = &map[key];
                let (member, children) = below(node.field(key), value);
                let declared = matches!(node, Node::Struct(of) if of.field(key).is_some());
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                set.push(PathElement::field(key), member || empty || !declared, children);
            }
        }
        View::Items(items) => {
            let mut elements: Vec<_> = items.iter().filter_map(|i| Some((node.element_of(i).ok()?, i))).collect();
            elements.sort_by(|a, b| a.0.cmp(&b.0));
            let mut rest = elements.as_slice();
            while let Some(((element, item), mut after)) = rest.split_first() {
                let mut children = below(node.item(), item).1;
                while after.first().is_some_and(|(next, _)| next == element) {
                    after = &after[1..];
                    children = FieldSet::default();
                }
                set.push(element.clone(), true, children);
                rest = after;
            }
        }
    }
    (false, set)
}

/// The faults of an applied configuration, each with its path, in upstream's words: undeclared fields,
/// values of a wrong form, repeated items.
pub fn validate(of: &'static Type, object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check_type(of, object, &mut String::new(), &mut faults);
    faults
}

fn check_type(of: &'static Type, value: &Value, path: &mut String, faults: &mut Vec<String>) {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return,
        other => {
            faults.push(format!("{}: expected map, got {}", shown(path), got(other)));
            return;
        }
    };
    for (key, value) in map {
        descend(path, &PathElement::field(key), |path| match of.field(key) {
            Some(field) => check(&field.shape, value, path, faults),
            None => faults.push(format!("{}: field not declared in schema", shown(path))),
        });
    }
}

fn check(shape: &'static Shape, value: &Value, path: &mut String, faults: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let mut expected = |what: &str| faults.push(format!("{}: expected {what}, got {}", shown(path), got(value)));
    match (shape, value) {
        (Shape::Object { of, .. }, _) => check_type(of, value, path, faults),
        (Shape::List { of, .. }, Value::Array(items)) => {
            let node = Node::of(shape);
            let mut seen: Vec<PathElement> = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let element = if node.is_items() {
                    match node.element_of(item) {
                        Ok(element) if seen.contains(&element) => {
                            faults.push(format!("{}: duplicate entries for key {element}", shown(path)));
                            continue;
                        }
                        Ok(element) => {
                            seen.push(element.clone());
                            element
                        }
                        Err(fault) => {
                            faults.push(format!("{}: element {index}: {fault}", shown(path)));
                            continue;
                        }
                    }
                } else {
                    PathElement::Index(index as i64)
                };
                descend(path, &element, |path| check(of, item, path, faults));
            }
        }
        (Shape::List { .. }, _) => expected("list"),
        (Shape::Map { of, .. }, Value::Object(map)) => {
            for (key, value) in map {
                descend(path, &PathElement::field(key), |path| check(of, value, path, faults));
            }
        }
        (Shape::Map { .. }, _) => expected("map"),
        (Shape::Boolean, v) if !v.is_boolean() => expected("boolean"),
        (Shape::Int32 | Shape::Int64 | Shape::Number, v) if !v.is_number() => {
            expected("numeric (int or float)");
        }
        (Shape::String | Shape::Time | Shape::MicroTime | Shape::Bytes, v) if !v.is_string() => expected("string"),
        (Shape::Quantity | Shape::IntOrString, Value::Array(_) | Value::Object(_)) => {
            faults.push(format!("{}: expected any scalar, got {}", shown(path), got(value)));
        }
        _ => {}
    }
}

fn descend(path: &mut String, element: &PathElement, with: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(&element.to_string());
    with(path);
    path.truncate(length);
}

fn shown(path: &str) -> &str {
    path
}

fn got(value: &Value) -> String {
    match value {
        Value::String(s) => format!("string: {s:?}"),
        other => crate::patch::go_text(other),
    }
}
