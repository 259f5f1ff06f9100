//! OpenAPI v3: one document a group and version.

use serde_json::{Map, Value, json};

use super::{
    definitions::{Definitions, PREFIX, list_of, unpack},
    operations::{FORMATS, Operation, PathItem, paths},
    parameters::Parameter,
};
use crate::{discovery::VERSION, resource::Resource};

/// The whole document as JSON text.
pub fn document(resources: &[&Resource], group: &str, version: &str) -> Option<Vec<u8>> {
    let of_version: Vec<&Resource> =
        resources.iter().copied().filter(|r| r.group == group && r.version == version).collect();
    if of_version.is_empty() {
        return None;
    }
    let text = unpack();
    let definitions = Definitions::new(&text, resources);
    let paths = paths(resources, group, version);
    let in_paths = paths.iter().flat_map(|item| &item.operations).flat_map(|operation| {
        let body = operation.body.as_ref().map(|body| body.definition.clone());
        body.into_iter().chain(operation.answer.clone())
    });
    let of_kinds = of_version.iter().map(|r| r.schema.name.to_string());
    let of_lists = of_version.iter().filter(|r| r.allows("list")).map(|r| list_of(r));
    let names = definitions.closure(in_paths.chain(of_kinds).chain(of_lists));

    // Written piece by piece: the whole as one tree would take several times the memory of its text.
    let mut out = Vec::with_capacity(1 << 20);
    out.extend_from_slice(br#"{"openapi":"3.0.0","info":"#);
    write(&mut out, &json!({ "title": "Kubernetes", "version": VERSION }));
    out.extend_from_slice(br#","paths":{"#);
    entries(&mut out, paths.iter().map(|item| (item.path.as_str(), path_item(item))));
    out.extend_from_slice(br#"},"components":{"schemas":{"#);
    entries(&mut out, names.iter().filter_map(|name| Some((name.as_str(), schema(name, definitions.get(name)?)))));
    out.extend_from_slice(br#"},"securitySchemes":"#);
    write(
        &mut out,
        &json!({ "BearerToken": {
            "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
        } }),
    );
    out.extend_from_slice(b"}}");
    Some(out)
}

fn path_item(item: &PathItem) -> Value {
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
    let mut out = json!({
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
    });
    if !operation.parameters.is_empty() {
        out["parameters"] = operation.parameters.iter().copied().map(parameter).collect();
    }
    if let Some(body) = &operation.body {
        let schema = json!({ "schema": { "$ref": format!("{V3_PREFIX}{}", body.definition) } });
        let content: Map<String, Value> =
            body.media_types.iter().map(|media_type| (media_type.to_string(), schema.clone())).collect();
        out["requestBody"] = json!({ "content": content });
        if body.required {
            out["requestBody"]["required"] = true.into();
        }
    }
    let mut responses = Map::new();
    for (code, words) in &operation.responses {
        responses.insert((*code).into(), json!({ "description": words, "content": content(operation) }));
    }
    responses.insert("401".into(), json!({ "description": "Unauthorized" }));
    out["responses"] = responses.into();
    if !operation.action.is_empty() {
        out["x-kubernetes-action"] = operation.action.into();
    }
    if let Some(kind) = &operation.kind {
        out["x-kubernetes-group-version-kind"] = kind.json();
    }
    out
}

fn content(operation: &Operation) -> Value {
    let Some(answer) = &operation.answer else {
        return json!({ "*/*": { "schema": { "type": "string" } } });
    };
    let schema = json!({ "schema": { "$ref": format!("{V3_PREFIX}{answer}") } });
    let streams: &[&str] = if operation.streams { &["application/json;stream=watch"] } else { &[] };
    FORMATS.iter().chain(streams).map(|media_type| (media_type.to_string(), schema.clone())).collect()
}

fn parameter(parameter: &Parameter) -> Value {
    let mut out = json!({
        "name": parameter.name,
        "in": if parameter.in_path { "path" } else { "query" },
        "description": parameter.description,
        "schema": { "type": parameter.r#type, "uniqueItems": true },
    });
    if parameter.in_path {
        out["required"] = true.into();
    }
    out
}

const V3_PREFIX: &str = "#/components/schemas/";

/// A definition of v2 as v3 has it.
fn schema(name: &str, mut definition: Value) -> Value {
    let alternatives = match name.rsplit('.').next() {
        Some("Quantity") => json!([{ "type": "string" }, { "type": "number" }]),
        Some("IntOrString") => json!([{ "type": "integer" }, { "type": "string" }]),
        _ => {
            refer(&mut definition);
            return definition;
        }
    };
    if let Value::Object(map) = &mut definition {
        map.shift_remove("type");
        map.insert("oneOf".into(), alternatives);
    }
    definition
}

/// References move, and stand alone: what is said beside one goes around it.
fn refer(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(refer);
            let reference = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(PREFIX));
            if let Some(name) = reference {
                let reference = json!({ "$ref": format!("{V3_PREFIX}{name}") });
                map.shift_remove("$ref");
                if map.is_empty() {
                    *value = reference;
                } else {
                    map.insert("allOf".into(), json!([reference]));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(refer),
        _ => {}
    }
}

fn write(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("memory takes all bytes");
}

/// The entries of a JSON object, without its braces.
pub fn entries<'a>(out: &mut Vec<u8>, entries: impl Iterator<Item = (&'a str, Value)>) {
    for (index, (name, value)) in entries.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, &Value::from(name));
        out.push(b':');
        write(out, &value);
    }
}
