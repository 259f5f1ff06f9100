//! DaemonSet: one pod on every node that fits.

mod decide;
mod pod;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod},
};
use kube::{Api, ResourceExt, api::PostParams, core::Selector};
use parking_lot::Mutex;
use recording::Recorder;
use tokio::time::Instant;

use crate::{
    Error, Shared,
    claim::{self, Claim},
    error::gone_is_fine,
    history::{Found, History},
    informer::Change,
    pod_control::{BURST, PodControl},
    pods,
    queue::{Key, Queue, UNSETTLED},
};
use decide::{Decision, View};

/// A daemon that keeps failing on a node is replaced later and later.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

struct Controller {
    shared: Shared,
    queue: Queue,
    control: PodControl,
    recorder: Recorder,
    /// By set and node: how long the last pause was, and when it ends.
    failures: Mutex<HashMap<(Key, String), (Duration, Instant)>>,
}

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.nodes.synced().await;
    shared.daemon_sets.synced().await;
    shared.revisions.synced().await;
    let on_set = queue.clone();
    shared.daemon_sets.listen(move |change| on_set.add(Key::of(&**change.object())));
    claim::tell_owners(&shared.pods, &shared.daemon_sets, &queue, selector);
    let (on_node, sets) = (queue.clone(), shared.daemon_sets.clone());
    shared.nodes.listen(move |change| {
        if let Change::Applied { old: Some(old), new } = &change
            && same_for_daemons(old, new)
        {
            return;
        }
        // Only sets to which the node is something else than before.
        let fits = |set: &DaemonSet| change.states().map(|node| pod::fit(set, node)).collect::<Vec<_>>();
        for set in sets.all() {
            if !matches!(fits(&set).as_slice(), [before, after] if before == after) {
                on_node.add(Key::of(&*set));
            }
        }
    });
    let recorder = Recorder::start(shared.client.clone(), "daemonset-controller");
    let control = PodControl::new(shared.client.clone(), shared.pods.clone(), recorder.clone());
    let controller =
        Arc::new(Controller { shared, queue: queue.clone(), control, recorder, failures: Mutex::default() });
    queue.work("daemonset", 4, |key| controller.clone().reconcile(key)).await;
}

/// Whether nothing differs that decides about daemons: a node's status changes often.
fn same_for_daemons(a: &Node, b: &Node) -> bool {
    a.labels() == b.labels() && a.spec == b.spec
}

fn selector(set: &DaemonSet) -> Result<Selector, Error> {
    claim::parse(set.spec.as_ref().map(|s| &s.selector))
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(set) = self.shared.daemon_sets.get(&key) else {
            self.control.forget(&key);
            self.failures.lock().retain(|(set, _), _| *set != key);
            return Ok(());
        };
        let selector = selector(&set)?;
        if selector.selects_all() {
            let note = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.recorder.warning(&*set, "SelectingAll", note);
            return Ok(());
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let history = History {
            client: &self.shared.client,
            owner: &*set,
            selector: &selector,
            revisions: &self.shared.revisions,
            label: pod::HASH,
        };
        let spec = set.spec.clone().unwrap_or_default();
        let before = set.status.as_ref().and_then(|s| s.collision_count);
        let Found { update, all, collisions } = history.of(&spec.template, before).await?;
        let hash = update.labels().get(pod::HASH).cloned().unwrap_or_default();
        let claim = Claim {
            client: &self.shared.client,
            owner: &*set,
            selector: &selector,
            objects: &self.shared.pods,
            finalizer: None,
        };
        let owned = claim.all(|_| true).await?;
        let nodes = self.shared.nodes.all();
        let view = View { set: &set, nodes: &nodes, pods: &owned, hash: &hash, now: Timestamp::now() };
        let mut outcome = Ok(());
        if self.control.is_settled(&key) {
            let placement = decide::place(&view);
            let rolls = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete");
            let decision = if placement.is_empty() && rolls { decide::roll(&view) } else { placement };
            outcome = self.act(&key, &set, &hash, decision).await;
        } else {
            self.queue.add_after(key.clone(), UNSETTLED);
        }
        if let Some(wait) = view.look_again() {
            self.queue.add_after(key.clone(), wait);
        }
        self.write_status(&key, &set, decide::status(&view, collisions)).await?;
        outcome?;
        let hashes: HashSet<_> = owned.iter().filter_map(|p| p.labels().get(pod::HASH)).collect();
        let in_use = all.iter().filter(|r| r.labels().get(pod::HASH).is_some_and(|h| hashes.contains(h)));
        let live = in_use.map(|r| r.name_any()).chain([update.name_any()]).collect();
        history.truncate(&all, &live, spec.revision_history_limit.unwrap_or(10)).await
    }

    async fn act(&self, key: &Key, set: &DaemonSet, hash: &str, decision: Decision) -> Result<(), Error> {
        let mut delete = decision.delete;
        for ended in decision.ended {
            let node = pod::target(&ended).unwrap_or_default().to_owned();
            let name = ended.name_any();
            let (reason, note) = match pods::phase(&ended) {
                "Failed" => {
                    if let Some(wait) = self.pause(key, &node) {
                        self.queue.add_after(key.clone(), wait);
                        continue;
                    }
                    (
                        "FailedDaemonPod",
                        format!("Found failed daemon pod {}/{name} on node {node}, will try to kill it", key.namespace),
                    )
                }
                _ => (
                    "SucceededDaemonPod",
                    format!(
                        "Found succeeded daemon pod {}/{name} on node {node}, will try to delete it",
                        key.namespace
                    ),
                ),
            };
            match reason {
                "FailedDaemonPod" => self.recorder.warning(set, reason, note),
                _ => self.recorder.normal(set, reason, note),
            }
            delete.push(ended);
        }
        delete.truncate(BURST);
        let deleted = self.control.delete_all(key, set, &delete).await;
        let pods: Vec<Pod> = decision.create.iter().take(BURST).map(|node| pod::build(set, hash, node)).collect();
        self.control.create_all(key, set, &pods).await.1.and(deleted)
    }

    /// How long a failed daemon stays before it is replaced; `None`: it goes now, and the next pause is longer.
    fn pause(&self, key: &Key, node: &str) -> Option<Duration> {
        let now = Instant::now();
        let mut failures = self.failures.lock();
        match failures.get_mut(&(key.clone(), node.to_owned())) {
            Some((_, end)) if *end > now => Some(*end - now),
            Some((pause, end)) => {
                // A daemon that lasted twice the longest pause starts anew.
                let lasted = now - *end > 2 * LONGEST_PAUSE;
                *pause = if lasted { FIRST_PAUSE } else { (*pause * 2).min(LONGEST_PAUSE) };
                *end = now + *pause;
                None
            }
            None => {
                failures.insert((key.clone(), node.to_owned()), (FIRST_PAUSE, now + FIRST_PAUSE));
                None
            }
        }
    }

    async fn write_status(
        &self,
        key: &Key,
        set: &DaemonSet,
        status: k8s_openapi::api::apps::v1::DaemonSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = set.clone();
        changed.status = Some(status);
        let api: Api<DaemonSet> = Api::namespaced(self.shared.client.clone(), &key.namespace);
        gone_is_fine(api.replace_status(&key.name, &PostParams::default(), &changed).await)
    }
}
