//! The kinds that are Hythe's own or of the Gateway API, from the Rust types of `pattern-kinds`: derived schemas are
//! brought into the form in which `k8s-openapi` writes its own.

use k8s_openapi::schemars::SchemaGenerator;
use pattern_kinds::{gateway, patterns};
use serde_json::{Map, Value, json};

const PATTERNS: &str = "dev.hythe.patterns.v1";
const GATEWAY: &str = "io.k8s.networking.gateway.v1";
const GATEWAY_BETA: &str = "io.k8s.networking.gateway.v1beta1";

/// Whether a type is one of these.
pub fn is_declared(name: &str) -> bool {
    [PATTERNS, GATEWAY, GATEWAY_BETA]
        .iter()
        .any(|package| name.strip_prefix(package).is_some_and(|n| n.starts_with('.')))
}

/// Their definitions by name, with those that they refer to.
pub fn definitions() -> Map<String, Value> {
    let mut all = Map::new();
    macro_rules! visit {
        ($package:expr, $module:ident: $($kind:ident)*) => {{
            let mut generator = SchemaGenerator::default();
            $(let _ = generator.subschema_for::<$module::$kind>();)*
            take(generator, $package, &[$(stringify!($kind)),*], &mut all);
        }};
    }
    visit!(PATTERNS, patterns: ShardedService RequestSplit CacheTier RateLimit ScatterGather Sidecar);
    visit!(GATEWAY, gateway: GatewayClass Gateway HTTPRoute ReferenceGrant);
    // The same in its older version.
    let mut beta = all[&format!("{GATEWAY}.ReferenceGrant")].clone();
    beta["properties"]["apiVersion"]["description"] = "The version of this representation.".into();
    all.insert(format!("{GATEWAY_BETA}.ReferenceGrant"), beta);
    all
}

fn take(mut generator: SchemaGenerator, package: &str, kinds: &[&str], all: &mut Map<String, Value>) {
    for (name, mut definition) in generator.take_definitions(false) {
        // Types of Kubernetes have their full names, ours only that of the struct.
        if name.contains('.') {
            continue;
        }
        if kinds.contains(&name.as_str()) {
            let properties = definition["properties"].as_object_mut().expect("a kind has fields");
            for (field, description) in
                [("apiVersion", "The version of this representation."), ("kind", "The kind of this object.")]
            {
                properties.insert(field.into(), json!({"type": "string", "description": description}));
            }
        }
        settle(&mut definition, package);
        all.insert(format!("{package}.{name}"), definition);
    }
}

/// Drops what Rust's `Option` leaves behind, joins lines of descriptions, and gives names their package.
fn settle(value: &mut Value, package: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(either)) = map.get("anyOf")
                && let Some(one) = either.iter().find(|one| one["type"] != "null").cloned()
            {
                map.remove("anyOf");
                for (key, value) in one.as_object().expect("a schema is an object").clone() {
                    map.entry(key).or_insert(value);
                }
            }
            if let Some(Value::Array(types)) = map.get("type") {
                let one = types.iter().find(|one| *one != "null").expect("something besides null").clone();
                map.insert("type".into(), one);
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if map.get("default").is_some_and(|d| d.is_null() || *d == json!([]) || is_empty_object(d)) {
                map.remove("default");
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(name) = reference.strip_prefix("#/$defs/")
                && !name.contains('.')
            {
                *reference = format!("#/$defs/{package}.{name}");
            }
            map.values_mut().for_each(|value| settle(value, package));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| settle(item, package)),
        _ => {}
    }
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.is_empty() || map == &Map::from_iter([("metadata".into(), json!({}))]))
}
