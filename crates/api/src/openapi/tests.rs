use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::catalogue;

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("a document is JSON")
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found.insert(reference.clone());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// `$ref` is also the name of a property of `JSONSchemaProps`, whose value is an object, not a string.
fn all_resolve(document: &Value) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("references are local");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_v3_document_of_the_index_exists_and_is_closed() {
    let index = parsed(&index(catalogue::all()));
    let paths = index["paths"].as_object().expect("the index has paths");
    assert_eq!(paths.len(), 26);
    for (path, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().expect("an entry has a URL");
        let parts: Vec<&str> = path.split('/').collect();
        let (group, version) = match parts.as_slice() {
            ["api", version] => ("", *version),
            ["apis", group, version] => (*group, *version),
            _ => panic!("{path}"),
        };
        assert_eq!(url, format!("/openapi/v3/{path}?hash={}", hash(catalogue::all(), group, version)));
        let document = parsed(&v3(catalogue::all(), group, version).expect("it is in the index"));
        all_resolve(&document);
        for resource in catalogue::of_group_version(group, version) {
            let schema = &document["components"]["schemas"][resource.schema.name];
            let kinds = schema["x-kubernetes-group-version-kind"].as_array().expect("a kind says which it is");
            assert!(kinds.contains(&json!({"group": group, "kind": resource.kind, "version": version})));
        }
    }
    assert!(v3(catalogue::all(), "apps", "v9").is_none());
}

#[test]
fn every_verb_of_every_kind_has_an_operation() {
    let document = parsed(&v2(catalogue::all()));
    for resource in catalogue::all() {
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{}{scope}/{}", root(resource.group, resource.version), resource.plural);
        let item = format!("{collection}/{{name}}");
        for verb in resource.verbs {
            let (path, method, action) = match *verb {
                "create" => (&collection, "post", "post"),
                "deletecollection" => (&collection, "delete", "deletecollection"),
                "list" | "watch" => (&collection, "get", "list"),
                "get" => (&item, "get", "get"),
                "update" => (&item, "put", "put"),
                "patch" => (&item, "patch", "patch"),
                "delete" => (&item, "delete", "delete"),
                verb => panic!("{verb}"),
            };
            let operation = &document["paths"][path][method];
            assert_eq!(operation["x-kubernetes-action"], action, "{method} {path}");
            assert_eq!(
                operation["x-kubernetes-group-version-kind"],
                json!({"group": resource.group, "kind": resource.kind, "version": resource.version})
            );
        }
        for sub in resource.subresources {
            let operations = document["paths"][format!("{item}/{}", sub.name)].as_object().expect("it has a path");
            assert_eq!(operations.keys().filter(|k| *k != "parameters").count(), sub.verbs.len(), "{}", sub.name);
        }
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let document = parsed(&v2(catalogue::all()));
    let mut seen = BTreeSet::new();
    for operations in document["paths"].as_object().expect("it has paths").values() {
        for operation in operations.as_object().into_iter().flat_map(Map::values) {
            if let Some(id) = operation["operationId"].as_str() {
                assert!(seen.insert(id.to_string()), "{id} stands twice");
            }
        }
    }
    for id in [
        "listCoreV1PodForAllNamespaces",
        "createAppsV1NamespacedDeployment",
        "deleteCoreV1CollectionNamespacedPod",
        "replaceAppsV1NamespacedDeploymentScale",
        "connectCoreV1GetNamespacedPodExec",
        "connectCoreV1PutNodeProxyWithPath",
        "readRbacAuthorizationV1ClusterRole",
    ] {
        assert!(seen.contains(id), "{id}");
    }
}

#[test]
fn writes_offer_what_kubectl_looks_for() {
    let document = parsed(&v3(catalogue::all(), "apps", "v1").expect("apps/v1 is served"));
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let names = |operation: &Value| -> Vec<String> {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().filter_map(|p| p["name"].as_str().map(Into::into)).collect()
    };
    for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
        assert!(names(&item["patch"]).contains(&name.to_string()), "{name}");
    }
    assert!(item["patch"]["requestBody"]["content"]["application/apply-patch+yaml"].is_object());
}

#[test]
fn collections_are_described_in_the_words_that_upstreams_own_suite_looks_for() {
    let document = String::from_utf8(v2(catalogue::all()).to_vec()).expect("it is text");
    for words in ["list of returned", "List of services", "Watch for changes to the described resources"] {
        assert!(document.contains(words), "{words}");
    }
}

#[test]
fn definitions_say_how_they_merge() {
    let document = parsed(&v2(catalogue::all()));
    let property = |of: &str, name: &str| document["definitions"][of]["properties"][name].clone();
    let containers = property("io.k8s.api.core.v1.PodSpec", "containers");
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert!(containers["description"].as_str().is_some_and(|d| d.contains("containers belonging to the pod")));
    let volumes = property("io.k8s.api.core.v1.PodSpec", "volumes");
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(property("io.k8s.api.core.v1.ContainerPort", "protocol")["default"], "TCP");
    assert_eq!(property("io.k8s.api.core.v1.ServiceSpec", "selector")["x-kubernetes-map-type"], "atomic");
    all_resolve(&document);
}

#[test]
fn quantities_and_int_or_strings_take_both_forms_in_v3() {
    let document = parsed(&v3(catalogue::all(), "", "v1").expect("v1 is served"));
    let schemas = &document["components"]["schemas"];
    let quantity = &schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"];
    assert_eq!(quantity["oneOf"], json!([{"type": "string"}, {"type": "number"}]));
    assert!(quantity.get("type").is_none());
    let metadata = &schemas["io.k8s.api.core.v1.Pod"]["properties"]["metadata"];
    assert_eq!(
        metadata["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}])
    );
}

/// Reads a message into its length-delimited and varint fields.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().expect("a varint ends");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => found.push((tag >> 3, varint(&mut bytes).to_le_bytes().to_vec())),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("it fits in memory");
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                found.push((tag >> 3, value.to_vec()));
            }
            wire => panic!("wire type {wire}"),
        }
    }
    found
}

#[test]
fn the_protobuf_form_holds_the_same_paths_and_definitions() {
    let json = parsed(&v2(catalogue::all()));
    let document = fields(&v2_protobuf(catalogue::all()));
    let message = |number: u64| {
        let (_, bytes) = document.iter().find(|(field, _)| *field == number).expect("the field is there");
        fields(bytes)
    };
    let names = |entries: Vec<(u64, Vec<u8>)>| -> Vec<String> {
        entries
            .iter()
            .map(|(_, entry)| String::from_utf8(fields(entry)[0].1.clone()).expect("a name is text"))
            .collect()
    };
    let keys = |value: &Value| -> Vec<String> { value.as_object().expect("an object").keys().cloned().collect() };
    assert_eq!(names(message(8)), keys(&json["paths"]));
    assert_eq!(names(message(9)), keys(&json["definitions"]));
}
