//! HorizontalPodAutoscaler: gives a target as many replicas as its metrics call for.

mod behavior;
mod evaluate;
mod metrics;
mod usage;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        autoscaling::v2::{
            HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
            HorizontalPodAutoscalerStatus, MetricStatus,
        },
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::oneshot,
};
use parking_lot::Mutex;
use recording::Recorder;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    Error, Shared, counts,
    error::gone_is_fine,
    informer::{self, Change, Informer},
    queue::{Key, Queue},
};
use behavior::Memory;
use evaluate::{Scaled, Silent, split};
use metrics::Metrics;

struct Controller {
    shared: Shared,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    queue: Queue,
    recorder: Recorder,
    memory: Mutex<HashMap<Key, Memory>>,
    period: Duration,
}

/// Asks for metrics once a period, only while there is an autoscaler.
pub(crate) async fn run(shared: Shared, period: Duration) {
    let mut tasks = JoinSet::new();
    let autoscalers: Informer<HorizontalPodAutoscaler> =
        Informer::start(shared.client.clone(), informer::untouched, &mut tasks);
    let queue = Queue::default();
    autoscalers.synced().await;
    let on_change = queue.clone();
    autoscalers.listen(move |change| {
        // What it says of itself is no news.
        if let Change::Applied { old: Some(old), new } = &change
            && old.spec == new.spec
        {
            return;
        }
        on_change.add(Key::of(&**change.object()));
    });
    let recorder = Recorder::start(shared.client.clone(), "horizontal-pod-autoscaler");
    let controller =
        Arc::new(Controller { shared, autoscalers, queue: queue.clone(), recorder, memory: Mutex::default(), period });
    queue.work("horizontalpodautoscaler", 4, |key| controller.clone().reconcile(key)).await;
}

/// The conditions in the making.
struct Conditions {
    list: Vec<HorizontalPodAutoscalerCondition>,
    now: Timestamp,
}

impl Conditions {
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: impl Into<String>) {
        let before = self.list.iter().position(|c| c.type_ == kind);
        let since =
            before.map(|i| &self.list[i]).filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        let fresh = HorizontalPodAutoscalerCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(since.unwrap_or(Time(self.now))),
        };
        match before {
            Some(index) => self.list[index] = fresh,
            None => self.list.push(fresh),
        }
    }
}

/// What the metrics together call for.
struct Verdict {
    replicas: i32,
    metric: String,
    statuses: Vec<MetricStatus>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(autoscaler) = self.autoscalers.get(&key) else {
            self.memory.lock().remove(&key);
            return Ok(());
        };
        self.queue.add_after(key.clone(), self.period);
        let now = Timestamp::now();
        let mut status = autoscaler.status.clone().unwrap_or_default();
        let mut conditions = Conditions { list: status.conditions.take().unwrap_or_default(), now };
        status.observed_generation = autoscaler.metadata.generation;
        let begin = std::time::Instant::now();
        let (action, error) = self.adjust(&key, &autoscaler, &mut status, &mut conditions).await;
        counts::scaled(action, error, begin.elapsed());
        status.conditions = Some(conditions.list);
        if autoscaler.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = HorizontalPodAutoscaler::clone(&autoscaler);
        changed.status = Some(status);
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.shared.client.clone(), &key.namespace);
        gone_is_fine(api.replace_status(&key.name, &PostParams::default(), &changed).await)
    }

    async fn target(&self, key: &Key, spec: &HorizontalPodAutoscalerSpec) -> Result<Api<DynamicObject>, Error> {
        let (group, version) = split(spec.scale_target_ref.api_version.as_deref());
        let kind = GroupVersionKind::gvk(group, version, &spec.scale_target_ref.kind);
        let (resource, _) = oneshot::pinned_kind(&self.shared.client, &kind).await?;
        Ok(Api::namespaced_with(self.shared.client.clone(), &key.namespace, &resource))
    }

    /// Looks, thinks, scales, and says so. What goes wrong is said in the conditions and tried again in time. The answer is
    /// what was done and what kept it from that, as upstream's metrics name them.
    async fn adjust(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        conditions: &mut Conditions,
    ) -> (&'static str, &'static str) {
        let (spec, now) = (&autoscaler.spec, conditions.now);
        let name = &spec.scale_target_ref.name;
        let found = async {
            let target = self.target(key, spec).await?;
            let scale = target.get_scale(name).await?;
            Ok::<_, Error>((target, scale))
        };
        let (target, scale) = match found.await {
            Ok(found) => found,
            Err(error) => {
                self.recorder.warning(autoscaler, "FailedGetScale", error.message());
                let words =
                    format!("the HPA controller was unable to get the target's current scale: {}", error.message());
                conditions.set("AbleToScale", "False", "FailedGetScale", words);
                return ("none", "internal");
            }
        };
        let words = "the HPA controller was able to get the target's current scale";
        conditions.set("AbleToScale", "True", "SucceededGetScale", words);
        let current = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        let selector = scale.status.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
        let seen = scale.status.as_ref().map_or(0, |s| s.replicas);
        status.current_replicas = Some(seen);
        let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        let (desired, why) = if current == 0 && least != 0 {
            status.desired_replicas = 0;
            let words = "scaling is disabled since the replica count of the target is zero";
            conditions.set("ScalingActive", "False", "ScalingDisabled", words);
            return ("none", "none");
        } else if current > most {
            (most, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < least {
            (least, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let verdict = match self.judge(key, autoscaler, spec, &selector, current, conditions).await {
                Some(verdict) => verdict,
                None => return ("none", "internal"),
            };
            status.current_metrics = Some(verdict.statuses);
            let mut memory = self.memory.lock();
            let bounded = behavior::bound(spec, memory.entry(key.clone()).or_default(), current, verdict.replicas, now);
            let calm = ("ReadyForNewScale", "recommended size matches current size");
            let (reason, words) = bounded.stabilized.unwrap_or(calm);
            conditions.set("AbleToScale", "True", reason, words);
            match bounded.limited {
                Some((reason, words)) => conditions.set("ScalingLimited", "True", reason, words),
                None => {
                    let words = "the desired count is within the acceptable range";
                    conditions.set("ScalingLimited", "False", "DesiredWithinRange", words);
                }
            }
            let why = match verdict.replicas > current {
                true => format!("{} above target", verdict.metric),
                false => "All metrics below target".to_owned(),
            };
            (bounded.replicas, why)
        };
        status.desired_replicas = desired;
        if desired == current {
            return ("none", "none");
        }
        let patch = Patch::Merge(
            json!({"metadata": {"resourceVersion": scale.metadata.resource_version}, "spec": {"replicas": desired}}),
        );
        match target.patch_scale(name, &PatchParams::default(), &patch).await.map_err(Error::from) {
            Ok(_) => {
                let words = format!("the HPA controller was able to update the target scale to {desired}");
                conditions.set("AbleToScale", "True", "SucceededRescale", words);
                self.recorder.normal(autoscaler, "SuccessfulRescale", format!("New size: {desired}; reason: {why}"));
                self.memory.lock().entry(key.clone()).or_default().note_change(desired - current, now);
                status.last_scale_time = Some(Time(now));
                (if desired > current { "scale_up" } else { "scale_down" }, "none")
            }
            Err(error) => {
                status.desired_replicas = current;
                let note = format!("New size: {desired}; reason: {why}; error: {}", error.message());
                self.recorder.warning(autoscaler, "FailedRescale", note);
                let words = format!("the HPA controller was unable to update the target scale: {}", error.message());
                conditions.set("AbleToScale", "False", "FailedUpdateScale", words);
                ("none", "internal")
            }
        }
    }

    /// The largest opinion of all metrics. Where some are silent nothing is scaled down.
    async fn judge(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        spec: &HorizontalPodAutoscalerSpec,
        selector: &str,
        current: i32,
        conditions: &mut Conditions,
    ) -> Option<Verdict> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &key.namespace);
        let pods: Vec<Arc<Pod>> = match api.list(&ListParams::default().labels(selector)).await {
            Ok(list) => list.items.into_iter().map(Arc::new).collect(),
            Err(error) => {
                tracing::debug!(%key, %error, "the pods of an autoscaler's target can't be listed");
                return None;
            }
        };
        let metrics = Metrics { client: &self.shared.client, namespace: &key.namespace };
        let scaled = Scaled { metrics, selector, pods: &pods, current, now: conditions.now };
        let mut verdict: Option<Verdict> = None;
        let (mut silent, mut total, mut statuses): (Vec<Silent>, usize, Vec<MetricStatus>) =
            (Vec::new(), 0, Vec::new());
        for metric in spec.metrics.iter().flatten() {
            total += 1;
            match scaled.evaluate(metric).await {
                Ok(opinion) => {
                    statuses.push(opinion.status);
                    if verdict.as_ref().is_none_or(|v| opinion.replicas > v.replicas) {
                        verdict =
                            Some(Verdict { replicas: opinion.replicas, metric: opinion.metric, statuses: Vec::new() });
                    }
                }
                Err(reason) => {
                    self.recorder.warning(autoscaler, reason.reason, reason.message.clone());
                    silent.push(reason);
                }
            }
        }
        let unknown = |verdict: &Verdict| !silent.is_empty() && verdict.replicas < current;
        match verdict.filter(|v| !unknown(v)) {
            Some(verdict) => {
                let words =
                    format!("the HPA was able to successfully calculate a replica count from {}", verdict.metric);
                conditions.set("ScalingActive", "True", "ValidMetricFound", words);
                Some(Verdict { statuses, ..verdict })
            }
            None => {
                let first = silent.first()?;
                let note = format!(
                    "invalid metrics ({} invalid out of {total}), first error is: failed to get {}: {}",
                    silent.len(),
                    first.value,
                    first.message
                );
                self.recorder.warning(autoscaler, "FailedComputeMetricsReplicas", note);
                let words = format!("the HPA was unable to compute the replica count: {}", first.message);
                conditions.set("ScalingActive", "False", first.reason, words);
                None
            }
        }
    }
}
