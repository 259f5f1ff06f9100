//! Reading and filling in fields of objects. A `null` counts as absent everywhere, as it does upstream.

use serde_json::{Map, Value};

/// The field, unless absent or null.
pub fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value.as_object()?.get(key) {
        None | Some(Value::Null) => None,
        some => some,
    }
}

/// The field below fields.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| get(value, key))
}

/// The field's text; empty if absent.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    get(value, key).and_then(Value::as_str).unwrap_or("")
}

/// The text of the field below fields; empty if absent.
pub fn text_at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The field's items; none if absent.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    get(value, key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items of the field below fields; none if absent.
pub fn list_at<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The field's entries, if it is an object.
pub fn map<'a>(value: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    get(value, key).and_then(Value::as_object)
}

/// The field's entries; none if absent.
pub fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    map(value, key).into_iter().flatten()
}

/// The field's number, if present.
pub fn int(value: &Value, key: &str) -> Option<i64> {
    get(value, key).and_then(Value::as_i64)
}

/// Whether the field is `true`.
pub fn flag(value: &Value, key: &str) -> bool {
    get(value, key).and_then(Value::as_bool).unwrap_or(false)
}

/// Whether a list or map field is absent or empty.
pub fn is_empty(value: &Value, key: &str) -> bool {
    match get(value, key) {
        None => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// The object in that field, if there is one.
pub fn object_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    value.as_object_mut()?.get_mut(key).filter(|field| field.is_object())
}

/// The object below fields, if there is one.
pub fn object_at_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, key| object_mut(value, key))
}

/// The items of that field; none if absent.
pub fn items_mut<'a>(value: &'a mut Value, key: &str) -> std::slice::IterMut<'a, Value> {
    match value.as_object_mut().and_then(|map| map.get_mut(key)) {
        Some(Value::Array(items)) => items.iter_mut(),
        _ => [].iter_mut(),
    }
}

/// The object in that field, made if absent.
pub fn ensure_object<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    ensure(value, key, || Value::Object(Map::new()))
}

/// The field, filled in if absent. `value` must be an object, or it is made one.
pub fn ensure<'a>(value: &'a mut Value, key: &str, default: impl FnOnce() -> Value) -> &'a mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let map = value.as_object_mut().expect("it was made an object above");
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), default());
    }
    map.get_mut(key).expect("it was inserted above")
}

/// Fills in a field that is absent.
pub fn fill(value: &mut Value, key: &str, default: impl Into<Value>) {
    if get(value, key).is_none() {
        set(value, key, default);
    }
}

/// Fills in a text that is absent or empty.
pub fn fill_text(value: &mut Value, key: &str, default: &str) {
    if text(value, key).is_empty() {
        set(value, key, default);
    }
}

/// Fills in a number that is absent or zero.
pub fn fill_number(value: &mut Value, key: &str, default: i64) {
    if int(value, key).unwrap_or(0) == 0 {
        set(value, key, default);
    }
}

/// Sets a field.
pub fn set(value: &mut Value, key: &str, to: impl Into<Value>) {
    if let Some(map) = value.as_object_mut() {
        map.insert(key.to_owned(), to.into());
    }
}

/// Removes a field; order is kept.
pub fn remove(value: &mut Value, key: &str) -> Option<Value> {
    value.as_object_mut()?.shift_remove(key)
}

/// Makes the field the same as in `from`, absence included.
pub fn copy(to: &mut Value, from: &Value, key: &str) {
    match get(from, key) {
        Some(field) => set(to, key, field.clone()),
        None => {
            remove(to, key);
        }
    }
}

/// Whether a field is alike in both: an absent one equals null, an empty list, an empty map and an empty text,
/// at every depth (upstream's semantic equality after decoding).
pub fn same_field(a: &Value, b: &Value, key: &str) -> bool {
    same_option(get(a, key), get(b, key))
}

/// Semantic equality of two values; see [`same_field`].
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(key, value)| same_option(Some(value), b.get(key)))
                && b.iter().all(|(key, value)| a.contains_key(key) || same_option(None, Some(value)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b,
    }
}

fn same_option(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) if !a.is_null() && !b.is_null() => same(a, b),
        (Some(one), None | Some(Value::Null)) | (None | Some(Value::Null), Some(one)) => match one {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(flag) => !flag,
            Value::Number(_) => false,
        },
        _ => true,
    }
}
