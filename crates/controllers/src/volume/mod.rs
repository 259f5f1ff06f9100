//! PersistentVolumes and their claims: binding, protection, and the claims of generic ephemeral volumes.

pub mod attach;
pub mod ephemeral;
pub mod expand;
pub mod protection;

mod bind;
mod claim;
mod reclaim;

use std::sync::Arc;

use claims::{class_of, is_bound};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, ResourceExt};
use recording::Recorder;

use crate::{
    Error, Shared,
    informer::Change,
    queue::{Key, Queue},
};

/// Binds claims to volumes and sees to volumes whose claims are gone.
struct Binder {
    shared: Shared,
    recorder: Recorder,
}

/// A key without a namespace is a volume's, any other a claim's. Each write names the version it was decided on, so
/// that two claims can't both have a volume.
pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.claims.synced().await;
    shared.volumes.synced().await;
    shared.classes.synced().await;
    let (on_claim, volumes) = (queue.clone(), shared.volumes.clone());
    shared.claims.listen(move |change| {
        let claim = change.object();
        on_claim.add(Key::of(&**claim));
        // A claim that goes releases its volume; one that names a volume may have been waited for by it.
        let name = claims::volume_name(claim);
        if matches!(change, Change::Deleted(_)) && volumes.get(&Key::new("", name)).is_some() {
            on_claim.add(Key::new("", name));
        }
    });
    let (on_volume, claims) = (queue.clone(), shared.claims.clone());
    shared.volumes.listen(move |change| {
        let volume = change.object();
        on_volume.add(Key::of(&**volume));
        match claims::claim_ref(volume) {
            Some(claim) => on_volume
                .add(Key::new(claim.namespace.clone().unwrap_or_default(), claim.name.clone().unwrap_or_default())),
            // Somebody may have waited for such a one.
            None => {
                for claim in claims.all().iter().filter(|c| !is_bound(c)) {
                    on_volume.add(Key::of(&**claim));
                }
            }
        }
    });
    let (on_class, claims) = (queue.clone(), shared.claims.clone());
    shared.classes.listen(move |change| {
        let class = change.object().name_any();
        for claim in claims.all().iter().filter(|c| !is_bound(c) && ["", &class].contains(&class_of(c))) {
            on_class.add(Key::of(&**claim));
        }
    });
    let recorder = Recorder::start(shared.client.clone(), "persistentvolume-controller");
    let binder = Arc::new(Binder { shared, recorder });
    queue
        .work("persistentvolume-binder", 8, |key| {
            let binder = binder.clone();
            async move {
                match key.namespace.is_empty() {
                    true => binder.reconcile_volume(&key).await,
                    false => binder.reconcile_claim(&key).await,
                }
            }
        })
        .await;
}

impl Binder {
    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.shared.client.clone())
    }

    fn claims_of(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.shared.client.clone(), namespace)
    }

    async fn reconcile_volume(&self, key: &Key) -> Result<(), Error> {
        match self.shared.volumes.get(key) {
            Some(volume) => self.see_to_volume(&volume).await,
            None => Ok(()),
        }
    }

    async fn reconcile_claim(&self, key: &Key) -> Result<(), Error> {
        match self.shared.claims.get(key) {
            Some(claim) if is_completed(&claim) => self.see_to_bound(&claim).await,
            Some(claim) => self.see_to_unbound(&claim).await,
            None => Ok(()),
        }
    }
}

fn is_completed(claim: &PersistentVolumeClaim) -> bool {
    claims::annotation(claim, claims::BIND_COMPLETED).is_some()
}
