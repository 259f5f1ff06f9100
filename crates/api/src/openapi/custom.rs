//! CustomResourceDefinitions of kinds that are built in here, for clusters that have to be told of them: names, schema,
//! columns and subresources of the same entry that serves the kind.

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, PREFIX, unpack};
use crate::{catalogue, resource::Resource};

/// The groups whose kinds other clusters don't have.
const GROUPS: [&str; 2] = ["gateway.networking.k8s.io", "patterns.hythe.dev"];

/// The definitions, one a kind, in the order of the catalogue.
pub fn custom_resource_definitions() -> Vec<Value> {
    let text = unpack();
    let definitions = Definitions::new(&text, &[]);
    let entries = || catalogue::all().iter().copied().filter(|r| GROUPS.contains(&r.group));
    entries()
        .filter(|r| r.storage.to_stored.is_none())
        .map(|stored| {
            let versions: Vec<_> = entries().filter(|r| (r.group, r.kind) == (stored.group, stored.kind)).collect();
            definition(stored, &versions, &definitions)
        })
        .collect()
}

fn definition(stored: &Resource, versions: &[&Resource], definitions: &Definitions<'_>) -> Value {
    let mut names = json!({
        "plural": stored.plural,
        "singular": stored.singular,
        "kind": stored.kind,
        "listKind": stored.list_kind(),
    });
    if !stored.short_names.is_empty() {
        names["shortNames"] = json!(stored.short_names);
    }
    if !stored.categories.is_empty() {
        names["categories"] = json!(stored.categories);
    }
    let mut metadata = json!({"name": format!("{}.{}", stored.plural, stored.group)});
    if stored.group.ends_with(".k8s.io") {
        // API servers ask this of groups of the Kubernetes community.
        metadata["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, the subset that Hythe serves"});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": stored.group,
            "names": names,
            "scope": if stored.namespaced { "Namespaced" } else { "Cluster" },
            "versions": versions.iter().map(|r| version(r, stored, definitions)).collect::<Vec<_>>(),
        },
    })
}

fn version(resource: &Resource, stored: &Resource, definitions: &Definitions<'_>) -> Value {
    let mut schema = inline(definitions, resource.schema.name);
    schema["properties"]["metadata"] = json!({"type": "object"});
    let columns: Vec<Value> = resource.columns.iter().filter_map(column).collect();
    let mut version = json!({
        "name": resource.version,
        "served": true,
        "storage": resource.version == stored.version,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": columns,
    });
    if resource.subresource("status").is_some() {
        version["subresources"] = json!({"status": {}});
    }
    if resource.subresource("scale").is_some() {
        version["subresources"]["scale"] = json!({
            "specReplicasPath": resource.replicas_at.replace('/', "."),
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        });
    }
    version
}

fn column(column: &crate::resource::Column) -> Option<Value> {
    let (path, of_type) = match (column.name, column.path) {
        ("Age", _) => (".metadata.creationTimestamp", "date"),
        (_, "") => return None,
        (_, path) => (path, column.r#type),
    };
    let mut out = json!({"name": column.name, "type": of_type, "jsonPath": path, "description": column.description});
    if column.priority != 0 {
        out["priority"] = column.priority.into();
    }
    Some(out)
}

/// The schema of a type with all that it refers to in place, as a structural schema wants it.
fn inline(definitions: &Definitions<'_>, name: &str) -> Value {
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" | "IntOrString" => return json!({"x-kubernetes-int-or-string": true}),
        "Time" | "MicroTime" => return json!({"type": "string", "format": "date-time"}),
        _ => {}
    }
    let Some(mut definition) = definitions.get(name) else {
        return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    };
    // Whoever reads of a pod's fields has their descriptions already; here they would only be ballast.
    let describe = name.starts_with("dev.hythe.") || name.starts_with("io.k8s.networking.gateway.");
    settle(&mut definition, definitions, describe);
    definition
}

fn settle(schema: &mut Value, definitions: &Definitions<'_>, describe: bool) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(PREFIX)) {
        let mut target = inline(definitions, name);
        for key in ["description", "default", "x-kubernetes-map-type"] {
            match map.get(key) {
                Some(value) if key != "description" || describe => target[key] = value.clone(),
                _ if key == "description" => drop(target.as_object_mut().map(|t| t.remove(key))),
                _ => {}
            }
        }
        *schema = target;
        return;
    }
    map.retain(|key, _| !key.starts_with("x-kubernetes-patch-") && key != "x-kubernetes-group-version-kind");
    // To be absent means the same, and some API servers take an empty text for none at all.
    map.retain(|key, value| key != "default" || value != "");
    if !describe {
        map.remove("description");
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| settle(property, definitions, describe));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            settle(inner, definitions, describe);
        }
    }
    let open = map.get("type").is_none_or(|t| t == "object")
        && !map.contains_key("properties")
        && !map.contains_key("additionalProperties")
        && !map.contains_key("x-kubernetes-int-or-string");
    if open {
        map.insert("type".into(), "object".into());
        map.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    if !keys_have_values(map) {
        map.remove("x-kubernetes-list-map-keys");
        map.insert("x-kubernetes-list-type".into(), "atomic".into());
    }
}

/// Whether the keys of a list that is a map are always there, as API servers ask of definitions.
fn keys_have_values(list: &Map<String, Value>) -> bool {
    let Some(keys) = list.get("x-kubernetes-list-map-keys").and_then(Value::as_array) else { return true };
    let items = &list["items"];
    let required = items["required"].as_array().map_or(&[][..], Vec::as_slice);
    keys.iter().all(|key| {
        required.contains(key) || !items["properties"][key.as_str().unwrap_or_default()]["default"].is_null()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(schema: &Value, path: &str, look: &mut impl FnMut(&Value, &str)) {
        look(schema, path);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}.{name}"), look);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                walk(&schema[inner], &format!("{path}[]"), look);
            }
        }
    }

    #[test]
    fn every_kind_of_ours_has_a_definition_that_says_what_its_entry_says() {
        let all = custom_resource_definitions();
        let kinds: Vec<_> = all.iter().map(|d| d["spec"]["names"]["kind"].as_str().unwrap_or_default()).collect();
        assert_eq!(
            kinds,
            [
                "GatewayClass",
                "Gateway",
                "HTTPRoute",
                "ReferenceGrant",
                "CacheTier",
                "RateLimit",
                "RequestSplit",
                "ScatterGather",
                "ShardedService",
                "Sidecar"
            ]
        );
        for definition in &all {
            let spec = &definition["spec"];
            let versions = spec["versions"].as_array().expect("there are versions");
            assert_eq!(versions.iter().filter(|v| v["storage"] == true).count(), 1);
            for version in versions {
                let entry = catalogue::by_kind(
                    spec["group"].as_str().unwrap_or_default(),
                    version["name"].as_str().unwrap_or_default(),
                    spec["names"]["kind"].as_str().unwrap_or_default(),
                )
                .expect("it is in the catalogue");
                assert_eq!(spec["names"]["plural"], entry.plural);
                assert_eq!(spec["scope"] == "Namespaced", entry.namespaced);
                assert_eq!(version["subresources"]["status"].is_object(), entry.subresource("status").is_some());
                // All columns but the name, which every table has.
                let columns = version["additionalPrinterColumns"].as_array().expect("there are columns");
                assert_eq!(columns.len(), entry.columns.len() - 1, "{}", entry.kind);
            }
        }
    }

    #[test]
    fn schemas_are_structural() {
        for definition in custom_resource_definitions() {
            for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
                let schema = &version["schema"]["openAPIV3Schema"];
                walk(schema, definition["metadata"]["name"].as_str().unwrap_or_default(), &mut |schema, path| {
                    let free = schema["x-kubernetes-int-or-string"] == true;
                    assert!(schema["type"].is_string() || free, "{path} has no type: {schema}");
                    assert!(schema.get("$ref").is_none() && schema.get("anyOf").is_none(), "{path}");
                    if schema["type"] == "array" {
                        assert!(schema["items"].is_object(), "{path} has no items");
                    }
                    for required in schema["required"].as_array().into_iter().flatten() {
                        let name = required.as_str().unwrap_or_default();
                        assert!(schema["properties"][name].is_object(), "{path} requires {name}");
                    }
                });
            }
        }
    }

    #[test]
    fn defaults_and_limits_travel_with_the_schema() {
        let all = custom_resource_definitions();
        let of = |kind: &str| {
            let found = all.iter().find(|d| d["spec"]["names"]["kind"] == kind).expect("it has a definition");
            found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
        };
        let split = of("RequestSplit");
        assert_eq!(split["properties"]["port"]["default"], 80);
        assert_eq!(split["properties"]["port"]["maximum"], 65535);
        assert_eq!(split["properties"]["sticky"]["properties"]["by"]["enum"], json!(["Address", "Cookie", "Header"]));
        assert_eq!(split["required"], json!(["backends"]));
        let template =
            &of("ShardedService")["properties"]["shards"]["properties"]["template"]["properties"]["template"];
        let containers = &template["properties"]["spec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert!(containers.get("description").is_none());
    }
}
