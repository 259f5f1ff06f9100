//! JSON patch (RFC 6902) with upstream's dialect: negative indices count from the end, and the error texts
//! are those of its library, which clients see.

use serde_json::{Map, Value};

/// A patch may carry this many operations.
pub const MAX_OPERATIONS: usize = 10_000;

/// Why a patch was not applied; the target is unchanged then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The document is no list of operations. 400 Bad Request upstream.
    #[error("{0}")]
    Decode(String),
    /// More than [`MAX_OPERATIONS`]. 413 Request Entity Too Large upstream.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// An operation does not fit the object, or a test failed. 422 upstream, with this text as a cause.
    #[error("{0}")]
    Apply(String),
}

/// Applies the operations in order, all or none.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), Error> {
    let Value::Array(operations) = patch else {
        return Err(Error::Decode(format!(
            "json: cannot unmarshal {} into Go value of type jsonpatch.Patch",
            kind(patch)
        )));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Error::TooMany(operations.len()));
    }
    let mut document = target.clone();
    for operation in operations {
        let Value::Object(operation) = operation else {
            return Err(Error::Decode(format!(
                "json: cannot unmarshal {} into Go value of type jsonpatch.Operation",
                kind(operation)
            )));
        };
        apply_one(&mut document, operation).map_err(Error::Apply)?;
    }
    *target = document;
    Ok(())
}

const MISSING: &str = "missing value";

/// The kind of a JSON value, as Go names it.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn apply_one(document: &mut Value, operation: &Map<String, Value>) -> Result<(), String> {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let op = text("op").unwrap_or("unknown");
    if !matches!(op, "add" | "remove" | "replace" | "move" | "test" | "copy") {
        return Err(format!("Unexpected kind: {op}"));
    }
    let path = || {
        text("path").ok_or_else(|| match op {
            "add" | "remove" | "copy" => format!("{op} operation failed to decode path: {MISSING}"),
            _ => format!("{op} operation failed to decode path: operation missing path field: {MISSING}"),
        })
    };
    let from = || {
        text("from")
            .ok_or_else(|| format!("{op} operation failed to decode from: operation, missing from field: {MISSING}"))
    };
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match op {
        "add" => {
            let path = path()?;
            let (parent, key) = locate(document, path)
                .ok_or_else(|| format!("add operation does not apply: doc is missing path: \"{path}\": {MISSING}"))?;
            add(parent, &key, value()).map_err(|e| format!("error in add for path: '{path}': {e}"))
        }
        "remove" => {
            let path = path()?;
            let (parent, key) = locate(document, path).ok_or_else(|| {
                format!("remove operation does not apply: doc is missing path: \"{path}\": {MISSING}")
            })?;
            remove(parent, &key).map(drop).map_err(|e| format!("error in remove for path: '{path}': {e}"))
        }
        "replace" => replace(document, path()?, value()),
        "move" => {
            let (from, path) = (from()?, path());
            let (parent, key) = locate(document, from)
                .ok_or_else(|| format!("move operation does not apply: doc is missing from path: {from}: {MISSING}"))?;
            get(parent, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let moved = remove(parent, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let path = path?;
            let (parent, key) = locate(document, path).ok_or_else(|| {
                format!("move operation does not apply: doc is missing destination path: {path}: {MISSING}")
            })?;
            add(parent, &key, moved).map_err(|e| format!("error in move for path: '{path}': {e}"))
        }
        "copy" => {
            let from = from()?;
            let (parent, key) = locate(document, from)
                .ok_or_else(|| format!("copy operation does not apply: doc is missing from path: {from}: {MISSING}"))?;
            let copied = get(parent, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?.clone();
            let path = path()?;
            let (parent, key) = locate(document, path).ok_or_else(|| {
                format!("copy operation does not apply: doc is missing destination path: {path}: {MISSING}")
            })?;
            add(parent, &key, copied).map_err(|e| format!("error while adding value during copy: {e}"))
        }
        _ => test(document, path()?, &value()),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("replace operation value must be object or array".into());
        }
        *document = value;
        return Ok(());
    }
    let (parent, key) = locate(document, path)
        .ok_or_else(|| format!("replace operation does not apply: doc is missing path: {path}: {MISSING}"))?;
    match get_mut(parent, &key) {
        Some(place) => *place = value,
        None => return Err(format!("replace operation does not apply: doc is missing key: {path}: {MISSING}")),
    }
    Ok(())
}

fn test(document: &mut Value, path: &str, expected: &Value) -> Result<(), String> {
    let failed = || format!("testing value {path} failed: test failed");
    let found = if path.is_empty() {
        &*document
    } else {
        let (parent, key) = locate(document, path)
            .ok_or_else(|| format!("test operation does not apply: is missing path: {path}: {MISSING}"))?;
        get(parent, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?
    };
    if equal(found, expected) { Ok(()) } else { Err(failed()) }
}

/// Numbers are equal by value, so that 1 and 1.0 are.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| equal(a, b)))
        }
        _ => left == right,
    }
}

/// The container that a path's last token stands in, and that token decoded. `None` if there is none.
fn locate<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let mut tokens: Vec<&str> = path.split('/').skip(1).collect();
    let last = decode(tokens.pop()?);
    let mut at = document;
    for token in tokens {
        at = get_mut(at, &decode(token))?;
    }
    (at.is_object() || at.is_array()).then_some((at, last))
}

fn decode(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn get<'a>(container: &'a Value, key: &str) -> Result<&'a Value, String> {
    match container {
        Value::Object(map) => map.get(key).ok_or_else(|| format!("unable to get nonexistent key: {key}: {MISSING}")),
        Value::Array(items) => Ok(&items[index(key, items.len(), items.len())?]),
        _ => Err(MISSING.into()),
    }
}

fn get_mut<'a>(container: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match container {
        Value::Object(map) => map.get_mut(key),
        Value::Array(items) => {
            let at = index(key, items.len(), items.len()).ok()?;
            items.get_mut(at)
        }
        _ => None,
    }
}

fn add(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(key, items.len() + 1, items.len() + 1)?;
            items.insert(at, value);
        }
        _ => return Err(MISSING.into()),
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Object(map) => {
            map.shift_remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))
        }
        Value::Array(items) => {
            let at = index(key, items.len(), items.len())?;
            Ok(items.remove(at))
        }
        _ => Err(MISSING.into()),
    }
}

/// A position below `limit`; negative ones count back from `end`.
fn index(key: &str, limit: usize, end: usize) -> Result<usize, String> {
    let wanted: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))?;
    let at = if wanted < 0 { wanted + end as i64 } else { wanted };
    usize::try_from(at)
        .ok()
        .filter(|at| *at < limit)
        .ok_or_else(|| format!("Unable to access invalid index: {wanted}: invalid index referenced"))
}
