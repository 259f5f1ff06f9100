//! ReplicaSet and ReplicationController: keep as many pods as they say, no more and no fewer.

mod kind;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::PostParams};
use recording::Recorder;

use crate::{
    Error, Shared,
    claim::{self, Claim},
    deletion_rank,
    error::gone_is_fine,
    informer::Informer,
    ownership::controller_of,
    pod_control::{self, BURST, PodControl},
    pods,
    queue::{Key, Queue, UNSETTLED},
};
pub(crate) use kind::Replicated;

struct Controller<K> {
    shared: Shared,
    sets: Informer<K>,
    queue: Queue,
    control: PodControl,
}

pub(crate) async fn run<K: Replicated>(shared: Shared, sets: Informer<K>) {
    let queue = Queue::default();
    shared.pods.synced().await;
    sets.synced().await;
    let on_set = queue.clone();
    sets.listen(move |change| on_set.add(Key::of(&**change.object())));
    claim::tell_owners(&shared.pods, &sets, &queue, K::selector);
    let recorder = Recorder::start(shared.client.clone(), K::COMPONENT);
    let control = PodControl::new(shared.client.clone(), shared.pods.clone(), recorder);
    let controller = Arc::new(Controller { shared, sets, queue: queue.clone(), control });
    queue.work(K::COMPONENT, 8, |key| controller.clone().reconcile(key)).await;
}

impl<K: Replicated> Controller<K> {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(set) = self.sets.get(&key) else {
            self.control.forget(&key);
            return Ok(());
        };
        let settled = self.control.is_settled(&key);
        let selector = set.selector()?;
        let claim = Claim {
            client: &self.shared.client,
            owner: &*set,
            selector: &selector,
            objects: &self.shared.pods,
            finalizer: None,
        };
        let owned = claim.all(pods::is_active).await?;
        let active: Vec<Arc<Pod>> = owned.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let mut outcome = Ok(());
        if !settled {
            self.queue.add_after(key.clone(), UNSETTLED);
        } else if set.meta().deletion_timestamp.is_none() {
            outcome = self.manage(&key, &set, &active).await;
        }
        self.update_status(&set, &owned, &active, outcome.as_ref().err()).await?;
        outcome
    }

    async fn manage(&self, key: &Key, set: &K, active: &[Arc<Pod>]) -> Result<(), Error> {
        let wanted = usize::try_from(set.replicas()).unwrap_or(0);
        if active.len() < wanted {
            let missing = (wanted - active.len()).min(BURST);
            let pod = pod_control::from_template(set, &set.template().cloned().unwrap_or_default());
            return self.control.create_all(key, set, &vec![pod; missing]).await.1;
        }
        let surplus = (active.len() - wanted).min(BURST);
        if surplus == 0 {
            return Ok(());
        }
        let doomed = deletion_rank::least(active, &self.related(set), surplus);
        self.control.delete_all(key, set, &doomed).await
    }

    /// The active pods of all sets with the same controller, this one among them.
    fn related(&self, set: &K) -> Vec<Arc<Pod>> {
        let kin = match controller_of(set) {
            Some(owner) => self.sets.controlled_by(&owner.uid),
            None => Vec::new(),
        };
        let uids = kin.iter().filter_map(|s| s.uid()).chain(set.uid().filter(|_| kin.is_empty()));
        uids.flat_map(|uid| self.shared.pods.controlled_by(&uid)).filter(|p| pods::is_active(p)).collect()
    }

    async fn update_status(
        &self,
        set: &K,
        owned: &[Arc<Pod>],
        active: &[Arc<Pod>],
        failure: Option<&Error>,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        let counts = status::status_of(set, owned, active, failure, now);
        if let Some(wait) = pods::until_available(active, set.min_ready_seconds(), now) {
            // Nothing will tell us that time has passed.
            self.queue.add_after(Key::of(set), wait);
        }
        let mut changed = set.clone();
        changed.set_counts(counts);
        if changed.counts() == set.counts() {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.shared.client.clone(), &set.namespace().unwrap_or_default());
        gone_is_fine(api.replace_status(&set.name_any(), &PostParams::default(), &changed).await)
    }
}
