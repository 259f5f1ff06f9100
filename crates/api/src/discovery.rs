//! What the server says of itself: its groups, versions and resources, as plain and as aggregated
//! discovery documents, and `/version`.
//!
//! All are pure functions over entries, so that kinds defined at run time can be told of beside the
//! built-in ones. Documents are JSON text.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::resource::{Resource, Subresource};

/// What `/version` says as `gitVersion`: the Kubernetes version whose API is served, and ours.
pub const VERSION: &str = concat!("v1.36.0+hythe.", env!("CARGO_PKG_VERSION"));

/// Media type parameters that ask for an aggregated document, and the API version of what is answered.
pub const AGGREGATED: [(&str, &str); 2] = [
    ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "apidiscovery.k8s.io/v2"),
    ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", "apidiscovery.k8s.io/v2beta1"),
];

/// `/version`.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": VERSION,
        "gitCommit": option_env!("HYTHE_COMMIT").unwrap_or(NO_COMMIT),
        "gitTreeState": "clean",
        "buildDate": option_env!("HYTHE_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        "goVersion": "",
        "compiler": "rustc",
        "platform": PLATFORM,
    })
}

/// What stands for a commit where the build was not told of one: clients expect hexadecimal digits (upstream's conformance
/// tests do).
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// `/api`: the versions of the core group; `server_address` is `host:port` as clients reach it.
pub fn core_versions(server_address: &str) -> Vec<u8> {
    text(&json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": server_address }],
    }))
}

/// `/apis`: all groups but the core group.
pub fn group_list(resources: &[&Resource]) -> Vec<u8> {
    let groups: Vec<Value> =
        groups(resources).iter().filter(|(name, _)| !name.is_empty()).map(|(name, v)| group_entry(name, v)).collect();
    text(&json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
}

/// `/apis/GROUP`; `None` if there is no such group.
pub fn group(resources: &[&Resource], name: &str) -> Option<Vec<u8>> {
    let groups = groups(resources);
    let (_, versions) = groups.iter().find(|(n, _)| *n == name && !n.is_empty())?;
    let mut document = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    merge(&mut document, group_entry(name, versions));
    Some(text(&document))
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` if there is no such group and version.
pub fn resource_list(resources: &[&Resource], group: &str, version: &str) -> Option<Vec<u8>> {
    let of_version = of_version(resources, group, version);
    let group_version = of_version.first()?.api_version;
    let mut entries = Vec::new();
    for resource in of_version {
        entries.push(resource_entry(resource));
        entries.extend(resource.subresources.iter().map(|sub| subresource_entry(resource, sub)));
    }
    let mut document = json!({ "kind": "APIResourceList" });
    // Upstream leaves it out for the core group.
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    document["groupVersion"] = group_version.into();
    document["resources"] = entries.into();
    Some(text(&document))
}

/// `/api` (`core`) and `/apis` as one document each; `api_version` as in [`AGGREGATED`].
pub fn aggregated(resources: &[&Resource], core: bool, api_version: &str) -> Vec<u8> {
    let items: Vec<Value> = groups(resources)
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let entries: Vec<Value> =
                        of_version(resources, name, version).into_iter().map(aggregated_entry).collect();
                    json!({ "version": version, "resources": entries, "freshness": "Current" })
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    text(&json!({ "kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items }))
}

/// A strong entity tag for a document, quotes included.
pub fn etag(document: &[u8]) -> String {
    let digest = Sha256::digest(document);
    let mut tag = String::with_capacity(2 + 2 * digest.len());
    tag.push('"');
    for byte in &digest {
        for nibble in [byte >> 4, byte & 15] {
            tag.push(char::from_digit(u32::from(nibble), 16).map_or('0', |c| c.to_ascii_uppercase()));
        }
    }
    tag.push('"');
    tag
}

/// Groups with their versions, in the order of their first entry.
fn groups<'a>(resources: &[&'a Resource]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in resources {
        match groups.iter_mut().find(|(name, _)| *name == resource.group) {
            None => groups.push((resource.group, vec![resource.version])),
            Some((_, versions)) if !versions.contains(&resource.version) => versions.push(resource.version),
            Some(_) => {}
        }
    }
    groups
}

fn of_version<'a>(resources: &[&'a Resource], group: &str, version: &str) -> Vec<&'a Resource> {
    let mut found: Vec<&Resource> =
        resources.iter().copied().filter(|r| r.group == group && r.version == version).collect();
    found.sort_by_key(|r| r.plural);
    found
}

fn group_entry(name: &str, versions: &[&str]) -> Value {
    let version = |v: &&str| json!({ "groupVersion": format!("{name}/{v}"), "version": v });
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({ "name": name, "preferredVersion": all.first(), "versions": all })
}

fn resource_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    names(&mut entry, resource);
    if resource.allows("watch") {
        entry["storageVersionHash"] = storage_version_hash(resource).into();
    }
    entry
}

fn subresource_entry(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.namespaced,
    });
    if let Some((group, version)) = sub.group_version {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry["kind"] = sub.kind.into();
    entry["verbs"] = json!(sub.verbs);
    entry
}

fn aggregated_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": response_kind(None, resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    names(&mut entry, resource);
    if !resource.subresources.is_empty() {
        let subresources: Vec<Value> = resource
            .subresources
            .iter()
            .map(|sub| {
                json!({
                    "subresource": sub.name,
                    "responseKind": response_kind(sub.group_version, sub.kind),
                    "verbs": sub.verbs,
                })
            })
            .collect();
        entry["subresources"] = subresources.into();
    }
    entry
}

/// Group and version stay empty where they are those of the document.
fn response_kind(group_version: Option<(&str, &str)>, kind: &str) -> Value {
    let (group, version) = group_version.unwrap_or_default();
    json!({ "group": group, "version": version, "kind": kind })
}

fn names(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

/// The first 8 bytes of the SHA-256 of the kind as it is stored.
fn storage_version_hash(resource: &Resource) -> String {
    let (group, version) = resource.storage.version;
    let digest = Sha256::digest(format!("{group}/{version}/{}", resource.kind));
    BASE64_STANDARD.encode(&digest[..8])
}

fn merge(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend::<Map<String, Value>>(more);
    }
}

fn text(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("a value made of strings and lists can be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("a document is JSON")
    }

    #[test]
    fn the_version_names_a_commit_as_clients_expect_it() {
        let commit = version()["gitCommit"].as_str().expect("text").to_owned();
        assert!(!commit.is_empty() && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{commit:?}");
    }

    #[test]
    fn the_core_group_is_told_as_upstream_tells_it() {
        let document = parsed(&resource_list(catalogue::all(), "", "v1").expect("the core group is there"));
        assert_eq!(document["groupVersion"], "v1");
        let entries = document["resources"].as_array().expect("a list");
        let names: Vec<&str> = entries.iter().filter_map(|e| e["name"].as_str()).collect();
        assert_eq!(names, CORE);
        let pods = entries.iter().find(|e| e["name"] == "pods").expect("pods are there");
        assert_eq!(
            pods,
            &json!({
                "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                "shortNames": ["po"], "categories": ["all"], "storageVersionHash": "xPOwRZ+Yhw8=",
            })
        );
        let eviction = entries.iter().find(|e| e["name"] == "pods/eviction").expect("it is there");
        assert_eq!(
            eviction,
            &json!({"name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy",
                "version": "v1", "kind": "Eviction", "verbs": ["create"]})
        );
        assert!(resource_list(catalogue::all(), "", "v2").is_none());
    }

    /// `api/discovery/api__v1.json` of Kubernetes, less the alpha `pods/checkpoint`.
    const CORE: [&str; 39] = [
        "bindings",
        "componentstatuses",
        "configmaps",
        "endpoints",
        "events",
        "limitranges",
        "namespaces",
        "namespaces/finalize",
        "namespaces/status",
        "nodes",
        "nodes/proxy",
        "nodes/status",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "persistentvolumes",
        "persistentvolumes/status",
        "pods",
        "pods/attach",
        "pods/binding",
        "pods/ephemeralcontainers",
        "pods/eviction",
        "pods/exec",
        "pods/log",
        "pods/portforward",
        "pods/proxy",
        "pods/resize",
        "pods/status",
        "podtemplates",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "replicationcontrollers/status",
        "resourcequotas",
        "resourcequotas/status",
        "secrets",
        "serviceaccounts",
        "serviceaccounts/token",
        "services",
        "services/proxy",
        "services/status",
    ];

    #[test]
    fn storage_hashes_are_those_of_the_stored_version() {
        let hash = |group, version, plural| {
            storage_version_hash(catalogue::by_plural(group, version, plural).expect("it is in the catalogue"))
        };
        assert_eq!(hash("apps", "v1", "deployments"), "8aSe+NMegvE=");
        assert_eq!(hash("", "v1", "services"), "0/CO1lhkEBI=");
        assert_eq!(hash("events.k8s.io", "v1", "events"), "r2yiGXH7wu8=");
        assert_eq!(hash("autoscaling", "v1", "horizontalpodautoscalers"), "qwQve8ut294=");
    }

    #[test]
    fn groups_name_their_preferred_version_first() {
        let list = parsed(&group_list(catalogue::all()));
        let autoscaling = parsed(&group(catalogue::all(), "autoscaling").expect("it is a group"));
        assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(autoscaling["versions"].as_array().map(Vec::len), Some(2));
        assert_eq!(list["groups"].as_array().map(Vec::len), Some(23));
        assert!(list["groups"].as_array().is_some_and(|all| all.iter().all(|g| g["name"] != "")));
        assert!(group(catalogue::all(), "").is_none());
    }

    #[test]
    fn the_aggregated_documents_hold_every_resource_and_subresource() {
        let count = |core| {
            let document = parsed(&aggregated(catalogue::all(), core, AGGREGATED[0].1));
            assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
            let mut count = 0;
            for version in document["items"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|g| g["versions"].as_array().cloned().unwrap_or_default())
            {
                for resource in version["resources"].as_array().into_iter().flatten() {
                    count += 1 + resource["subresources"].as_array().map_or(0, Vec::len);
                }
            }
            count
        };
        let all: usize = catalogue::all().iter().map(|r| 1 + r.subresources.len()).sum();
        assert_eq!(count(true) + count(false), all);
        assert_eq!(count(true), CORE.len());
    }
}
