//! OpenAPI v2 (Swagger): one document for everything, as JSON.

use serde_json::{Map, Value, json};

use super::{
    definitions::{Definitions, PREFIX, unpack},
    operations::{FORMATS, Operation, PathItem, paths},
    parameters::Parameter,
    v3::entries,
};
use crate::{discovery::VERSION, resource::Resource};

/// The whole document as JSON text.
pub fn document(resources: &[&Resource]) -> Vec<u8> {
    let text = unpack();
    let definitions = Definitions::new(&text, resources);
    let mut out = Vec::with_capacity(4 << 20);
    out.extend_from_slice(br#"{"swagger":"2.0","#);
    entries(&mut out, [("info", info()), ("securityDefinitions", security())].into_iter());
    out.extend_from_slice(br#","security":[{"BearerToken":[]}],"paths":{"#);
    let paths = all_paths(resources);
    entries(&mut out, paths.iter().map(|item| (item.path.as_str(), path_item(item))));
    out.extend_from_slice(br#"},"definitions":{"#);
    let names = definitions.names();
    entries(&mut out, names.iter().filter_map(|name| Some((name.as_str(), definitions.get(name)?))));
    out.extend_from_slice(b"}}");
    out
}

/// The paths of all groups and versions, sorted.
pub fn all_paths(resources: &[&Resource]) -> Vec<PathItem> {
    let mut versions: Vec<(&str, &str)> = resources.iter().map(|r| (r.group, r.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut all: Vec<PathItem> =
        versions.into_iter().flat_map(|(group, version)| paths(resources, group, version)).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

pub fn info() -> Value {
    json!({ "title": "Kubernetes", "version": VERSION })
}

pub fn security() -> Value {
    json!({ "BearerToken": {
        "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
    } })
}

/// A path item as JSON; the protobuf form is made of the same tree.
pub fn path_item(item: &PathItem) -> Value {
    let mut out = Map::new();
    for operation in &item.operations {
        out.insert(operation.method.into(), self::operation(operation));
    }
    if !item.parameters.is_empty() {
        out.insert("parameters".into(), item.parameters.iter().copied().map(parameter).collect());
    }
    Value::Object(out)
}

fn operation(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = operation.parameters.iter().copied().map(parameter).collect();
    if let Some(body) = &operation.body {
        let mut parameter = json!({
            "name": "body", "in": "body", "schema": { "$ref": format!("{PREFIX}{}", body.definition) },
        });
        if body.required {
            parameter["required"] = true.into();
        }
        parameters.push(parameter);
    }
    let mut responses = Map::new();
    for (code, words) in &operation.responses {
        let schema = match &operation.answer {
            Some(answer) => json!({ "$ref": format!("{PREFIX}{answer}") }),
            None => json!({ "type": "string" }),
        };
        responses.insert((*code).into(), json!({ "description": words, "schema": schema }));
    }
    responses.insert("401".into(), json!({ "description": "Unauthorized" }));

    let consumes = operation.body.as_ref().map_or(&["*/*"][..], |body| body.media_types);
    let produces: Vec<&str> = match (&operation.answer, operation.streams) {
        (None, _) => vec!["*/*"],
        (Some(_), false) => FORMATS.to_vec(),
        (Some(_), true) => FORMATS.iter().copied().chain(["application/json;stream=watch"]).collect(),
    };
    let mut out = json!({
        "description": operation.description,
        "consumes": consumes,
        "produces": produces,
        "schemes": ["https"],
        "tags": [operation.tag],
        "operationId": operation.id,
        "responses": responses,
    });
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if !operation.action.is_empty() {
        out["x-kubernetes-action"] = operation.action.into();
    }
    if let Some(kind) = &operation.kind {
        out["x-kubernetes-group-version-kind"] = kind.json();
    }
    out
}

fn parameter(parameter: &Parameter) -> Value {
    let mut out = json!({
        "name": parameter.name,
        "in": if parameter.in_path { "path" } else { "query" },
        "description": parameter.description,
        "type": parameter.r#type,
        "uniqueItems": true,
    });
    if parameter.in_path {
        out["required"] = true.into();
    }
    out
}
