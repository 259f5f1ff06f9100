//! Bodies in `application/vnd.kubernetes.protobuf`, which Go clients (kubectl's typed ones among them) send.
//! Answers are JSON, which those clients take as well.
//!
//! The wire is that of upstream's `generated.proto`: `k8s\0`, then a `runtime.Unknown` that names the kind
//! and holds the object. Fields are found by number in `fields.txt` and take their shape from the JSON schema.
//! Upstream writes zero values of fields that are no pointers; they count as absent, as in JSON.

mod fields;
mod wire;

use api::schema::{Shape, Type};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use fields::Field;
use wire::{Reader, Token};

const MAGIC: &[u8] = b"k8s\0";
/// Messages nested deeper are refused.
const MAX_DEPTH: usize = 100;

/// Why a body is no object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("proto: illegal or truncated message")]
    Truncated,
    #[error("proto: field {0} has the wrong wire type")]
    WireType(u64),
    #[error("proto: a string is not valid UTF-8")]
    Text,
    #[error("proto: no message type of that name is known: {0}")]
    Unknown(String),
    #[error("proto: messages are nested too deep")]
    Depth,
}

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
        message(raw, expected.name, Some(expected), out, 0)?;
    }
    Ok(tree)
}

fn message(
    body: &[u8],
    name: &str,
    of: Option<&'static Type>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    let known = fields::of(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
    let mut reader = Reader::new(body);
    while let Some((number, token)) = reader.next()? {
        match known.iter().find(|(n, _)| *n == number) {
            Some((_, Field::Inline(inner))) => message(token.bytes(number)?, inner, of, out, depth + 1)?,
            Some((_, Field::Named { name, pointer })) => {
                if let Some(field) = of.and_then(|of| of.field(name)) {
                    take(out, name, &field.shape, *pointer, number, token, depth)?;
                }
            }
            // Fields of a newer version.
            None => {}
        }
    }
    Ok(())
}

fn take(
    out: &mut Map<String, Value>,
    name: &str,
    shape: &'static Shape,
    pointer: bool,
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
            let (mut key, mut held) = (String::new(), None);
            let mut reader = Reader::new(token.bytes(number)?);
            while let Some((number, token)) = reader.next()? {
                match number {
                    1 => key = utf8(token.bytes(number)?)?,
                    2 => held = Some(map_value(of, number, token, depth)?),
                    _ => {}
                }
            }
            map.insert(key, held.unwrap_or_else(|| zero(of)));
        }
        _ => {
            let value = value(shape, number, token, depth)?;
            if pointer || !is_zero(&value) {
                out.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
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
            message(token.bytes(number)?, of.name, Some(of), &mut out, depth + 1)?;
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

/// What a field that is no pointer holds when nobody set it.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_as_kubectl_sends_it_is_read() {
        // `kubectl create configmap a --from-literal=x=y` of kubectl 1.32.
        let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x1b\x0a\x11\x0a\x01a\x12\x00\x1a\x00\x22\x00\x2a\x002\x008\x00B\x00\x12\x06\x0a\x01x\x12\x01y\x1a\x00\x22\x00";
        let resource = api::catalogue::by_kind("", "v1", "ConfigMap").expect("config maps are served");
        let tree = decode(body, "v1", "ConfigMap", resource.schema).expect("it is well formed");
        assert_eq!(
            tree,
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"x": "y"}})
        );
    }

    #[test]
    fn every_kind_that_is_served_has_its_field_numbers() {
        let without: Vec<&str> = api::catalogue::all()
            .iter()
            .filter(|r| fields::of(r.schema.name).is_none())
            .map(|r| r.schema.name)
            .collect();
        // Upstream serves these from other modules or not at all; no Go client of the core writes them in protobuf.
        const OTHERS: [&str; 5] = ["apiextensions", "kube-aggregator", "metrics", "gateway", "patterns"];
        let others = |name: &&&str| OTHERS.iter().all(|module| !name.contains(module));
        assert_eq!(without.iter().filter(others).collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[test]
    fn broken_messages_are_refused() {
        let resource = api::catalogue::by_kind("", "v1", "Pod").expect("pods are served");
        for body in [&b""[..], b"k8s", b"k8s\0\xff", b"k8s\0\x12\xff\xff\xff\xff\x0f", b"k8s\0\x12\x02\x0a\x05"] {
            assert!(decode(body, "v1", "Pod", resource.schema).is_err(), "{body:?}");
        }
    }
}
