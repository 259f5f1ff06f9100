//! ReplicaSet: keeps as many pods as it says, no more and no fewer.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    core::{Selector, SelectorExt},
};
use serde_json::json;

use crate::{
    Error, Shared,
    error::gone_is_fine,
    expectations::Expectations,
    informer::version,
    ownership::{controller_key, controller_of, controller_reference, is_controlled_by},
    pods,
    queue::{Key, Queue},
    recorder::Recorder,
};

/// The most pods made or deleted in one go, as upstream.
const BURST: usize = 500;

struct Controller {
    shared: Shared,
    queue: Queue,
    expectations: Expectations,
    recorder: Recorder,
}

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.replica_sets.synced().await;
    let on_set = queue.clone();
    shared.replica_sets.listen(move |change| on_set.add(Key::of(&**change.object())));
    let (on_pod, sets) = (queue.clone(), shared.replica_sets.clone());
    shared.pods.listen(move |change| {
        for pod in change.states() {
            if let Some(owner) = controller_key::<ReplicaSet>(&**pod) {
                on_pod.add(owner);
            } else if controller_of(&**pod).is_none() {
                // An orphan: whoever selects it may want it.
                for set in sets.in_namespace(&pod.namespace().unwrap_or_default()) {
                    if selector(&set).is_ok_and(|s| s.matches(pod.labels())) {
                        on_pod.add(Key::of(&*set));
                    }
                }
            }
        }
    });
    let recorder = Recorder::new(shared.client.clone(), "replicaset-controller");
    let controller = Arc::new(Controller { shared, queue: queue.clone(), expectations: Expectations::default(), recorder });
    queue.work("replicaset", 8, |key| controller.clone().reconcile(key)).await;
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(set) = self.shared.replica_sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(());
        };
        let all = self.shared.pods.in_namespace(&key.namespace);
        let lives = |uid: &str| {
            all.iter().any(|p| p.uid().as_deref() == Some(uid) && p.metadata.deletion_timestamp.is_none())
        };
        let met = self.expectations.met(&key, |v| self.shared.pods.has_seen(v), lives);
        let selector = selector(&set)?;
        let owned = self.claim(&set, &selector, &all).await?;
        let active: Vec<Arc<Pod>> = owned.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let mut outcome = Ok(());
        if met && set.metadata.deletion_timestamp.is_none() {
            outcome = self.manage(&key, &set, &active).await;
        }
        self.update_status(&set, &owned, &active, outcome.as_ref().err()).await?;
        outcome
    }

    /// The pods that this set controls; adopts orphans that it selects and releases what it no longer does.
    async fn claim(&self, set: &ReplicaSet, selector: &Selector, all: &[Arc<Pod>]) -> Result<Vec<Arc<Pod>>, Error> {
        let mut owned = Vec::new();
        for pod in all {
            let matches = selector.matches(pod.labels());
            if is_controlled_by(&**pod, set) {
                if matches {
                    owned.push(pod.clone());
                } else if set.metadata.deletion_timestamp.is_none() && pod.metadata.deletion_timestamp.is_none() {
                    let release = json!({"metadata": {"uid": pod.uid(), "ownerReferences": [{"$patch": "delete", "uid": set.uid()}]}});
                    gone_is_fine(self.patch_pod(pod, &release).await)?;
                }
            } else if matches && controller_of(&**pod).is_none() && pods::is_active(pod) && set.metadata.deletion_timestamp.is_none() {
                let adopt = json!({"metadata": {"uid": pod.uid(), "ownerReferences": [controller_reference(set)]}});
                match self.patch_pod(pod, &adopt).await.map_err(Error::from) {
                    Ok(_) => owned.push(pod.clone()),
                    Err(error) if error.is_not_found() || error.is_conflict() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(owned)
    }

    async fn patch_pod(&self, pod: &Pod, patch: &serde_json::Value) -> Result<Pod, kube::Error> {
        self.pods(&pod.namespace().unwrap_or_default())
            .patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
            .await
    }

    async fn manage(&self, key: &Key, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), Error> {
        let wanted = usize::try_from(replicas(set)).unwrap_or(0);
        if active.len() < wanted {
            return self.create(key, set, (wanted - active.len()).min(BURST)).await;
        }
        let surplus = (active.len() - wanted).min(BURST);
        if surplus == 0 {
            return Ok(());
        }
        let mut ranked = active.to_vec();
        let on_node = |pod: &Pod| {
            let node = pod.spec.as_ref().and_then(|s| s.node_name.as_ref());
            active.iter().filter(|p| node.is_some() && p.spec.as_ref().and_then(|s| s.node_name.as_ref()) == node).count()
        };
        let ranks: Vec<_> = ranked.iter().map(|p| deletion_rank(p, on_node(p))).collect();
        let mut order: Vec<usize> = (0..ranked.len()).collect();
        order.sort_by(|a, b| ranks[*a].cmp(&ranks[*b]));
        ranked = order.into_iter().take(surplus).map(|i| ranked[i].clone()).collect();
        let results = join_all(ranked.iter().map(|pod| async move {
            let uid = pod.uid().unwrap_or_default();
            self.expectations.deleted(key, &uid);
            let params = DeleteParams::default().preconditions(Preconditions { uid: Some(uid), resource_version: None });
            match self.pods(&key.namespace).delete(&pod.name_any(), &params).await.map_err(Error::from) {
                Ok(_) => {
                    self.recorder.normal(set, "SuccessfulDelete", "DeletePod", format!("Deleted pod: {}", pod.name_any()));
                    Ok(())
                }
                Err(error) if error.is_not_found() => Ok(()),
                Err(error) => {
                    self.recorder.warning(set, "FailedDelete", "DeletePod", format!("Error deleting: {error}"));
                    Err(error)
                }
            }
        }))
        .await;
        results.into_iter().collect()
    }

    /// One pod, then two, four…: a set that can't have pods fails once, not five hundred times.
    async fn create(&self, key: &Key, set: &ReplicaSet, mut missing: usize) -> Result<(), Error> {
        let template = pod_of(set);
        let mut batch = 1;
        while missing > 0 {
            let now = batch.min(missing);
            let results = join_all((0..now).map(|_| async {
                let created = self.pods(&key.namespace).create(&PostParams::default(), &template).await?;
                self.expectations.created(key, version(&created));
                self.recorder.normal(set, "SuccessfulCreate", "CreatePod", format!("Created pod: {}", created.name_any()));
                Ok::<_, Error>(())
            }))
            .await;
            if let Some(error) = results.into_iter().find_map(Result::err) {
                if error.is_namespace_terminating() {
                    return Ok(());
                }
                self.recorder.warning(set, "FailedCreate", "CreatePod", format!("Error creating: {error}"));
                return Err(error);
            }
            missing -= now;
            batch *= 2;
        }
        Ok(())
    }

    async fn update_status(
        &self,
        set: &ReplicaSet,
        owned: &[Arc<Pod>],
        active: &[Arc<Pod>],
        failure: Option<&Error>,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        let before = set.status.clone().unwrap_or_default();
        let status = status_of(set, owned, active, failure, now);
        let min_ready = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
        if min_ready > 0 && status.ready_replicas != status.available_replicas {
            // Nothing will tell us that time has passed.
            let wait = active.iter().filter_map(|p| pods::ready_since(p)).map(|t| {
                i64::from(min_ready) - now.duration_since(t).as_secs()
            });
            if let Some(seconds) = wait.filter(|s| *s > 0).min() {
                self.queue.add_after(Key::of(set), Duration::from_secs(seconds.unsigned_abs()) + Duration::from_millis(50));
            }
        }
        if status == before {
            return Ok(());
        }
        let api: Api<ReplicaSet> = Api::namespaced(self.shared.client.clone(), &set.namespace().unwrap_or_default());
        let mut changed = set.clone();
        changed.status = Some(status);
        gone_is_fine(api.replace_status(&set.name_any(), &PostParams::default(), &changed).await)
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), namespace)
    }
}

fn selector(set: &ReplicaSet) -> Result<Selector, Error> {
    let selector = set.spec.as_ref().map(|s| s.selector.clone()).unwrap_or_default();
    Selector::try_from(selector).map_err(|e| Error::Object(format!("invalid label selector: {e}")))
}

pub(crate) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn pod_of(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Smaller goes first: unassigned, pending, not ready, cheap to delete, on a crowded node, ready for a shorter
/// time, restarted more often, newer (upstream's `ActivePodsWithRanks`).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct DeletionRank {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    crowding: std::cmp::Reverse<usize>,
    ready_since: std::cmp::Reverse<Option<Timestamp>>,
    restarts: std::cmp::Reverse<i32>,
    created: std::cmp::Reverse<Option<Timestamp>>,
}

fn deletion_rank(pod: &Pod, crowding: usize) -> DeletionRank {
    use std::cmp::Reverse;
    DeletionRank {
        assigned: pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()),
        phase: match pods::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        },
        ready: pods::is_ready(pod),
        cost: pod.annotations().get("controller.kubernetes.io/pod-deletion-cost").and_then(|c| c.parse().ok()).unwrap_or(0),
        crowding: Reverse(crowding),
        ready_since: Reverse(pods::ready_since(pod)),
        restarts: Reverse(pods::restarts(pod)),
        created: Reverse(pod.creation_timestamp().map(|t| t.0)),
    }
}

fn status_of(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    active: &[Arc<Pod>],
    failure: Option<&Error>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.as_ref();
    let min_ready = spec.and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let template_labels = spec.and_then(|s| s.template.as_ref()?.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let count = |test: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| test(p)).count() as i32;
    let before = set.status.clone().unwrap_or_default();
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let failed = conditions.iter().position(|c| c.type_ == "ReplicaFailure");
    match (failure, failed) {
        (Some(error), None) => {
            let creating = (active.len() as i32) < replicas(set);
            conditions.push(ReplicaSetCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                reason: Some(if creating { "FailedCreate" } else { "FailedDelete" }.into()),
                message: Some(error.to_string()),
                last_transition_time: Some(Time(now)),
            });
        }
        (None, Some(index)) => {
            conditions.remove(index);
        }
        _ => {}
    }
    let terminating = owned.iter().filter(|p| p.metadata.deletion_timestamp.is_some() && !pods::is_terminal(p)).count();
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: some_if(count(&|p| template_labels.iter().all(|(k, v)| p.labels().get(k) == Some(v)))),
        ready_replicas: some_if(count(&pods::is_ready)),
        available_replicas: some_if(count(&|p| pods::is_available(p, min_ready, now))),
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.meta().generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

/// Upstream leaves zero counts out.
fn some_if(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: bool, node: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_pods_that_serve_least_are_deleted_first() {
        let mut all = [pod("ready", true, Some("n")), pod("not-ready", false, Some("n")), pod("unassigned", false, None)];
        all.sort_by_key(|p| deletion_rank(p, 1));
        assert_eq!(all.map(|p| p.name_any()), ["unassigned", "not-ready", "ready"]);
    }

    #[test]
    fn of_equal_pods_the_one_on_the_crowded_node_goes_first() {
        let (a, b) = (pod("a", true, Some("n")), pod("b", true, Some("m")));
        assert!(deletion_rank(&a, 2) < deletion_rank(&b, 1));
    }

    #[test]
    fn status_counts_what_the_pods_say() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "s", "generation": 3},
            "spec": {"replicas": 2, "selector": {}, "minReadySeconds": 10, "template": {}},
        }))
        .unwrap();
        let active = [Arc::new(pod("a", true, Some("n"))), Arc::new(pod("b", false, Some("n")))];
        let soon: Timestamp = "2026-01-01T00:00:05Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let status = status_of(&set, &active, &active, None, soon);
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(1), None));
        assert_eq!(status.observed_generation, Some(3));
        let status = status_of(&set, &active, &active, None, later);
        assert_eq!(status.available_replicas, Some(1));
    }
}
