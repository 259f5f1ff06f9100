//! `metadata.managedFields` on every write, and server-side apply.

use api::{
    apply::{self, Manager},
    status::Status,
    strict::{self, Expected, once, repeated},
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    call::Call,
    decode,
    failure::Outcome,
    query::{FieldValidation, WriteOptions},
    verbs::modify::Modify,
};

/// How the writer came to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// It wrote the object, or a patch of it: it owns what it changed.
    Update,
    /// By server-side apply, which has settled the ownership already.
    Apply,
}

fn manager<'m>(call: &'m Call<'_>, options: &'m WriteOptions, now: Timestamp) -> Manager<'m> {
    Manager {
        name: &options.field_manager,
        api_version: call.resource.api_version,
        subresource: &call.path.subresource,
        now,
    }
}

/// A new object belongs to its creator.
pub(crate) fn created(call: &Call<'_>, tree: &mut Value, options: &WriteOptions, author: &Author, now: Timestamp) {
    if *author == Author::Update {
        apply::manage_create(call.resource.schema, tree, &manager(call, options, now));
    }
}

/// What changed belongs to who changed it.
pub(crate) fn updated(call: &Call<'_>, new: &mut Value, old: &Value, how: &Modify<'_>, now: Timestamp) {
    if how.author == Author::Update {
        apply::manage_update(call.resource.schema, Some(old), new, &manager(call, how.options, now));
    }
}

/// The body of an apply, which is YAML, of which JSON is a part: of that type, and with no field twice if the client
/// minds that.
pub(crate) fn applied_document(call: &Call<'_>, options: &WriteOptions, expected: Expected) -> Outcome<Value> {
    // Most bodies are JSON and have no field twice, which is soon seen.
    let (tree, sound) = match once::tree(&call.body) {
        Ok((tree, twice)) => (tree, !twice),
        Err(_) => {
            let tree = decode::yaml(&call.body);
            (tree.map_err(|status| Status::bad_request(format!("error decoding YAML: {}", status.message)))?, false)
        }
    };
    check_kind(&tree, expected.api_version, expected.kind)?;
    apply::check(expected.schema, &tree).map_err(|error| error.to_status())?;
    if options.field_validation != FieldValidation::Ignore && !sound {
        let again = repeated::in_yaml(&call.body);
        if options.field_validation == FieldValidation::Strict && !again.is_empty() {
            let lines = again.join("\n  ");
            return Err(Status::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: {}\n  {lines}",
                strict::YAML_ERRORS
            )));
        }
        again.into_iter().for_each(|issue| call.warn_once(issue));
    }
    Ok(tree)
}

/// An apply names the kind of what it is applied to.
fn check_kind(tree: &Value, api_version: &str, kind: &str) -> Outcome<()> {
    let version = tree["apiVersion"].as_str().unwrap_or("");
    if version == api_version && tree["kind"] == kind {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "error decoding patch: couldn't get version/kind; got {version:?}, {}: expected {api_version:?}, {kind:?}",
        tree["kind"]
    )))
}

/// The configuration in the body of an apply, checked for kind, name and namespace.
pub(crate) fn applied_object(call: &Call<'_>, options: &WriteOptions) -> Outcome<Value> {
    let resource = call.resource;
    let tree = applied_document(call, options, resource.into())?;
    let mut tree = strict::decode_applied(resource, tree)?.object;
    if tree["metadata"]["name"].as_str().unwrap_or("").is_empty() {
        tree["metadata"]["name"] = call.path.name.as_str().into();
    }
    call.check_name(&tree)?;
    decode::settle_namespace(call, &mut tree)?;
    Ok(tree)
}

/// The object that applying `applied` to `live` gives.
pub(crate) fn apply(call: &Call<'_>, live: Option<&Value>, applied: &Value, options: &WriteOptions) -> Outcome<Value> {
    let manager = manager(call, options, Timestamp::now());
    if let (Some(live), Some(asked)) = (live, applied["metadata"]["resourceVersion"].as_str())
        && live["metadata"]["resourceVersion"] != asked
    {
        return Err(call.conflict());
    }
    let schema = call.resource.schema;
    let applied = apply::server_side_apply(schema, live, applied, &manager, options.force.unwrap_or(false));
    let mut object = applied.map_err(|error| error.to_status())?;
    strict::without_zeros(schema, &mut object);
    Ok(object)
}

/// A copy without the managed fields, for a change through a subresource: [`updated`] gives it the list again.
pub(crate) fn without(object: &Value) -> Value {
    let Some(fields) = object.as_object() else { return object.clone() };
    let copy = |(name, value): (&String, &Value)| {
        let value = match value.as_object() {
            Some(metadata) if name == "metadata" => {
                let kept = metadata.iter().filter(|(field, _)| *field != "managedFields");
                kept.map(|(field, value)| (field.clone(), value.clone())).collect()
            }
            _ => value.clone(),
        };
        (name.clone(), value)
    };
    fields.iter().map(copy).collect()
}

/// Whether a write would change nothing: all is equal but for when managers were last seen.
pub(crate) fn same(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    new.len() == old.len()
        && new.iter().all(|(key, value)| match (key.as_str(), old.get(key)) {
            ("metadata", Some(before)) => same_metadata(value, before),
            (_, before) => before == Some(value),
        })
}

fn same_metadata(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new == old };
    new.len() == old.len()
        && new.iter().all(|(key, value)| match (key.as_str(), old.get(key)) {
            ("managedFields", Some(before)) => same_managers(value, before),
            (_, before) => before == Some(value),
        })
}

fn same_managers(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_array(), old.as_array()) else { return new == old };
    const COMPARED: [&str; 6] = ["manager", "operation", "apiVersion", "fieldsType", "fieldsV1", "subresource"];
    new.len() == old.len()
        && new.iter().zip(old).all(|(new, old)| COMPARED.iter().all(|field| new.get(field) == old.get(field)))
}
