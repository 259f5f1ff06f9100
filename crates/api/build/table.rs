//! Renders the definitions as Rust statics: one `Type` a definition, and a list of them sorted by name.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::{
    declared::is_declared,
    facts::{Fact, Facts},
    wire::Wire,
};

pub fn render(schema: &Map<String, Value>, facts: &Facts, wire: &Wire) -> String {
    let mut out = String::new();
    let mut names: Vec<&String> = schema.keys().filter(|name| is_struct(name, &schema[*name])).collect();
    names.sort();
    for name in &names {
        let definition = &schema[*name];
        let empty = Map::new();
        let mut fields: Vec<_> = definition["properties"].as_object().unwrap_or(&empty).iter().collect();
        fields.sort_by_key(|(field, _)| *field);
        write!(
            out,
            "/// `{name}`\npub static {}: Type = Type {{ name: {name:?}, atomic: {}, message: {}, fields: &[",
            identifier(name),
            facts.of_type(name).atomic,
            wire.message(name, &fields),
        )
        .expect(INFALLIBLE);
        for (field, property) in fields {
            let fact = facts.of_field(name, field);
            let required =
                definition["required"].as_array().is_some_and(|r| r.iter().any(|f| f.as_str() == Some(field)));
            write!(
                out,
                "\n    Field {{ name: {field:?}, required: {required}, keeps_zero: {}, default: {:?}, limits: {}, shape: {} }},",
                wire.keeps_zero(name, field),
                default(name, property, &fact),
                limits(name, property),
                shape(property, &fact, schema, facts)
            )
            .expect(INFALLIBLE);
        }
        out.push_str("\n] };\n");
    }
    write!(out, "/// All types, sorted by name.\npub(super) static ALL: [&Type; {}] = [", names.len())
        .expect(INFALLIBLE);
    for name in &names {
        write!(out, "&{}, ", identifier(name)).expect(INFALLIBLE);
    }
    out.push_str("];\n");
    out
}

const INFALLIBLE: &str = "writing to a String does not fail";

/// The default as JSON: of declared kinds the schema says it, of the others only `merge.txt`.
fn default(name: &str, property: &Value, fact: &Fact) -> Option<String> {
    let declared = property.get("default").filter(|_| is_declared(name)).map(Value::to_string);
    fact.default.clone().or(declared)
}

/// What the schema of a declared kind allows.
fn limits(name: &str, property: &Value) -> String {
    let number = |key: &str| property[key].as_i64().or(property[key].as_f64().map(|n| n as i64));
    let one_of: Vec<&str> = property["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (least, most) = (number("minimum").or(number("minItems")), number("maximum"));
    if !is_declared(name) || (one_of.is_empty() && least.is_none() && most.is_none()) {
        return "Limits::NONE".into();
    }
    format!("Limits {{ one_of: &{one_of:?}, least: {least:?}, most: {most:?} }}")
}

/// Types with fields, or without any but closed; the rest are scalars or open.
fn is_struct(name: &str, definition: &Value) -> bool {
    scalar(name).is_none() && definition["type"] == "object"
}

fn scalar(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next().unwrap_or_default() {
        "Time" => "Time",
        "MicroTime" => "MicroTime",
        "Quantity" => "Quantity",
        "IntOrString" => "IntOrString",
        "RawExtension" | "FieldsV1" | "JSON" | "Patch" | "CustomResourceSubresourceStatus" => "Any",
        union if union.starts_with("JSONSchemaPropsOr") => "Any",
        _ => return None,
    })
}

fn shape(property: &Value, fact: &Fact, schema: &Map<String, Value>, facts: &Facts) -> String {
    if let Some(reference) = property["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("references point to definitions");
        if let Some(scalar) = scalar(name) {
            return format!("Shape::{scalar}");
        }
        assert!(is_struct(name, &schema[name]), "{name} has no shape");
        return format!(
            "Shape::Object {{ of: &{}, atomic: {}, retain_keys: {}, replace: {} }}",
            identifier(name),
            fact.atomic || facts.of_type(name).atomic,
            fact.retain_keys,
            fact.replace
        );
    }
    match (property["type"].as_str(), property["format"].as_str()) {
        (Some("boolean"), _) => "Shape::Boolean".into(),
        (Some("integer"), Some("int32")) => "Shape::Int32".into(),
        (Some("integer"), _) => "Shape::Int64".into(),
        (Some("number"), _) => "Shape::Number".into(),
        (Some("string"), Some("byte")) => "Shape::Bytes".into(),
        (Some("string"), Some("date-time")) => "Shape::Time".into(),
        (Some("string"), _) => "Shape::String".into(),
        (Some("array"), _) => format!(
            "Shape::List {{ of: &{}, topology: {}, merge_key: {:?}, retain_keys: {} }}",
            shape(&property["items"], &Fact::default(), schema, facts),
            match &fact.map {
                Some(keys) => format!("ListTopology::Map(&{keys:?})"),
                None if fact.set => "ListTopology::Set".into(),
                None => "ListTopology::Atomic".into(),
            },
            fact.merge,
            fact.retain_keys,
        ),
        (Some("object"), _) if property["additionalProperties"].is_object() => format!(
            "Shape::Map {{ of: &{}, atomic: {} }}",
            shape(&property["additionalProperties"], &Fact::default(), schema, facts),
            fact.atomic
        ),
        _ => "Shape::Any".into(),
    }
}

/// `io.k8s.api.core.v1.PodSpec` is `core_v1_PodSpec`.
fn identifier(name: &str) -> String {
    let mut parts: Vec<&str> = name.rsplit('.').take(3).collect();
    parts.reverse();
    parts.join("_")
}
