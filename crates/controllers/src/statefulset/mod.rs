//! StatefulSet: pods with names, claims and an order of their own.

mod claims;
mod decide;
mod identity;

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{Pod, PodTemplateSpec},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::Selector,
};
use recording::Recorder;
use serde_json::json;

use crate::{
    Error, Shared,
    claim::{self, Claim},
    error::gone_is_fine,
    history::{self, Found, History},
    pod_control::{Done, PodControl},
    queue::{Key, Queue, UNSETTLED},
};
use decide::{Step, View};

/// The label of a revision that bears its hash.
const HASH: &str = "controller.kubernetes.io/hash";

struct Controller {
    shared: Shared,
    queue: Queue,
    control: PodControl,
    recorder: Recorder,
}

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.stateful_sets.synced().await;
    shared.revisions.synced().await;
    shared.claims.synced().await;
    let on_set = queue.clone();
    shared.stateful_sets.listen(move |change| on_set.add(Key::of(&**change.object())));
    claim::tell_owners(&shared.pods, &shared.stateful_sets, &queue, selector);
    let recorder = Recorder::start(shared.client.clone(), "statefulset-controller");
    let control = PodControl::new(shared.client.clone(), shared.pods.clone(), recorder.clone()).with_words(words);
    let controller = Arc::new(Controller { shared, queue: queue.clone(), control, recorder });
    queue.work("statefulset", 8, |key| controller.clone().reconcile(key)).await;
}

fn words(done: Done, pod: &str, set: &str, error: Option<&str>) -> String {
    let verb = if done == Done::Create { "create" } else { "delete" };
    match error {
        None => format!("{verb} Pod {pod} in StatefulSet {set} successful"),
        Some(error) => format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}"),
    }
}

fn selector(set: &StatefulSet) -> Result<Selector, Error> {
    claim::parse(set.spec.as_ref().map(|s| &s.selector))
}

/// The two templates in use at a time.
struct Templates {
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
}

impl Templates {
    fn of(&self, set: &StatefulSet, updated: bool) -> (PodTemplateSpec, String) {
        let revision = if updated { &self.update } else { &self.current };
        let present = || set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
        (history::template_of(revision).unwrap_or_else(present), revision.name_any())
    }
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(set) = self.shared.stateful_sets.get(&key) else {
            self.control.forget(&key);
            return Ok(());
        };
        if !self.control.is_settled(&key) {
            self.queue.add_after(key, UNSETTLED);
            return Ok(());
        }
        let selector = selector(&set)?;
        let is_member = |pod: &Pod| identity::ordinal(&set.name_any(), pod).is_some();
        let claim = Claim {
            client: &self.shared.client,
            owner: &*set,
            selector: &selector,
            objects: &self.shared.pods,
            finalizer: None,
        };
        let mut pods = claim.all(is_member).await?;
        pods.retain(|pod| is_member(pod));
        let history = History {
            client: &self.shared.client,
            owner: &*set,
            selector: &selector,
            revisions: &self.shared.revisions,
            label: HASH,
        };
        let before = set.status.clone().unwrap_or_default();
        let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
        let Found { update, all, collisions } = history.of(&template, before.collision_count).await?;
        let current =
            before.current_revision.as_deref().and_then(|name| history::named(&all, name)).unwrap_or(&update).clone();
        let templates = Templates { current, update };
        let (current, update) = (templates.current.name_any(), templates.update.name_any());
        let view = View { set: &set, pods: &pods, current: &current, update: &update, now: Timestamp::now() };
        let status = decide::status(&view, collisions);
        let outcome = self.take(&key, &set, &templates, decide::decide(&view)).await;
        if let Some(wait) = decide::look_again(&view) {
            self.queue.add_after(key.clone(), wait);
        }
        if before != status {
            let mut changed = StatefulSet::clone(&set);
            changed.status = Some(status);
            let api: Api<StatefulSet> = Api::namespaced(self.shared.client.clone(), &key.namespace);
            gone_is_fine(api.replace_status(&key.name, &PostParams::default(), &changed).await)?;
        }
        outcome?;
        let mut live: HashSet<String> = pods.iter().map(|p| identity::revision(p).to_owned()).collect();
        live.extend([current, update]);
        history.truncate(&all, &live, set.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10)).await
    }

    /// Takes the steps, the order of which matters only where there is one at a time.
    async fn take(&self, key: &Key, set: &StatefulSet, templates: &Templates, steps: Vec<Step>) -> Result<(), Error> {
        let keep = steps.iter().filter_map(|step| match step {
            Step::Keep(pod) => Some(self.keep(key, set, pod)),
            _ => None,
        });
        join_all(keep).await.into_iter().collect::<Result<(), Error>>()?;
        let results = join_all(steps.iter().map(|step| async move {
            match step {
                Step::Keep(_) => Ok(()),
                Step::Create { ordinal, updated } => {
                    let (template, revision) = templates.of(set, *updated);
                    self.create(key, set, &identity::pod(set, &template, &revision, *ordinal), *ordinal).await
                }
                Step::Recreate(pod) => {
                    let (reason, state) = match crate::pods::phase(pod) {
                        "Failed" => ("RecreatingFailedPod", "failed"),
                        _ => ("RecreatingTerminatedPod", "terminated"),
                    };
                    let note = format!("StatefulSet {key} is recreating {state} Pod {}", pod.name_any());
                    self.recorder.warning(set, reason, note);
                    self.control.delete(key, set, pod).await
                }
                Step::ScaleDown(pod) | Step::Replace(pod) => self.control.delete(key, set, pod).await,
            }
        }))
        .await;
        results.into_iter().collect()
    }

    async fn create(&self, key: &Key, set: &StatefulSet, pod: &Pod, ordinal: i32) -> Result<(), Error> {
        match self.make_claims(set, None, &pod.name_any(), ordinal).await {
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            other => other?,
        }
        match self.control.create(key, set, pod).await {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Puts a pod's labels and claims right.
    async fn keep(&self, key: &Key, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = identity::ordinal(&set.name_any(), pod) else { return Ok(()) };
        match crate::pods::phase(pod) {
            "Pending" => self.make_claims(set, Some(pod), &pod.name_any(), ordinal).await?,
            _ => self.keep_claims(set, pod, ordinal).await?,
        }
        let labels = identity::labels(&pod.name_any(), ordinal);
        if labels.iter().all(|(k, v)| pod.labels().get(k) == Some(v)) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid(), "labels": labels}}));
        let patched = self.control.api(key).patch(&pod.name_any(), &PatchParams::default(), &patch).await?;
        self.control.wrote(key, &patched);
        Ok(())
    }
}
