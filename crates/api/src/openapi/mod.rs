//! OpenAPI documents: v3, one a group and version with an index, and v2, one for all, as JSON and in
//! the protobuf form that kubectl asks for.
//!
//! Documents are derived from entries and from the described definitions that the build embeds
//! compressed. Nothing is kept: they are asked for seldom and are large, so each call makes its document
//! anew; callers may cache by [`hash`].

mod custom;
mod definitions;
mod operations;
mod parameters;
mod protobuf;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub use custom::custom_resource_definitions;

use crate::resource::Resource;

/// Media type of the protobuf form of v2.
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What clients ask for instead of [`PROTOBUF`]; it is no legal media type, so no answer may bear it.
pub const PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Changes with the definitions, the crate's version and the code of the catalogue and of this module.
const BUILD: u64 = include!(concat!(env!("OUT_DIR"), "/hash.rs"));

/// `/openapi/v3`: where the document of each group and version is.
pub fn index(resources: &[&Resource]) -> Vec<u8> {
    let mut paths: BTreeMap<String, Value> = BTreeMap::new();
    for resource in resources {
        let path = root(resource.group, resource.version);
        let path = path.trim_start_matches('/');
        if !paths.contains_key(path) {
            let hash = hash(resources, resource.group, resource.version);
            paths.insert(path.into(), json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") }));
        }
    }
    let paths: Map<String, Value> = paths.into_iter().collect();
    serde_json::to_vec(&json!({ "paths": paths })).expect("a value made of strings can be written")
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/VERSION` as JSON; `None` if there is no such version.
pub fn v3(resources: &[&Resource], group: &str, version: &str) -> Option<Vec<u8>> {
    v3::document(resources, group, version)
}

/// `/openapi/v2` as JSON.
pub fn v2(resources: &[&Resource]) -> Vec<u8> {
    v2::document(resources)
}

/// `/openapi/v2` in the form of [`PROTOBUF`].
pub fn v2_protobuf(resources: &[&Resource]) -> Vec<u8> {
    protobuf::document(resources)
}

/// What the `hash` parameter and the entity tag of one group and version's document are made of: 16
/// hexadecimal digits.
pub fn hash(resources: &[&Resource], group: &str, version: &str) -> String {
    let of_version = resources.iter().filter(|r| r.group == group && r.version == version);
    format!("{:016X}", digest(of_version))
}

/// The same for the v2 documents.
pub fn hash_of_all(resources: &[&Resource]) -> String {
    format!("{:016X}", digest(resources.iter()))
}

/// FNV-1a over what tells entries apart within one build.
fn digest<'a>(resources: impl Iterator<Item = &'a &'a Resource>) -> u64 {
    let fnv = |hash: u64, text: &str| {
        text.bytes().chain([0]).fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    resources.fold(BUILD, |hash, resource| {
        [resource.group, resource.version, resource.plural, resource.kind, resource.schema.name]
            .into_iter()
            .fold(hash, fnv)
    })
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// A kind with its group and version, as `x-kubernetes-group-version-kind` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupVersionKind {
    group: String,
    version: String,
    kind: String,
}

impl GroupVersionKind {
    fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    fn json(&self) -> Value {
        json!({ "group": self.group, "kind": self.kind, "version": self.version })
    }
}
