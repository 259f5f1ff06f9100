//! The described definitions: unpacked, found by name, followed along their references.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
};

use flate2::read::DeflateDecoder;
use serde_json::{Value, json};

use super::GroupVersionKind;
use crate::{resource::Resource, schema};

static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/definitions.deflate"));

/// The definitions as text: lines of name, tab, JSON.
pub fn unpack() -> String {
    let mut text = String::new();
    DeflateDecoder::new(COMPRESSED).read_to_string(&mut text).expect("the build has compressed valid text");
    text
}

/// Definitions by name, with those of lists, which follow from the kinds.
pub struct Definitions<'a> {
    described: BTreeMap<&'a str, &'a str>,
    lists: BTreeMap<String, &'a Resource>,
    kinds: BTreeMap<String, Vec<GroupVersionKind>>,
}

impl<'a> Definitions<'a> {
    /// `text` is what [`unpack`] gives.
    pub fn new(text: &'a str, resources: &[&'a Resource]) -> Self {
        let described = text.lines().filter_map(|line| line.split_once('\t')).collect();
        let mut lists = BTreeMap::new();
        let mut kinds: BTreeMap<String, Vec<GroupVersionKind>> = BTreeMap::new();
        let mut add = |name: &str, kind: GroupVersionKind| {
            let of_name = kinds.entry(name.into()).or_default();
            if !of_name.contains(&kind) {
                of_name.push(kind);
            }
        };
        add(STATUS, GroupVersionKind::new("", "v1", "Status"));
        for resource in resources {
            let &&Resource { group, version, kind, .. } = resource;
            add(resource.schema.name, GroupVersionKind::new(group, version, kind));
            add(DELETE_OPTIONS, GroupVersionKind::new(group, version, "DeleteOptions"));
            if resource.allows("list") {
                let list = list_of(resource);
                add(&list, GroupVersionKind::new(group, version, &resource.list_kind()));
                lists.insert(list, *resource);
            }
            for sub in resource.subresources {
                let (group, version) = sub.group_version.unwrap_or((group, version));
                if let Some(name) = of_kind(resources, group, version, sub.kind) {
                    add(&name, GroupVersionKind::new(group, version, sub.kind));
                }
            }
        }
        Self { described, lists, kinds }
    }

    /// All names.
    pub fn names(&self) -> BTreeSet<String> {
        self.described.keys().map(ToString::to_string).chain(self.lists.keys().cloned()).collect()
    }

    /// The definition of that name in the form of OpenAPI v2.
    pub fn get(&self, name: &str) -> Option<Value> {
        let mut definition = match self.described.get(name) {
            Some(text) => serde_json::from_str(text).expect("the build has written JSON"),
            None => list_definition(self.lists.get(name)?),
        };
        if let Some(kinds) = self.kinds.get(name) {
            definition["x-kubernetes-group-version-kind"] = kinds.iter().map(GroupVersionKind::json).collect();
        }
        Some(definition)
    }

    /// These names and all that their definitions refer to.
    pub fn closure(&self, roots: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<String> = roots.into_iter().collect();
        while let Some(name) = open.pop() {
            if !found.contains(&name)
                && let Some(definition) = self.get(&name)
            {
                references(&definition, &mut open);
                found.insert(name);
            }
        }
        found
    }
}

pub const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The prefix of a reference in OpenAPI v2.
pub const PREFIX: &str = "#/definitions/";

/// The definition name of the list of a kind.
pub fn list_of(resource: &Resource) -> String {
    format!("{}List", resource.schema.name)
}

/// The definition name of a kind; `None` for kinds that are only query parameters (`PodExecOptions`).
pub fn of_kind(resources: &[&Resource], group: &str, version: &str, kind: &str) -> Option<String> {
    let of_entry = resources
        .iter()
        .find(|r| r.group == group && r.version == version && r.kind == kind)
        .map(|r| r.schema.name.to_string());
    of_entry.or_else(|| {
        // Kinds that only subresources take: their groups' packages are named like the group.
        let package = group.split('.').next().unwrap_or_default();
        let name = format!("io.k8s.api.{package}.{version}.{kind}");
        schema::type_named(&name).map(|_| name)
    })
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(PREFIX)) {
                found.push(name.into());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn list_definition(resource: &Resource) -> Value {
    let kind = resource.kind;
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {
                "description": "The group and version of this representation of the list.",
                "type": "string",
            },
            "items": {
                "description": format!("List of {}.", resource.plural),
                "type": "array",
                "items": { "$ref": format!("{PREFIX}{}", resource.schema.name) },
            },
            "kind": { "description": "The kind of the list.", "type": "string" },
            "metadata": { "description": "Standard list metadata.", "$ref": format!("{PREFIX}{LIST_META}") },
        },
    })
}
