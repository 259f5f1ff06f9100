//! Which objects belong to an owner: those it controls and selects. Orphans that it selects are adopted, what it
//! no longer selects is released.

use std::{fmt::Debug, sync::Arc};

use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{Selector, SelectorExt},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    Error,
    informer::Informer,
    ownership::{controller_key, controller_of, controller_reference},
    queue::{Key, Queue},
};

/// A kind in namespaces.
pub trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// How an owner takes objects.
pub struct Claim<'a, O, K> {
    pub client: &'a Client,
    pub owner: &'a O,
    pub selector: &'a Selector,
    pub objects: &'a Informer<K>,
    /// A finalizer that goes with ownership.
    pub finalizer: Option<&'a str>,
}

impl<O: Namespaced, K: Namespaced> Claim<'_, O, K> {
    /// The owner's objects; only orphans that are `adoptable` are taken.
    pub async fn all(&self, adoptable: impl Fn(&K) -> bool) -> Result<Vec<Arc<K>>, Error> {
        let namespace = self.owner.namespace().unwrap_or_default();
        let alive = self.owner.meta().deletion_timestamp.is_none();
        let controlled = self.objects.controlled_by(&self.owner.uid().unwrap_or_default());
        let (mut owned, lost): (Vec<_>, Vec<_>) =
            controlled.into_iter().partition(|o| self.selector.matches(o.labels()));
        if !alive {
            return Ok(owned);
        }
        let lost = lost.iter().filter(|o| o.meta().deletion_timestamp.is_none());
        let released = join_all(lost.map(|object| self.release(object))).await;
        let fresh = OnceCell::new();
        let orphans = self.objects.orphans(&namespace);
        let wanted = orphans
            .iter()
            .filter(|o| self.selector.matches(o.labels()) && o.meta().deletion_timestamp.is_none() && adoptable(o));
        for adopted in join_all(wanted.map(|object| self.adopt(object, &fresh))).await {
            owned.extend(adopted?);
        }
        released.into_iter().collect::<Result<(), Error>>()?;
        Ok(owned)
    }

    async fn release(&self, object: &K) -> Result<(), Error> {
        let mut metadata =
            json!({"uid": object.uid(), "ownerReferences": [{"$patch": "delete", "uid": self.owner.uid()}]});
        if let Some(finalizer) = self.finalizer {
            metadata["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
        }
        self.patch(object, metadata).await.map(drop)
    }

    async fn adopt(&self, object: &Arc<K>, fresh: &OnceCell<()>) -> Result<Option<Arc<K>>, Error> {
        fresh.get_or_try_init(|| self.recheck()).await?;
        let mut metadata = json!({"uid": object.uid(), "ownerReferences": [controller_reference(self.owner)]});
        if let Some(finalizer) = self.finalizer {
            metadata["finalizers"] = json!([finalizer]);
        }
        Ok(self.patch(object, metadata).await?.map(Arc::new))
    }

    /// The cache may not know yet that the owner is going, and let its objects go: ask the server.
    async fn recheck(&self) -> Result<(), Error> {
        let api: Api<O> = self.api();
        let live = api.get(&self.owner.name_any()).await?;
        let same = live.uid() == self.owner.uid() && live.meta().deletion_timestamp.is_none();
        if same { Ok(()) } else { Err(Error::NotYet("the owner is going, so it adopts nothing")) }
    }

    /// `None`: gone, or another object by now.
    async fn patch(&self, object: &K, metadata: Value) -> Result<Option<K>, Error> {
        let patch = Patch::Strategic(json!({"metadata": metadata}));
        let api: Api<K> = self.api();
        match api.patch(&object.name_any(), &PatchParams::default(), &patch).await.map_err(Error::from) {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn api<T: Namespaced>(&self) -> Api<T> {
        Api::namespaced(self.client.clone(), &self.owner.namespace().unwrap_or_default())
    }
}

/// A label selector in a form that matches.
pub fn parse(
    selector: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
) -> Result<Selector, Error> {
    let selector = selector.cloned().unwrap_or_default();
    Selector::try_from(selector).map_err(|e| Error::Object(format!("invalid label selector: {e}")))
}

/// Has `queue` told of the owner of every object that changes, and of every owner that may want an orphan.
pub fn tell_owners<O: Namespaced, K: Namespaced>(
    objects: &Informer<K>,
    owners: &Informer<O>,
    queue: &Queue,
    selector: fn(&O) -> Result<Selector, Error>,
) {
    let (queue, owners) = (queue.clone(), owners.clone());
    objects.listen(move |change| {
        for object in change.states() {
            if let Some(owner) = controller_key::<O>(&**object) {
                queue.add(owner);
            } else if controller_of(&**object).is_none() {
                let candidates = owners.in_namespace(&object.namespace().unwrap_or_default());
                let selects = |owner: &&Arc<O>| selector(owner).is_ok_and(|s| s.matches(object.labels()));
                candidates.iter().filter(selects).for_each(|owner| queue.add(Key::of(&**owner)));
            }
        }
    });
}
