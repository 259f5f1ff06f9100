//! Field paths and the faults found at them, worded as upstream's `field.Error`.

use std::fmt;

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
        self.0.push(Cause::invalid(path.to_string(), value.into().0, &detail.to_string()));
    }

    /// `FieldValueInvalid` without the value.
    pub fn invalid_unshown(&mut self, path: &Path<'_>, detail: &str) {
        let message = format!("Invalid value: {detail}");
        self.0.push(Cause { reason: "FieldValueInvalid".into(), message, field: path.to_string() });
    }

    /// `FieldValueRequired`.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.0.push(Cause::required(path.to_string(), detail));
    }

    /// `FieldValueForbidden`.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.0.push(Cause::forbidden(path.to_string(), detail));
    }

    /// `FieldValueDuplicate` with the value shown.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Shown>) {
        self.0.push(Cause::duplicate(path.to_string(), value.into().0));
    }

    /// `FieldValueDuplicate` with the value shown and a reason.
    pub fn duplicate_because(&mut self, path: &Path<'_>, value: impl Into<Shown>, detail: &str) {
        let mut cause = Cause::duplicate(path.to_string(), value.into().0);
        cause.message = format!("{}: {detail}", cause.message);
        self.0.push(cause);
    }

    /// `FieldValueNotFound` with the value shown.
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Shown>) {
        self.0.push(Cause::not_found(path.to_string(), value.into().0));
    }

    /// `FieldValueNotFound` with the value shown and a reason.
    pub fn not_found_because(&mut self, path: &Path<'_>, value: impl Into<Shown>, detail: &str) {
        let mut cause = Cause::not_found(path.to_string(), value.into().0);
        cause.message = format!("{}: {detail}", cause.message);
        self.0.push(cause);
    }

    /// `FieldValueNotSupported`, with the values that are.
    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Shown>, supported: &[&str]) {
        self.0.push(Cause::not_supported(path.to_string(), value.into().0, supported));
    }

    /// `FieldValueTooLong` for a text of more than `most` bytes.
    pub fn too_long(&mut self, path: &Path<'_>, most: usize) {
        self.0.push(Cause::too_long(path.to_string(), most));
    }

    /// `FieldValueTooMany` for a list of `count` items where `most` are allowed.
    pub fn too_many(&mut self, path: &Path<'_>, count: usize, most: usize) {
        self.0.push(Cause::too_many(path.to_string(), count, most));
    }

    /// One `invalid` for each message.
    pub fn invalid_each(&mut self, path: &Path<'_>, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }
}

/// A value as a message shows it.
pub struct Shown(Value);

impl From<&str> for Shown {
    fn from(text: &str) -> Shown {
        Shown(text.into())
    }
}

impl From<&String> for Shown {
    fn from(text: &String) -> Shown {
        text.as_str().into()
    }
}

impl From<i64> for Shown {
    fn from(number: i64) -> Shown {
        Shown(number.into())
    }
}

impl From<bool> for Shown {
    fn from(flag: bool) -> Shown {
        Shown(flag.into())
    }
}

impl From<&Value> for Shown {
    fn from(value: &Value) -> Shown {
        Shown(ordered(value))
    }
}

/// Keys in the order of Go's JSON: maps are sorted; of the types shown whole, a selector has its labels first.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(ordered).collect(),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| (*key != "matchLabels", *key));
            entries.into_iter().map(|(key, value)| (key.clone(), ordered(value))).collect()
        }
        scalar => scalar.clone(),
    }
}
