//! Amounts of resources as they stand in objects, compared exactly.

use std::cmp::Ordering;

use serde_json::Value;

use crate::quantity::Quantity;

/// The amount in a field of type `Quantity`; `None` if it is malformed (decoding refuses that).
pub fn of(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok()
}

/// Compares two quantities; malformed ones count as equal.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (of(a), of(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    }
}

/// Whether two quantities are the same amount.
pub fn same(a: &Value, b: &Value) -> bool {
    compare(a, b).is_eq()
}

/// How messages show a quantity: in its canonical form.
pub fn shown(value: &Value) -> String {
    of(value).map_or_else(|| value.to_string(), |quantity| quantity.to_string())
}
