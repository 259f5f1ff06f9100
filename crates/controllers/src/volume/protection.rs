//! Claims that a pod uses, volumes that a claim has and attributes that either names are not removed under them: a
//! finalizer holds what is deleted until the last user is gone.

use std::{fmt::Debug, sync::Arc};

use claims::{ATTRIBUTES_PROTECTION, CLAIM_PROTECTION, VOLUME_PROTECTION};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::VolumeAttributesClass,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{bind::pinned, claim::uses};
use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::Change,
    queue::{Key, Queue},
};

/// Of claims.
pub(crate) async fn claims(shared: Shared) {
    let queue = Queue::default();
    shared.claims.synced().await;
    shared.pods.synced().await;
    let on_claim = queue.clone();
    shared.claims.listen(move |change| {
        if let Change::Applied { new, .. } = change {
            on_claim.add(Key::of(&**new));
        }
    });
    let (on_pod, known) = (queue.clone(), shared.claims.clone());
    shared.pods.listen(move |change| {
        let Change::Deleted(pod) = change else { return };
        let namespace = pod.namespace().unwrap_or_default();
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            let name = match &volume.persistent_volume_claim {
                Some(claim) => claim.claim_name.clone(),
                None => format!("{}-{}", pod.name_any(), volume.name),
            };
            let key = Key::new(namespace.clone(), name);
            if known.get(&key).is_some_and(|c| c.metadata.deletion_timestamp.is_some()) {
                on_pod.add(key);
            }
        }
    });
    let shared = Arc::new(shared);
    queue.work("pvc-protection", 4, |key| protect_claim(shared.clone(), key)).await;
}

async fn protect_claim(shared: Arc<Shared>, key: Key) -> Result<(), Error> {
    let Some(claim) = shared.claims.get(&key) else { return Ok(()) };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &key.namespace);
    if claim.metadata.deletion_timestamp.is_none() {
        return add(&api, &*claim, CLAIM_PROTECTION).await;
    }
    if !has(&*claim, CLAIM_PROTECTION) || shared.pods.in_namespace(&key.namespace).iter().any(|p| holds(p, &claim)) {
        return Ok(());
    }
    // The cache may not show a pod that came a moment ago; what is removed can't be had back.
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &key.namespace);
    if pods.list(&ListParams::default()).await?.iter().any(|p| holds(p, &claim)) {
        return Err(Error::NotYet("a pod uses the claim"));
    }
    remove(&api, &*claim, CLAIM_PROTECTION).await
}

/// A pod without a node holds nothing: its node would not start it with a claim that is going.
fn holds(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty()) && uses(pod, claim)
}

/// Of volumes.
pub(crate) async fn volumes(shared: Shared) {
    let queue = Queue::default();
    shared.volumes.synced().await;
    let on_volume = queue.clone();
    shared.volumes.listen(move |change| {
        if let Change::Applied { new, .. } = change {
            on_volume.add(Key::of(&**new));
        }
    });
    let shared = Arc::new(shared);
    queue.work("pv-protection", 4, |key| protect_volume(shared.clone(), key)).await;
}

async fn protect_volume(shared: Arc<Shared>, key: Key) -> Result<(), Error> {
    let Some(volume) = shared.volumes.get(&key) else { return Ok(()) };
    let api: Api<PersistentVolume> = Api::all(shared.client.clone());
    if volume.metadata.deletion_timestamp.is_none() {
        return add(&api, &*volume, VOLUME_PROTECTION).await;
    }
    match claims::volume_phase(&volume) == "Bound" || !has(&*volume, VOLUME_PROTECTION) {
        true => Ok(()),
        false => remove(&api, &*volume, VOLUME_PROTECTION).await,
    }
}

/// Of the classes of volumes' attributes.
pub(crate) async fn attributes_classes(shared: Shared) {
    let queue = Queue::default();
    shared.attributes_classes.synced().await;
    shared.claims.synced().await;
    shared.volumes.synced().await;
    let on_class = queue.clone();
    shared.attributes_classes.listen(move |change| {
        if let Change::Applied { new, .. } = change {
            on_class.add(Key::of(&**new));
        }
    });
    // Whoever named one may have been the last.
    let on_claim = queue.clone();
    shared.claims.listen(move |change| {
        let named = change.states().flat_map(|claim| named_by_claim(claim).map(str::to_owned));
        named.for_each(|name| on_claim.add(Key::new("", name)));
    });
    let on_volume = queue.clone();
    shared.volumes.listen(move |change| {
        let named = change.states().filter_map(|volume| named_by_volume(volume).map(str::to_owned));
        named.for_each(|name| on_volume.add(Key::new("", name)));
    });
    let shared = Arc::new(shared);
    queue.work("vac-protection", 1, |key| protect_attributes_class(shared.clone(), key)).await;
}

async fn protect_attributes_class(shared: Arc<Shared>, key: Key) -> Result<(), Error> {
    let Some(class) = shared.attributes_classes.get(&key) else { return Ok(()) };
    let api: Api<VolumeAttributesClass> = Api::all(shared.client.clone());
    if class.metadata.deletion_timestamp.is_none() {
        return add(&api, &*class, ATTRIBUTES_PROTECTION).await;
    }
    let used = shared.claims.all().iter().any(|claim| named_by_claim(claim).any(|name| name == key.name))
        || shared.volumes.all().iter().any(|volume| named_by_volume(volume) == Some(&key.name));
    match used || !has(&*class, ATTRIBUTES_PROTECTION) {
        true => Ok(()),
        false => remove(&api, &*class, ATTRIBUTES_PROTECTION).await,
    }
}

/// The classes that a claim asks for, has, or is on its way to.
fn named_by_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    [
        claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref()),
        status.and_then(|s| s.current_volume_attributes_class_name.as_deref()),
        status.and_then(|s| s.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref()),
    ]
    .into_iter()
    .flatten()
    .filter(|name| !name.is_empty())
}

fn named_by_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref().filter(|name| !name.is_empty())
}

fn has(object: &impl Resource, finalizer: &str) -> bool {
    object.finalizers().iter().any(|f| f == finalizer)
}

async fn add<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    if has(object, finalizer) {
        return Ok(());
    }
    let all: Vec<&str> = object.finalizers().iter().map(String::as_str).chain([finalizer]).collect();
    set(api, object, &all).await
}

async fn remove<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let all: Vec<&str> = object.finalizers().iter().map(String::as_str).filter(|f| *f != finalizer).collect();
    set(api, object, &all).await
}

async fn set<K>(api: &Api<K>, object: &K, finalizers: &[&str]) -> Result<(), Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut patch = json!({"metadata": pinned(object)});
    patch["metadata"]["finalizers"] = json!(finalizers);
    gone_is_fine(api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
}
