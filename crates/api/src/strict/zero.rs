//! Zero values that Go does not write (`omitempty`): upstream's objects lose them as they go through its structs.

use serde_json::Value;

use crate::schema::{Field, Shape, Type};

/// Whether this value of the field is as good as none. Structs are never: Go writes them as `{}`.
pub(super) fn is_left_out(field: &Field, value: &Value) -> bool {
    if field.keeps_zero {
        return false;
    }
    match (&field.shape, value) {
        (Shape::Boolean, Value::Bool(flag)) => !flag,
        (Shape::Int32 | Shape::Int64 | Shape::Number, Value::Number(number)) => number.as_f64() == Some(0.0),
        (Shape::String | Shape::Bytes, Value::String(text)) => text.is_empty(),
        (Shape::List { .. }, Value::Array(items)) => items.is_empty(),
        (Shape::Map { .. }, Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// Takes those values out of an object of that type.
pub fn without_zeros(of: &'static Type, tree: &mut Value) {
    let Some(fields) = tree.as_object_mut() else { return };
    fields.retain(|name, value| {
        let Some(field) = of.field(name) else { return true };
        descend(&field.shape, value);
        !is_left_out(field, value)
    });
}

fn descend(shape: &'static Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Object { of, .. }, value) => without_zeros(of, value),
        (Shape::List { of, .. }, Value::Array(items)) if holds_structs(of) => {
            items.iter_mut().for_each(|item| descend(of, item));
        }
        (Shape::Map { of, .. }, Value::Object(map)) if holds_structs(of) => {
            map.values_mut().for_each(|value| descend(of, value));
        }
        _ => {}
    }
}

fn holds_structs(shape: &Shape) -> bool {
    matches!(shape, Shape::Object { .. } | Shape::List { .. } | Shape::Map { .. })
}
