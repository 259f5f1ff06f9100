//! One invalid field, worded as upstream's `field.Error`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `metav1.StatusCause`: one invalid field. `Display` gives `field: message`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// A `metav1.CauseType`, such as `FieldValueRequired`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// As upstream words it, for instance `Required value: name or generateName is required`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path, such as `spec.containers[0].image`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Cause {
    /// The field must be set. An empty detail adds no words.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueRequired", field, "Required value", detail)
    }

    /// The value is ill-formed or out of bounds.
    pub fn invalid(field: impl Into<String>, value: impl Serialize, detail: &str) -> Self {
        Self::new("FieldValueInvalid", field, &format!("Invalid value: {}", shown(value)), detail)
    }

    /// The value is of the wrong type.
    pub fn type_invalid(field: impl Into<String>, value: impl Serialize, detail: &str) -> Self {
        Self::new("FieldValueTypeInvalid", field, &format!("Invalid value: {}", shown(value)), detail)
    }

    /// The value is none of these.
    pub fn not_supported(field: impl Into<String>, value: impl Serialize, supported: &[&str]) -> Self {
        let detail = match supported {
            [] => String::new(),
            _ => {
                let all: Vec<String> = supported.iter().map(|s| quoted(s)).collect();
                format!("supported values: {}", all.join(", "))
            }
        };
        Self::new("FieldValueNotSupported", field, &format!("Unsupported value: {}", shown(value)), &detail)
    }

    /// The value may not stand there, or may not change now.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueForbidden", field, "Forbidden", detail)
    }

    /// The value appears twice.
    pub fn duplicate(field: impl Into<String>, value: impl Serialize) -> Self {
        Self::new("FieldValueDuplicate", field, &format!("Duplicate value: {}", shown(value)), "")
    }

    /// What the value refers to does not exist.
    pub fn not_found(field: impl Into<String>, value: impl Serialize) -> Self {
        Self::new("FieldValueNotFound", field, &format!("Not found: {}", shown(value)), "")
    }

    /// More than `max` bytes.
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new("FieldValueTooLong", field, "Too long", &format!("may not be more than {max} {unit}"))
    }

    /// More than `max` items.
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {unit}");
        Self::new("FieldValueTooMany", field, &format!("Too many: {actual}"), &detail)
    }

    /// The check itself failed.
    pub fn internal(field: impl Into<String>, detail: &str) -> Self {
        Self::new("InternalError", field, "Internal error", detail)
    }

    fn new(reason: &str, field: impl Into<String>, fault: &str, detail: &str) -> Self {
        let message = if detail.is_empty() { fault.into() } else { format!("{fault}: {detail}") };
        Self { reason: reason.into(), message, field: field.into() }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A value as upstream shows it in a message: strings as Go's `%q`, the rest as Go's JSON.
fn shown(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => quoted(&text),
        Ok(other) => {
            // Go escapes these for the sake of browsers.
            other.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        Err(_) => String::new(),
    }
}

/// A string as Go's `%q` shows it.
pub fn quoted(text: &str) -> String {
    use std::fmt::Write;

    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x80 && c.is_control() => {
                write!(out, "\\x{:02x}", c as u32).expect("writing to a String does not fail");
            }
            c if c.is_control() => {
                write!(out, "\\u{:04x}", c as u32).expect("writing to a String does not fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cause_reads_as_upstream_words_it() {
        let words = |cause: Cause| cause.to_string();
        assert_eq!(words(Cause::required("spec.containers", "")), "spec.containers: Required value");
        assert_eq!(
            words(Cause::invalid("metadata.name", "A\n", "must be lower case")),
            r#"metadata.name: Invalid value: "A\n": must be lower case"#
        );
        assert_eq!(
            words(Cause::invalid("spec.replicas", -1, "must be ≥ 0")),
            "spec.replicas: Invalid value: -1: must be ≥ 0"
        );
        assert_eq!(
            words(Cause::not_supported("spec.type", "X", &["ClusterIP", "NodePort"])),
            r#"spec.type: Unsupported value: "X": supported values: "ClusterIP", "NodePort""#
        );
        assert_eq!(
            words(Cause::invalid("spec.selector", json!({"a": "<b>"}), "field is immutable")),
            r#"spec.selector: Invalid value: {"a":"\u003cb\u003e"}: field is immutable"#
        );
        assert_eq!(words(Cause::too_long("a", 63)), "a: Too long: may not be more than 63 bytes");
        assert_eq!(words(Cause::too_many("a", 5, 1)), "a: Too many: 5: must have at most 1 item");
    }
}
