//! Reading objects for cells: what is absent reads as upstream's zero value.

use serde_json::{Map, Value};

use crate::{quantity::Quantity, selector::LabelSelector};

/// The value at a path such as `/spec/ports/0`, unless it is null. Unlike a JSON pointer it knows no escapes,
/// and so costs no allocation: long lists are made of many cells.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut found = object;
    for step in path.split('/').skip(1) {
        found = match found {
            Value::Object(map) => map.get(step)?,
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(found).filter(|v| !v.is_null())
}

/// Text, or nothing.
pub(super) fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Text, or other text if there is none or it is empty.
pub(super) fn text_or<'a>(object: &'a Value, pointer: &str, other: &'a str) -> &'a str {
    match text_at(object, pointer) {
        "" => other,
        text => text,
    }
}

/// A whole number, or zero.
pub(super) fn number_at(object: &Value, pointer: &str) -> i64 {
    at(object, pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// A truth, or the given one.
pub(super) fn truth_at(object: &Value, pointer: &str, absent: bool) -> bool {
    at(object, pointer).and_then(Value::as_bool).unwrap_or(absent)
}

/// The items of a list.
pub(super) fn list_at<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// How many items or keys there are.
pub(super) fn count_at(object: &Value, pointer: &str) -> usize {
    match at(object, pointer) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    }
}

/// Whether the object is on its way out.
pub(super) fn is_deleting(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some()
}

/// A quantity in canonical form; `0` if there is none.
pub(super) fn quantity_at(object: &Value, pointer: &str) -> String {
    quantity(at(object, pointer)).unwrap_or_else(|| "0".to_owned())
}

/// A quantity in canonical form.
pub(super) fn quantity(value: Option<&Value>) -> Option<String> {
    Some(Quantity::from_json(value?).ok()?.to_string())
}

/// `a=b,c=d` with keys sorted, or `<none>`.
pub(super) fn labels(labels: Option<&Value>) -> String {
    match labels.and_then(Value::as_object).filter(|m| !m.is_empty()) {
        Some(map) => sorted_pairs(map),
        None => "<none>".to_owned(),
    }
}

fn sorted_pairs(map: &Map<String, Value>) -> String {
    let mut pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// A `metav1.LabelSelector` as text, or `<none>`.
pub(super) fn selector(value: Option<&Value>) -> String {
    match LabelSelector::from_object(value.unwrap_or(&Value::Null)) {
        Ok(selector) => match selector.to_string() {
            text if text.is_empty() => "<none>".to_owned(),
            text => text,
        },
        Err(_) => "<error>".to_owned(),
    }
}

/// The names, or images, of the containers of a pod spec.
pub(super) fn containers(object: &Value, spec: &str, field: &str) -> String {
    let found = list_at(object, &format!("{spec}/containers"));
    let texts: Vec<_> = found.iter().map(|c| c[field].as_str().unwrap_or_default()).collect();
    texts.join(",")
}

/// Up to three, and how many there are beyond; `<unset>` if there are none.
pub(super) fn up_to_three(all: &[String]) -> String {
    match all.len() {
        0 => "<unset>".to_owned(),
        1..=3 => all.join(","),
        more => format!("{} + {} more...", all[..3].join(","), more - 3),
    }
}

/// A number or text (`IntOrString`) as text.
pub(super) fn int_or_string(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
