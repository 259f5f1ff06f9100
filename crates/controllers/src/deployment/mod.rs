//! Deployment: moves from old ReplicaSets to the new one as its strategy says.

mod conditions;
mod plan;
mod revision;
mod scale;
mod status;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{Api, Client, ResourceExt, core::Selector};
use recording::Recorder;

use crate::{
    Error, Shared,
    claim::{self, Claim},
    ownership::controller_key,
    pods,
    queue::{Key, Queue},
    replicaset::Replicated,
};
use revision::Sets;

pub(crate) struct Controller {
    shared: Shared,
    queue: Queue,
    recorder: Recorder,
}

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.deployments.synced().await;
    shared.replica_sets.synced().await;
    shared.pods.synced().await;
    let on_deployment = queue.clone();
    shared.deployments.listen(move |change| on_deployment.add(Key::of(&**change.object())));
    claim::tell_owners(&shared.replica_sets, &shared.deployments, &queue, selector);
    // Recreate waits until the old pods are really gone.
    let (on_pod, sets) = (queue.clone(), shared.replica_sets.clone());
    shared.pods.listen(move |change| {
        let pod = change.object();
        let ended = matches!(change, crate::informer::Change::Deleted(_)) || pods::is_terminal(pod);
        if let Some(set) = controller_key::<ReplicaSet>(&**pod).filter(|_| ended).and_then(|key| sets.get(&key))
            && let Some(owner) = controller_key::<Deployment>(&*set)
        {
            on_pod.add(owner);
        }
    });
    let recorder = Recorder::start(shared.client.clone(), "deployment-controller");
    let controller = Arc::new(Controller { shared, queue: queue.clone(), recorder });
    queue.work("deployment", 8, |key| controller.clone().reconcile(key)).await;
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(deployment) = self.shared.deployments.get(&key) else { return Ok(()) };
        let selector = selector(&deployment)?;
        if selector.selects_all() {
            self.recorder.warning(
                &*deployment,
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            );
            return Ok(());
        }
        let client = self.client();
        let claim = Claim {
            client: &client,
            owner: &*deployment,
            selector: &selector,
            objects: &self.shared.replica_sets,
            finalizer: None,
        };
        let sets = claim.all(|_| true).await?;
        let now = Timestamp::now();
        if deployment.metadata.deletion_timestamp.is_some() {
            return self.sync_status(&deployment, &revision::split(&deployment, &sets), now, true).await;
        }
        let deployment = self.note_pause(deployment, now).await?;
        if plan::is_paused(&deployment) || scale::is_scaling(&deployment, &sets) {
            let found = self.find_sets(&deployment, &sets, false, now).await?;
            self.scale(&deployment, &found).await?;
            if plan::is_paused(&deployment) {
                self.clean_up(&deployment, &found).await?;
            }
            let found = self.refreshed(&deployment, &found);
            return self.sync_status(&deployment, &found, now, true).await;
        }
        match plan::strategy(&deployment) {
            plan::Strategy::Recreate => self.recreate(&deployment, &sets, now).await,
            plan::Strategy::RollingUpdate { .. } => self.roll(&deployment, &sets, now).await,
        }
    }

    async fn roll(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Result<(), Error> {
        let found = self.find_sets(deployment, sets, true, now).await?;
        for (set, size) in plan::rolling_step(deployment, &found) {
            self.resize(deployment, &set, size).await?;
        }
        if status::is_complete(deployment, &found) {
            self.clean_up(deployment, &found).await?;
        }
        self.sync_status(deployment, &found, now, false).await
    }

    async fn recreate(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Result<(), Error> {
        let found = self.find_sets(deployment, sets, false, now).await?;
        let mut busy = false;
        for set in found.old.iter().filter(|s| replicas(s) > 0) {
            self.resize(deployment, set, 0).await?;
            busy = true;
        }
        if busy || self.old_pods_run(&found) {
            return self.sync_status(deployment, &found, now, false).await;
        }
        let found = self.find_sets(deployment, sets, true, now).await?;
        if let Some(new) = &found.new {
            self.resize(deployment, new, plan::wanted(deployment)).await?;
        }
        if status::is_complete(deployment, &found) {
            self.clean_up(deployment, &found).await?;
        }
        self.sync_status(deployment, &found, now, false).await
    }

    fn old_pods_run(&self, found: &Sets) -> bool {
        let runs = |pod: &Arc<Pod>| !pods::is_terminal(pod);
        found.old.iter().any(|set| self.shared.pods.controlled_by(&set.uid().unwrap_or_default()).iter().any(runs))
    }

    /// The same sets as the cache has them now (a resize may have come through already).
    fn refreshed(&self, deployment: &Deployment, found: &Sets) -> Sets {
        let sets: Vec<_> = found.all().filter_map(|set| self.shared.replica_sets.get(&Key::of(&**set))).collect();
        revision::split(deployment, &sets)
    }

    fn look_again_after(&self, deployment: &Deployment, delay: Duration) {
        self.queue.add_after(Key::of(deployment), delay);
    }

    fn api(&self, deployment: &Deployment) -> Api<Deployment> {
        Api::namespaced(self.client(), &deployment.namespace().unwrap_or_default())
    }

    fn sets_api(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(self.client(), &deployment.namespace().unwrap_or_default())
    }

    fn client(&self) -> Client {
        self.shared.client.clone()
    }
}

fn selector(deployment: &Deployment) -> Result<Selector, Error> {
    claim::parse(deployment.spec.as_ref().map(|s| &s.selector))
}

/// The size that a set has been given.
fn replicas(set: &ReplicaSet) -> i32 {
    Replicated::replicas(set)
}
