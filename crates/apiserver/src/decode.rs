//! From the bytes of a body to an object of the expected kind.

use api::{
    status::Status,
    strict::{self, Decoded, Expected},
};
use serde_json::Value;

use crate::{
    call::Call,
    failure::Outcome,
    negotiate::{self, Format},
    protobuf,
    query::{FieldValidation, WriteOptions},
};

/// The body as an object of the call's kind; its namespace is checked against the path.
pub(crate) fn object(call: &Call<'_>, options: &WriteOptions) -> Outcome<Value> {
    let mut tree = body_as(call, options, call.resource)?;
    settle_namespace(call, &mut tree)?;
    Ok(tree)
}

/// The body as an object of that kind.
pub(crate) fn body_as(call: &Call<'_>, options: &WriteOptions, expected: impl Into<Expected>) -> Outcome<Value> {
    let expected = expected.into();
    let decoded = match negotiate::object_format(call.headers)? {
        Format::Json => strict::decode(expected, &call.body)?,
        Format::Yaml => strict::decode_yaml(expected, &call.body)?,
        Format::Protobuf => {
            let tree = protobuf::decode(&call.body, expected.api_version, expected.kind, expected.schema);
            strict::decode_value(expected, tree.map_err(unreadable)?)?
        }
    };
    judge(call, options, decoded, expected)
}

/// A tree that a patch has made, as an object of that kind. `strategic` is the patch, if it was a strategic merge patch:
/// failures show it, and those of other patches what they made. `issues` are what is odd about the patch itself.
pub(crate) fn patched(
    call: &Call<'_>,
    options: &WriteOptions,
    expected: Expected,
    tree: Value,
    strategic: Option<&Value>,
    issues: &[String],
) -> Outcome<Value> {
    let made = if strategic.is_none() { tree.clone() } else { Value::Null };
    let refuse = |why: &str| {
        let shown = strategic.map_or_else(|| made.to_string(), api::patch::go_text);
        let cause = api::status::Cause::invalid("patch", shown, why);
        Status::invalid("", "", "", vec![cause])
    };
    let mut decoded = strict::decode_patched(expected, tree)
        .map_err(|fault| refuse(if strategic.is_some() { &fault.conversion } else { &fault.decoding }))?;
    if !decoded.issues.is_empty() {
        match strategic {
            Some(_) => decoded.issues.sort(),
            None => decoded.issues = strict::unknown_fields(expected, made.clone()),
        }
    }
    decoded.issues.splice(..0, issues.iter().cloned());
    if options.field_validation == FieldValidation::Strict && !decoded.issues.is_empty() {
        return Err(refuse(&format!("strict decoding error: {}", decoded.issues.join(", "))));
    }
    judge(call, options, decoded, expected)
}

/// Deals with unknown and duplicate fields as the client wishes.
fn judge(call: &Call<'_>, options: &WriteOptions, decoded: Decoded, expected: Expected) -> Outcome<Value> {
    match options.field_validation {
        FieldValidation::Strict => decoded.strictly(expected),
        FieldValidation::Warn => {
            decoded.warnings().for_each(|issue| call.warn_once(issue));
            Ok(decoded.object)
        }
        FieldValidation::Ignore => Ok(decoded.object),
    }
}

/// YAML as a tree.
pub(crate) fn yaml(body: &[u8]) -> Outcome<Value> {
    serde_yaml_ng::from_slice(body)
        .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: yaml: {error}")))
}

/// A document that is no object of the catalogue (options, a subresource's); `definition` is upstream's name of
/// its type.
pub(crate) fn document(call: &Call<'_>, definition: &str) -> Outcome<Value> {
    match negotiate::object_format(call.headers)? {
        Format::Json => serde_json::from_slice(&call.body)
            .map_err(|error| Status::bad_request(format!("the object provided is unrecognized: {error}"))),
        Format::Yaml => yaml(&call.body),
        Format::Protobuf => {
            let of = api::schema::type_named(definition)
                .ok_or_else(|| Status::unsupported_media_type(&["application/json", "application/yaml"]))?;
            protobuf::decode(&call.body, "", "", of).map_err(unreadable)
        }
    }
}

fn unreadable(error: protobuf::Error) -> Status {
    Status::bad_request(error.to_string())
}

/// The namespace of the request is the object's: filled in where the object names none, taken away where the kind has none
/// (upstream's `EnsureObjectNamespaceMatchesRequestNamespace`).
pub(crate) fn settle_namespace(call: &Call<'_>, tree: &mut Value) -> Outcome<()> {
    let namespace = tree["metadata"]["namespace"].as_str().unwrap_or("");
    if !call.resource.namespaced {
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("namespace");
        }
    } else if namespace.is_empty() {
        if tree["metadata"].is_null() {
            tree["metadata"] = serde_json::json!({});
        }
        tree["metadata"]["namespace"] = call.path.namespace.as_str().into();
    } else if namespace != call.path.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
