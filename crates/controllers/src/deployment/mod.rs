//! Deployment: moves from old ReplicaSets to the new one as its strategy says.

mod conditions;
mod hash;
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
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::{Selector, SelectorExt},
};
use serde_json::json;

use crate::{
    Error, Shared,
    error::gone_is_fine,
    ownership::{controller_key, controller_of, controller_reference, is_controlled_by},
    pods,
    queue::{Key, Queue},
    recorder::Recorder,
    replicaset::replicas,
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
    let (on_set, deployments) = (queue.clone(), shared.deployments.clone());
    shared.replica_sets.listen(move |change| {
        for set in change.states() {
            match controller_key::<Deployment>(&**set) {
                Some(owner) => on_set.add(owner),
                None if controller_of(&**set).is_none() => {
                    for deployment in deployments.in_namespace(&set.namespace().unwrap_or_default()) {
                        if selector(&deployment).is_ok_and(|s| s.matches(set.labels())) {
                            on_set.add(Key::of(&*deployment));
                        }
                    }
                }
                None => {}
            }
        }
    });
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
    let recorder = Recorder::new(shared.client.clone(), "deployment-controller");
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
                "Reconcile",
                "This deployment is selecting all pods. A non-empty selector is required.".into(),
            );
            return Ok(());
        }
        let sets = self.claim(&deployment, &selector).await?;
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
        found.old.iter().any(|set| {
            let all = self.shared.pods.in_namespace(&set.namespace().unwrap_or_default());
            all.iter().any(|pod| is_controlled_by(&**pod, &**set) && runs(pod))
        })
    }

    /// The sets that this deployment controls; adopts orphans that it selects, releases what it no longer does.
    async fn claim(&self, deployment: &Deployment, selector: &Selector) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.shared.client.clone(), &namespace);
        let alive = deployment.metadata.deletion_timestamp.is_none();
        let mut owned = Vec::new();
        for set in self.shared.replica_sets.in_namespace(&namespace) {
            let matches = selector.matches(set.labels());
            let patch = if is_controlled_by(&*set, deployment) {
                if matches {
                    owned.push(set);
                    continue;
                }
                json!({"metadata": {"uid": set.uid(), "ownerReferences": [{"$patch": "delete", "uid": deployment.uid()}]}})
            } else if matches && controller_of(&*set).is_none() && set.metadata.deletion_timestamp.is_none() {
                json!({"metadata": {"uid": set.uid(), "ownerReferences": [controller_reference(deployment)]}})
            } else {
                continue;
            };
            if alive {
                gone_is_fine(api.patch(&set.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await)?;
                if matches {
                    owned.push(set);
                }
            }
        }
        Ok(owned)
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
    let selector = deployment.spec.as_ref().map(|s| s.selector.clone()).unwrap_or_default();
    Selector::try_from(selector).map_err(|e| Error::Object(format!("invalid label selector: {e}")))
}
