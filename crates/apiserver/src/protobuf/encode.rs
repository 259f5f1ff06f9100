//! From a tree to the message of its type. What the table does not know is left out, as a Go struct would.

use api::schema::{Holds, Shape, Slot, Type, Union};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::Writer;

/// The fields of a message. Of a type without one nothing is written.
pub(super) fn object(out: &mut Writer, of: &'static Type, tree: &Value) {
    if let (Some(slots), Some(fields)) = (of.message, tree.as_object()) {
        message(out, slots, of, fields);
    }
}

fn message(out: &mut Writer, slots: &'static [Slot], of: &'static Type, fields: &Map<String, Value>) {
    for slot in slots {
        match slot.holds {
            Holds::Inline(inner) => {
                if holds_any(inner, of, fields) {
                    out.message(slot.number, |out| message(out, inner, of, fields));
                }
            }
            Holds::Field(at) => {
                let field = &of.fields[at];
                if let Some(value) = fields.get(field.name) {
                    put(out, slot.number, &field.shape, value);
                }
            }
            Holds::Union(at, Union::OrStrings) => {
                let entries = fields.get(of.fields[at].name).and_then(Value::as_object);
                for (key, value) in entries.into_iter().flatten() {
                    out.message(slot.number, |out| {
                        out.bytes(1, key.as_bytes());
                        union(out, 2, of, Union::OrStrings, value);
                    });
                }
            }
            Holds::Union(at, kind) => {
                if let Some(value) = fields.get(of.fields[at].name).filter(|value| !value.is_null()) {
                    union(out, slot.number, of, kind, value);
                }
            }
        }
    }
}

fn holds_any(slots: &'static [Slot], of: &'static Type, fields: &Map<String, Value>) -> bool {
    slots.iter().any(|slot| match slot.holds {
        Holds::Inline(inner) => holds_any(inner, of, fields),
        Holds::Field(at) | Holds::Union(at, _) => fields.contains_key(of.fields[at].name),
    })
}

/// `of` is the type that the schema among the alternatives has as well.
fn union(out: &mut Writer, number: u32, of: &'static Type, kind: Union, value: &Value) {
    out.message(number, |out| match (kind, value) {
        (Union::OrList | Union::OrStrings, Value::Object(_)) => out.message(1, |out| object(out, of, value)),
        (Union::OrList, Value::Array(items)) => {
            items.iter().for_each(|item| out.message(2, |out| object(out, of, item)));
        }
        (Union::OrStrings, Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).for_each(|item| out.bytes(2, item.as_bytes()));
        }
        (Union::Items, Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).for_each(|item| out.bytes(1, item.as_bytes()));
        }
        (Union::OrBoolean, Value::Object(_)) => {
            // A schema means that there is something to allow.
            out.varint(1, 1);
            out.message(2, |out| object(out, of, value));
        }
        (Union::OrBoolean, Value::Bool(allows)) => out.varint(1, (*allows).into()),
        _ => {}
    });
}

/// One field, or each of a list's items and a map's entries.
fn put(out: &mut Writer, number: u32, shape: &'static Shape, value: &Value) {
    match (shape, value) {
        (Shape::List { of, .. }, Value::Array(items)) => items.iter().for_each(|item| put(out, number, of, item)),
        (Shape::Map { of, .. }, Value::Object(map)) => {
            // Upstream's are sorted, so that equal objects are equal bytes.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                out.message(number, |out| {
                    out.bytes(1, key.as_bytes());
                    match of {
                        Shape::List { .. } => out.message(2, |out| put(out, 1, of, value)),
                        _ => put(out, 2, of, value),
                    }
                });
            }
        }
        (Shape::Boolean, Value::Bool(flag)) => out.varint(number, (*flag).into()),
        (Shape::Int32 | Shape::Int64, Value::Number(given)) => {
            let whole = given.as_i64().or_else(|| given.as_f64().map(|float| float as i64));
            // Negative numbers are written as the 64 bits that they are.
            out.varint(number, whole.unwrap_or(0) as u64);
        }
        (Shape::Number, Value::Number(given)) => out.double(number, given.as_f64().unwrap_or(0.0)),
        (Shape::String, Value::String(text)) => out.bytes(number, text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => out.bytes(number, &STANDARD.decode(text).unwrap_or_default()),
        (Shape::Time, Value::String(text)) => time(out, number, text, false),
        (Shape::MicroTime, Value::String(text)) => time(out, number, text, true),
        (Shape::Quantity, Value::String(text)) => out.message(number, |out| out.bytes(1, text.as_bytes())),
        (Shape::IntOrString, Value::String(text)) => out.message(number, |out| {
            out.varint(1, 1);
            out.varint(2, 0);
            out.bytes(3, text.as_bytes());
        }),
        (Shape::IntOrString, Value::Number(given)) => out.message(number, |out| {
            out.varint(1, 0);
            out.varint(2, given.as_i64().unwrap_or(0) as u64);
            out.bytes(3, b"");
        }),
        (_, Value::Null) => {}
        (Shape::Any, value) => out.message(number, |out| out.bytes(1, value.to_string().as_bytes())),
        (Shape::Object { of, .. }, value @ Value::Object(_)) => out.message(number, |out| object(out, of, value)),
        // Of another type than the schema says: no such thing was ever stored.
        _ => {}
    }
}

/// A time that is none counts as Go's zero time, which is an empty message.
fn time(out: &mut Writer, number: u32, text: &str, micro: bool) {
    out.message(number, |out| {
        let Ok(time) = text.parse::<Timestamp>() else { return };
        out.varint(1, time.as_second() as u64);
        let nanos = if micro { time.subsec_nanosecond() / 1000 * 1000 } else { 0 };
        out.varint(2, i64::from(nanos) as u64);
    });
}
