//! Between the version that is stored and the one that is served.

use api::resource::Resource;
use bytes::Bytes;
use serde_json::Value;

use crate::cache::Cached;

/// Whether objects of this version are stored as they are.
pub(crate) fn is_stored(resource: &Resource) -> bool {
    resource.storage.version == (resource.group, resource.version)
}

/// Stored bytes in the served version: the same bytes for all kinds but a few.
pub(crate) fn served_bytes(resource: &Resource, stored: &Bytes) -> Bytes {
    if is_stored(resource) {
        return stored.clone();
    }
    let mut tree = serde_json::from_slice(stored).unwrap_or(Value::Null);
    to_served(resource, &mut tree);
    Bytes::from(tree.to_string())
}

/// A stored object as a tree in the served version.
pub(crate) fn served_tree(resource: &Resource, stored: &Cached) -> Value {
    let mut tree = stored.parse();
    to_served(resource, &mut tree);
    tree
}

/// Turns a stored tree into the served version.
pub(crate) fn to_served(resource: &Resource, tree: &mut Value) {
    if is_stored(resource) {
        return;
    }
    if let Some(convert) = resource.storage.from_stored {
        convert(tree);
    }
    tree["apiVersion"] = resource.api_version.into();
}

/// Turns a tree of the served version into the stored one.
pub(crate) fn to_stored(resource: &Resource, tree: &mut Value) {
    if is_stored(resource) {
        return;
    }
    if let Some(convert) = resource.storage.to_stored {
        convert(tree);
    }
    let (group, version) = resource.storage.version;
    tree["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
}
