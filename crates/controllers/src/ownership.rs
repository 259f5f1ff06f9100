//! Who controls what: owner references with `controller: true`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::queue::Key;

/// The reference to the object's controller.
pub fn controller_of(object: &impl Resource) -> Option<&OwnerReference> {
    object.meta().owner_references.as_ref()?.iter().find(|r| r.controller == Some(true))
}

/// The key of the object's controller if that is of kind `K` (by group and kind; versions change).
pub fn controller_key<K: Resource<DynamicType = ()>>(object: &impl Resource) -> Option<Key> {
    let owner = controller_of(object)?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    (owner.kind == K::kind(&()) && group == K::group(&()))
        .then(|| Key::new(object.namespace().unwrap_or_default(), owner.name.clone()))
}

/// Whether `object` is controlled by `owner`, this very one.
pub fn is_controlled_by(object: &impl Resource, owner: &impl Resource) -> bool {
    controller_of(object).is_some_and(|r| Some(&r.uid) == owner.meta().uid.as_ref())
}

/// A reference that makes `owner` the controller.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
