//! Field paths and the faults found at them, worded as upstream's `field.Error`.

use std::fmt::{self, Write as _};

use serde_json::Value;

use crate::status::Cause;

/// A path into an object. It lives on the stack and is rendered only when a fault is reported.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A path that starts at `field` (dots are taken as they stand, so `spec.template` is fine); empty for the object itself.
    pub const fn root(field: &'a str) -> Path<'a> {
        Path { parent: None, step: Step::Field(field) }
    }

    /// The path of a field of the object here.
    pub const fn field<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// The path of an item of the list here.
    pub const fn index<'b>(&'b self, index: usize) -> Path<'b> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// The path of an entry of the map here.
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dot = false;
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            dot = !(parent.parent.is_none() && matches!(parent.step, Step::Field("")));
        }
        match self.step {
            Step::Field(name) if dot => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// The faults found so far.
#[derive(Default)]
pub struct Faults(Vec<Cause>);

impl Faults {
    /// None yet.
    pub fn new() -> Faults {
        Faults(Vec::new())
    }

    /// How many there are; compare two counts to learn whether a part was sound.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The faults, in the order in which they were found. A fault that repeats word for word is reported once.
    pub fn into_causes(mut self) -> Vec<Cause> {
        if self.0.len() > 1 {
            let mut kept: Vec<Cause> = Vec::with_capacity(self.0.len());
            for cause in self.0.drain(..) {
                if !kept.contains(&cause) {
                    kept.push(cause);
                }
            }
            return kept;
        }
        self.0
    }

    /// Takes over faults found elsewhere.
    pub fn extend(&mut self, causes: Vec<Cause>) {
        self.0.extend(causes);
    }

    /// `FieldValueInvalid` with the value shown.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Shown>, detail: impl fmt::Display) {
        self.push("FieldValueInvalid", path, format!("Invalid value: {}: {detail}", value.into().0));
    }

    /// `FieldValueTypeInvalid`, worded as an invalid value.
    pub fn type_invalid(&mut self, path: &Path<'_>, value: impl Into<Shown>, detail: impl fmt::Display) {
        self.push("FieldValueTypeInvalid", path, format!("Invalid value: {}: {detail}", value.into().0));
    }

    /// `FieldValueRequired`.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueRequired", path, with_detail("Required value", detail));
    }

    /// `FieldValueForbidden`.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueForbidden", path, with_detail("Forbidden", detail));
    }

    /// `FieldValueDuplicate` with the value shown.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Shown>) {
        self.push("FieldValueDuplicate", path, format!("Duplicate value: {}", value.into().0));
    }

    /// `FieldValueNotFound` with the value shown.
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Shown>) {
        self.push("FieldValueNotFound", path, format!("Not found: {}", value.into().0));
    }

    /// `FieldValueNotFound` with the value shown and a reason.
    pub fn not_found_because(&mut self, path: &Path<'_>, value: impl Into<Shown>, detail: &str) {
        self.push("FieldValueNotFound", path, format!("Not found: {}: {detail}", value.into().0));
    }

    /// `FieldValueDuplicate` with the value shown and a reason.
    pub fn duplicate_because(&mut self, path: &Path<'_>, value: impl Into<Shown>, detail: &str) {
        self.push("FieldValueDuplicate", path, format!("Duplicate value: {}: {detail}", value.into().0));
    }

    /// `FieldValueNotSupported`, with the values that are.
    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Shown>, supported: &[&str]) {
        let mut message = format!("Unsupported value: {}", value.into().0);
        for (i, each) in supported.iter().enumerate() {
            message.push_str(if i == 0 { ": supported values: " } else { ", " });
            quote(&mut message, each);
        }
        self.push("FieldValueNotSupported", path, message);
    }

    /// `FieldValueTooLong` for a text of more than `most` bytes.
    pub fn too_long(&mut self, path: &Path<'_>, most: usize) {
        self.push("FieldValueTooLong", path, format!("Too long: may not be more than {most} bytes"));
    }

    /// `FieldValueTooMany` for a list of `count` items where `most` are allowed.
    pub fn too_many(&mut self, path: &Path<'_>, count: usize, most: usize) {
        self.push("FieldValueTooMany", path, format!("Too many: {count}: must have at most {most} items"));
    }

    /// One `invalid` for each message.
    pub fn invalid_each(&mut self, path: &Path<'_>, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }

    fn push(&mut self, reason: &str, path: &Path<'_>, message: String) {
        self.0.push(Cause { reason: reason.to_owned(), message, field: path.to_string() });
    }
}

fn with_detail(head: &str, detail: &str) -> String {
    if detail.is_empty() { head.to_owned() } else { format!("{head}: {detail}") }
}

/// A value as a message shows it: text quoted, the rest as JSON.
pub struct Shown(String);

impl From<&str> for Shown {
    fn from(text: &str) -> Shown {
        let mut out = String::with_capacity(text.len() + 2);
        quote(&mut out, text);
        Shown(out)
    }
}

impl From<&String> for Shown {
    fn from(text: &String) -> Shown {
        text.as_str().into()
    }
}

impl From<i64> for Shown {
    fn from(number: i64) -> Shown {
        Shown(number.to_string())
    }
}

impl From<bool> for Shown {
    fn from(flag: bool) -> Shown {
        Shown(flag.to_string())
    }
}

impl From<&Value> for Shown {
    fn from(value: &Value) -> Shown {
        match value {
            // Upstream's words for a nil pointer: the text "null", quoted.
            Value::Null => Shown("\"null\"".to_owned()),
            Value::String(text) => text.as_str().into(),
            other => {
                let mut out = String::new();
                go_json(&mut out, other);
                Shown(out)
            }
        }
    }
}

/// JSON as upstream prints it: no blanks, and the keys of maps sorted.
fn go_json(out: &mut String, value: &Value) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                go_json(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::String(key.clone()));
                go_json(out, item);
            }
            out.push('}');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

/// Appends `text` in quotes with Go's escapes (`strconv.Quote`).
pub fn quote(out: &mut String, text: &str) {
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
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `text` in quotes with Go's escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(&mut out, text);
    out
}
