//! Decoding: bytes become an object of a known type, or a `Status` that says why not.
//!
//! One pass over the text, beside the type's table: fields that the type does not have are left out and
//! noted, as are fields that stand twice; `null` counts as absent, and so do zero values that Go does not write;
//! quantities and times take their canonical form. Messages are those of upstream's decoder (`sigs.k8s.io/json` behind the codec factory).

mod notes;
pub mod once;
pub mod repeated;
mod scalar;
mod syntax;
#[cfg(test)]
mod tests;
mod walk;
mod zero;

use std::borrow::Cow;

use serde::{Deserializer, de::DeserializeSeed};
use serde_json::Value;

use crate::{
    catalogue,
    resource::Resource,
    schema::Type,
    status::{Status, quoted},
};
use notes::Notes;
use walk::Root;
pub use zero::without_zeros;

/// What a body must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Empty for the core group.
    pub group: &'static str,
    /// For instance `v1`.
    pub version: &'static str,
    /// For instance `v1` or `apps/v1`.
    pub api_version: &'static str,
    /// For instance `Pod`.
    pub kind: &'static str,
    /// Its type.
    pub schema: &'static Type,
}

impl From<&Resource> for Expected {
    fn from(resource: &Resource) -> Self {
        let &Resource { group, version, api_version, kind, schema, .. } = resource;
        Self { group, version, api_version, kind, schema }
    }
}

/// An object, and what a strict reader minds about the text it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Of the type, with `apiVersion` and `kind` set.
    pub object: Value,
    /// Such as `unknown field "spec.foo"` and `duplicate field "spec.bar"`, at most 100, none twice. What stands twice
    /// in YAML is one, of several lines.
    pub issues: Vec<String>,
}

/// Before the lines that say what stands twice in YAML.
pub const YAML_ERRORS: &str = "yaml: unmarshal errors:";

impl Decoded {
    /// The issues as warnings, each of one line.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.issues
            .iter()
            .flat_map(|issue| issue.strip_prefix(YAML_ERRORS).unwrap_or(issue).lines())
            .map(str::trim)
            .filter(|line| !line.is_empty())
    }

    /// The object if no issue was found, else the failure that `fieldValidation=Strict` asks for.
    pub fn strictly(self, expected: impl Into<Expected>) -> Result<Value, Status> {
        if self.issues.is_empty() {
            return Ok(self.object);
        }
        let expected = expected.into();
        let why = format!("strict decoding error: {}", self.issues.join(", "));
        Err(cannot_be_handled(expected.kind, expected.version, expected, &why))
    }
}

/// Decodes JSON. Fails with `BadRequest` on broken JSON, on another kind or version, and on a value of the
/// wrong type.
pub fn decode(expected: impl Into<Expected>, bytes: &[u8]) -> Result<Decoded, Status> {
    let expected = expected.into();
    let mut notes = Notes::default();
    let object = match parse(expected, bytes, &mut notes) {
        Ok(object) => object,
        Err(error) => match (syntax::fault(bytes), String::from_utf8_lossy(bytes)) {
            (None, Cow::Owned(repaired)) => return decode(expected, repaired.as_bytes()),
            (fault, _) => {
                let fault = fault.unwrap_or_else(|| error.to_string());
                let fault = format!("couldn't get version/kind; json parse error: {fault}");
                return Err(unrecognized(expected, &fault, bytes));
            }
        },
    };
    if let Some(fault) = notes.unreadable_type() {
        return Err(unrecognized(expected, &fault, bytes));
    }
    finish(expected, object, notes)
}

fn parse(expected: Expected, bytes: &[u8], notes: &mut Notes) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let object = from_deserializer(expected, &mut deserializer, notes)?;
    deserializer.end()?;
    Ok(object)
}

/// The same for YAML.
pub fn decode_yaml(expected: impl Into<Expected>, bytes: &[u8]) -> Result<Decoded, Status> {
    let expected = expected.into();
    let mut notes = Notes::default();
    let object = from_deserializer(expected, serde_yaml_ng::Deserializer::from_slice(bytes), &mut notes)
        .map_err(|error| unrecognized(expected, &format!("error converting YAML to JSON: yaml: {error}"), bytes))?;
    if let Some(fault) = notes.unreadable_type() {
        return Err(unrecognized(expected, &fault, bytes));
    }
    if !notes.issues.is_empty() {
        // Upstream reads YAML twice: for what stands twice, and as the JSON that it was made into, by name.
        let tree = serde_yaml_ng::from_slice(bytes).unwrap_or_default();
        let again = repeated::in_yaml(bytes);
        let again = (!again.is_empty()).then(|| format!("{YAML_ERRORS}\n  {}", again.join("\n  ")));
        notes.issues = again.into_iter().chain(unknown_fields(expected, tree)).collect();
    }
    finish(expected, object, notes)
}

/// The unknown fields of an object in the order of names, in which upstream comes upon them where the object was a
/// map of Go.
pub fn unknown_fields(expected: impl Into<Expected>, mut object: Value) -> Vec<String> {
    object.sort_all_objects();
    let mut notes = Notes::default();
    match from_deserializer(expected.into(), object, &mut notes) {
        Ok(_) => notes.issues,
        Err(_) => Vec::new(),
    }
}

/// [`decode`] for an object that is in memory already, such as one that a patch has made.
pub fn decode_value(expected: impl Into<Expected>, value: Value) -> Result<Decoded, Status> {
    tree(expected.into(), value, Notes::default())
}

/// The same for a configuration to apply, which owns the zero values that it names: they stay until it is merged
/// ([`without_zeros`]).
pub fn decode_applied(expected: impl Into<Expected>, value: Value) -> Result<Decoded, Status> {
    tree(expected.into(), value, Notes::keeping_zeros())
}

fn tree(expected: Expected, value: Value, mut notes: Notes) -> Result<Decoded, Status> {
    let object = from_deserializer(expected, value, &mut notes)
        .map_err(|error| Status::bad_request(format!("{}: {error}", expected.kind)))?;
    if let Some(fault) = notes.unreadable_type() {
        return Err(Status::bad_request(fault));
    }
    finish(expected, object, notes)
}

/// Why a patched object is not of its type.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchFault {
    /// In the words of upstream's decoder, which JSON and merge patches go through.
    pub decoding: String,
    /// In the words of upstream's converter, which strategic merge patches go through.
    pub conversion: String,
}

/// The same for what a patch has made.
pub fn decode_patched(expected: impl Into<Expected>, value: Value) -> Result<Decoded, PatchFault> {
    let both = |text: String| PatchFault { decoding: text.clone(), conversion: text };
    let expected = expected.into();
    let mut notes = Notes::default();
    let object = from_deserializer(expected, value, &mut notes).map_err(|error| both(error.to_string()))?;
    let conversion = notes.conversion.take();
    if let Some(fault) = notes.unreadable_type().or_else(|| notes.fault.take()) {
        return Err(PatchFault { conversion: conversion.unwrap_or_else(|| fault.clone()), decoding: fault });
    }
    finish(expected, object, notes).map_err(|status| both(status.message))
}

/// What is wrong with text that is no JSON, in the words of Go's scanner; `None` if it would find nothing.
pub fn json_fault(text: &[u8]) -> Option<String> {
    syntax::fault(text)
}

fn from_deserializer<'de, D: Deserializer<'de>>(
    expected: Expected,
    deserializer: D,
    notes: &mut Notes,
) -> Result<Value, D::Error> {
    Root { of: expected.schema, notes }.deserialize(deserializer)
}

fn finish(expected: Expected, mut object: Value, notes: Notes) -> Result<Decoded, Status> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    let as_expected =
        (kind.is_empty() || kind == expected.kind) && (api_version.is_empty() || api_version == expected.api_version);
    if !as_expected {
        return Err(other_kind(expected, kind, api_version));
    }
    if let Some(fault) = notes.fault {
        return Err(cannot_be_handled(expected.kind, expected.version, expected, &fault));
    }
    let lacks = (api_version.is_empty(), kind.is_empty());
    if let Value::Object(map) = &mut object {
        if lacks.1 {
            map.shift_insert(0, "kind".into(), expected.kind.into());
        }
        if lacks.0 {
            map.shift_insert(0, "apiVersion".into(), expected.api_version.into());
        }
    }
    Ok(Decoded { object, issues: notes.issues })
}

/// The body is of another kind or version than the request's path.
fn other_kind(expected: Expected, kind: &str, api_version: &str) -> Status {
    let (group, version) = match api_version.split_once('/') {
        Some((group, version)) => (group, version),
        None if api_version.is_empty() => (expected.group, expected.version),
        None => ("", api_version),
    };
    let kind = if kind.is_empty() { expected.kind } else { kind };
    if catalogue::by_kind(group, version, kind).is_none() && !is_subresource_kind(group, version, kind) {
        let group_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        let why = format!(
            "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            quoted(kind),
            quoted(&group_version)
        );
        return cannot_be_handled(kind, version, expected, &why);
    }
    if kind == expected.kind {
        return Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        ));
    }
    let internal = match expected.group.split('.').next() {
        None | Some("") => "core",
        Some(name) => name,
    };
    let why = format!("converting ({version}.{kind}) to ({internal}.{}): unknown conversion", expected.kind);
    cannot_be_handled(kind, version, expected, &why)
}

/// Kinds that only subresources take.
fn is_subresource_kind(group: &str, version: &str, kind: &str) -> bool {
    catalogue::all().iter().any(|resource| {
        resource.subresources.iter().any(|s| {
            s.kind == kind && s.group_version.unwrap_or((resource.group, resource.version)) == (group, version)
        })
    })
}

fn cannot_be_handled(kind: &str, version: &str, expected: Expected, why: &str) -> Status {
    Status::bad_request(format!(
        "{kind} in version {} cannot be handled as a {}: {why}",
        quoted(version),
        expected.kind
    ))
}

fn unrecognized(expected: Expected, fault: &str, bytes: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {fault} ({})",
        expected.kind,
        summary(bytes)
    ))
}

/// The first bytes: as text if it begins like an object, else in hexadecimal digits.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    let head = &bytes[..bytes.len().min(SHOWN)];
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => {
            let digits: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{digits}{more}")
        }
    }
}
