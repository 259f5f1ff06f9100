//! From a protobuf body to the tree that JSON would have given.

use api::schema::{Holds, Shape, Slot, Type, Union, type_named};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Error, MAGIC, MAX_DEPTH,
    wire::{Reader, Token},
};

/// The object as a tree with `apiVersion` and `kind`. `expected` is its type if it is of that version and
/// kind (empty: of any); of another object only these two are read, for the caller to complain about.
pub(crate) fn decode(body: &[u8], api_version: &str, kind: &str, expected: &'static Type) -> Result<Value, Error> {
    let body = body.strip_prefix(MAGIC).ok_or(Error::Prefix)?;
    let (mut its_version, mut its_kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        match (number, token) {
            (1, Token::Bytes(type_meta)) => {
                let mut reader = Reader::new(type_meta);
                while let Some((number, token)) = reader.next()? {
                    match (number, token) {
                        (1, Token::Bytes(text)) => its_version = utf8(text)?,
                        (2, Token::Bytes(text)) => its_kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Token::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut tree = json!({"kind": its_kind, "apiVersion": its_version});
    let fits = |its: &str, wanted: &str| its.is_empty() || wanted.is_empty() || its == wanted;
    let is_expected = fits(&its_kind, kind) && fits(&its_version, api_version);
    if let (true, Some(out)) = (is_expected, tree.as_object_mut()) {
        object(raw, expected, out, 0)?;
    }
    Ok(tree)
}

/// The fields of a message into `out`.
pub(super) fn object(body: &[u8], of: &'static Type, out: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
    let slots = of.message.ok_or(Error::Unknown(of.name))?;
    message(body, slots, of, out, depth)
}

fn message(
    body: &[u8],
    slots: &'static [Slot],
    of: &'static Type,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        // Fields of a newer version are passed over.
        let Ok(at) = slots.binary_search_by_key(&number, |slot| slot.number.into()) else { continue };
        match slots[at].holds {
            Holds::Inline(inner) => message(token.bytes(number)?, inner, of, out, depth + 1)?,
            Holds::Field(at) => {
                let field = &of.fields[at];
                take(out, field.name, &field.shape, field.keeps_zero, number, token, depth)?;
            }
            Holds::Union(at, Union::OrStrings) => {
                let map = out.entry(of.fields[at].name).or_insert_with(|| json!({}));
                let (key, held) = entry(token.bytes(number)?)?;
                let held = held.map(|token| union(token.bytes(2)?, of, Union::OrStrings, depth)).transpose()?;
                if let (Some(map), Some(held)) = (map.as_object_mut(), held) {
                    map.insert(key, held);
                }
            }
            Holds::Union(at, kind) => {
                let value = union(token.bytes(number)?, of, kind, depth)?;
                out.insert(of.fields[at].name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// The one alternative that is set; `of` is the type that the schema in it has as well.
fn union(body: &[u8], of: &'static Type, kind: Union, depth: usize) -> Result<Value, Error> {
    let (mut allows, mut items, mut schema) = (false, Vec::new(), None);
    let nested = |body: &[u8]| -> Result<Value, Error> {
        let mut out = Map::new();
        object(body, of, &mut out, depth + 1)?;
        Ok(Value::Object(out))
    };
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        match (kind, number) {
            (Union::OrList | Union::OrStrings, 1) | (Union::OrBoolean, 2) => {
                schema = Some(nested(token.bytes(number)?)?);
            }
            (Union::OrList, 2) => items.push(nested(token.bytes(number)?)?),
            (Union::OrStrings, 2) | (Union::Items, 1) => items.push(Value::String(utf8(token.bytes(number)?)?)),
            (Union::OrBoolean, 1) => allows = token.varint(number)? != 0,
            _ => {}
        }
    }
    Ok(match (kind, schema) {
        (Union::Empty, _) => json!({}),
        (_, Some(schema)) => schema,
        (Union::OrBoolean, None) => Value::Bool(allows),
        (Union::OrList | Union::OrStrings | Union::Items, None) => Value::Array(items),
    })
}

fn take(
    out: &mut Map<String, Value>,
    name: &str,
    shape: &'static Shape,
    keeps_zero: bool,
    number: u64,
    token: Token<'_>,
    depth: usize,
) -> Result<(), Error> {
    match shape {
        Shape::List { of, .. } => {
            let list = out.entry(name).or_insert_with(|| json!([]));
            let Some(list) = list.as_array_mut() else { return Ok(()) };
            match (of, token) {
                (Shape::Boolean | Shape::Int32 | Shape::Int64, Token::Bytes(packed)) => {
                    let mut reader = Reader::new(packed);
                    while let Some(number) = reader.varint_or_end()? {
                        list.push(scalar_of_varint(of, number));
                    }
                }
                (of, token) => list.push(value(of, number, token, depth)?),
            }
        }
        Shape::Map { of, .. } => {
            let map = out.entry(name).or_insert_with(|| json!({}));
            let Some(map) = map.as_object_mut() else { return Ok(()) };
            let (key, held) = entry(token.bytes(number)?)?;
            let held = held.map(|token| map_value(of, 2, token, depth)).transpose()?;
            map.insert(key, held.unwrap_or_else(|| zero(of)));
        }
        _ => {
            let value = value(shape, number, token, depth)?;
            if !value.is_null() && (keeps_zero || !is_zero(&value)) {
                out.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Key and value of a map's entry.
fn entry(body: &[u8]) -> Result<(String, Option<Token<'_>>), Error> {
    let (mut key, mut held) = (String::new(), None);
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        match number {
            1 => key = utf8(token.bytes(number)?)?,
            2 => held = Some(token),
            _ => {}
        }
    }
    Ok((key, held))
}

/// A map's list values are messages with the items in field 1 (`ExtraValue`).
fn map_value(of: &'static Shape, number: u64, token: Token<'_>, depth: usize) -> Result<Value, Error> {
    let Shape::List { of: item, .. } = of else { return value(of, number, token, depth) };
    let mut list = Vec::new();
    let mut reader = Reader::new(token.bytes(number)?);
    while let Some((number, token)) = reader.next()? {
        list.push(value(item, number, token, depth)?);
    }
    Ok(Value::Array(list))
}

fn value(shape: &'static Shape, number: u64, token: Token<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match shape {
        Shape::Boolean | Shape::Int32 | Shape::Int64 => scalar_of_varint(shape, token.varint(number)?),
        Shape::Number => json!(token.double(number)?),
        Shape::String => Value::String(utf8(token.bytes(number)?)?),
        Shape::Bytes => Value::String(STANDARD.encode(token.bytes(number)?)),
        Shape::Time => time(token.bytes(number)?, false)?,
        Shape::MicroTime => time(token.bytes(number)?, true)?,
        Shape::Quantity => Value::String(only_text(token.bytes(number)?, 1)?),
        Shape::IntOrString => int_or_string(token.bytes(number)?)?,
        Shape::Any => {
            // `raw` of RawExtension, JSON and FieldsV1: JSON text.
            let mut reader = Reader::new(token.bytes(number)?);
            let mut found = Value::Null;
            while let Some((number, token)) = reader.next()? {
                if number == 1 {
                    found = serde_json::from_slice(token.bytes(number)?).unwrap_or(Value::Null);
                }
            }
            found
        }
        Shape::Object { of, .. } => {
            let mut out = Map::new();
            object(token.bytes(number)?, of, &mut out, depth + 1)?;
            Value::Object(out)
        }
        // Lists of lists and maps of maps do not occur in upstream's messages.
        Shape::List { .. } | Shape::Map { .. } => Value::Null,
    })
}

fn scalar_of_varint(shape: &Shape, number: u64) -> Value {
    match shape {
        Shape::Boolean => Value::Bool(number != 0),
        Shape::Int32 => Value::from(number as i32),
        _ => Value::from(number as i64),
    }
}

fn time(body: &[u8], micro: bool) -> Result<Value, Error> {
    let (mut seconds, mut nanos) = (None, 0);
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        match number {
            1 => seconds = Some(token.varint(number)? as i64),
            2 => nanos = token.varint(number)? as i32,
            _ => {}
        }
    }
    // Go's zero time (year 1) is an empty message, or seconds before any time there is.
    let Some(seconds) = seconds.filter(|seconds| *seconds > -62_135_596_800) else { return Ok(Value::Null) };
    let nanos = if micro { nanos / 1000 * 1000 } else { 0 };
    let Ok(time) = Timestamp::new(seconds, nanos) else { return Err(Error::Truncated) };
    Ok(Value::String(if micro { format!("{time:.6}") } else { format!("{time:.0}") }))
}

fn int_or_string(body: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number_value, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        match number {
            1 => is_text = token.varint(number)? == 1,
            2 => number_value = token.varint(number)? as i32,
            3 => text = utf8(token.bytes(number)?)?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text) } else { Value::from(number_value) })
}

fn only_text(body: &[u8], wanted: u64) -> Result<String, Error> {
    let mut text = String::new();
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        if number == wanted {
            text = utf8(token.bytes(number)?)?;
        }
    }
    Ok(text)
}

fn utf8(bytes: &[u8]) -> Result<String, Error> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::Text)
}

/// What a field that is no pointer holds when nobody set it. Structs are written even so, as in JSON.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Boolean => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Number => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Object { .. } | Shape::Map { .. } => json!({}),
        Shape::List { .. } => json!([]),
        _ => Value::from(""),
    }
}

/// The type of the kind that is written in that version; only subresources and answers have others than the catalogue.
pub(super) fn type_of(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) =
        api_version.split_once('/').unwrap_or(("", if api_version.is_empty() { "v1" } else { api_version }));
    if let Some(resource) = api::catalogue::by_kind(group, version, kind) {
        return Some(resource.schema);
    }
    let package = match group.split('.').next() {
        None | Some("") => "core",
        Some(name) => name,
    };
    type_named(&format!("io.k8s.api.{package}.{version}.{kind}"))
        .or_else(|| type_named(&format!("io.k8s.apimachinery.pkg.apis.meta.{version}.{kind}")))
}
