//! The node defends itself: it looks at memory, disk and process ids now and then, tells of pressure, frees what
//! nobody uses, and as the last means ends pods, one at a time, in upstream's order and words.

mod measure;
mod pressure;
mod rank;
pub mod threshold;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::{io::unix::AsyncFd, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    measure::Measures,
    rank::Candidate,
    threshold::{Met, Signal},
};
use super::image_gc::Collector;
use crate::{
    activity::Deed,
    context::Context,
    events::Severity,
    pods::{Eviction, PodView, phase::is_over, storage},
    spec::{
        qos::{self, QosClass},
        quantity,
    },
};

/// Between looks at the images.
const IMAGE_PERIOD: Duration = Duration::from_secs(300);
/// How long the end of an evicted pod is waited for before the next look.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// A priority from which on a pod is critical to the cluster.
pub const CRITICAL: i32 = 2_000_000_000;

/// Whether the node never gives this pod up.
pub fn is_critical(pod: &Pod) -> bool {
    let is_static = pod.metadata.annotations.as_ref().is_some_and(|a| {
        a.contains_key("kubernetes.io/config.mirror")
            || a.get("kubernetes.io/config.source").is_some_and(|source| source != "api")
    });
    is_static || pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= CRITICAL)
}

/// Why the node takes no such pod while it is under pressure; the text is upstream's.
pub fn refusal(pod: &Pod, health: super::Health) -> Option<String> {
    let conditions: Vec<&str> = [
        ("DiskPressure", health.disk_pressure),
        ("MemoryPressure", health.memory_pressure),
        ("PIDPressure", health.pid_pressure),
    ]
    .into_iter()
    .filter_map(|(name, holds)| holds.then_some(name))
    .collect();
    if conditions.is_empty() || is_critical(pod) {
        return None;
    }
    if conditions == ["MemoryPressure"] {
        let tolerates = |t: &k8s_openapi::api::core::v1::Toleration| {
            let key = t.key.as_deref().unwrap_or_default();
            matches!(t.effect.as_deref(), None | Some("" | "NoSchedule"))
                && (key == "node.kubernetes.io/memory-pressure"
                    || (key.is_empty() && t.operator.as_deref() == Some("Exists")))
        };
        let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
        if qos::of(pod) != QosClass::BestEffort || tolerations.into_iter().any(tolerates) {
            return None;
        }
    }
    Some(format!("The node had condition: [{}]. ", conditions.join(", ")))
}

/// Watches until `stop`.
pub async fn watch(context: Arc<Context>, node: Node, stop: CancellationToken) {
    let mut guard = Guard {
        state: threshold::State::default(),
        images: Collector::default(),
        images_at: Instant::now() + IMAGE_PERIOD,
        node,
        context,
    };
    guard.images.begin(&guard.context).await;
    let alarm = pressure::alarm();
    loop {
        guard.look().await;
        let period = guard.context.config.housekeeping;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
            () = sounded(alarm.as_ref()) => {}
        }
    }
}

/// Resolves when the kernel tells that programs wait for memory.
async fn sounded(alarm: Option<&AsyncFd<std::fs::File>>) {
    match alarm {
        Some(alarm) => match alarm.ready(tokio::io::Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

struct Guard {
    context: Arc<Context>,
    node: Node,
    state: threshold::State,
    images: Collector,
    images_at: Instant,
}

impl Guard {
    async fn look(&mut self) {
        if Instant::now() >= self.images_at {
            self.images_at = Instant::now() + IMAGE_PERIOD;
            self.images.keep_within_limits(&self.context, &self.node).await;
        }
        let config = Arc::clone(&self.context);
        let eviction = &config.config.eviction;
        let measures = Measures::read(&self.context).await;
        let verdict = self.state.decide(eviction, &measures.signals, Instant::now());
        let health = verdict.health;
        self.context.health.send_if_modified(|known| {
            let health = super::Health { not_ready: known.not_ready, ..health };
            std::mem::replace(known, health) != health
        });
        let Some(met) = verdict.act_on else { return };
        let resource = met.signal.resource();
        let recorder = &self.context.recorder;
        recorder.node(
            &self.node,
            Severity::Warning,
            "EvictionThresholdMet",
            format!("Attempting to reclaim {resource}"),
        );
        if met.signal.is_disk() {
            // What nobody uses goes before what somebody does.
            self.images.remove_unused(&self.context).await;
            let measures = Measures::read(&self.context).await;
            if !eviction.thresholds.iter().any(|t| t.is_unresolved(&measures.signals)) {
                return;
            }
        }
        self.evict(&met, measures.at).await;
    }

    /// Ends one pod for what was seen at a time.
    async fn evict(&self, met: &Met, seen: std::time::Instant) {
        let mut candidates = Vec::new();
        for view in self.context.pods.all() {
            if is_over(&view.pod) || view.failed || view.sandbox.is_none() || is_critical(&view.pod) {
                continue;
            }
            let usage = usage(&self.context, &view, met.signal).await;
            candidates.push(candidate(view, met.signal, usage));
        }
        rank::order(&mut candidates, met.signal);
        let Some(victim) = candidates.first() else {
            tracing::warn!(resource = met.signal.resource(), "the node is short of it, and no pod can be ended");
            return;
        };
        let uid = victim.view.pod.metadata.uid.clone().unwrap_or_default();
        let grace = match met.threshold.grace {
            // A soft threshold leaves pods their own time, up to a limit.
            Some(_) => {
                let own = victim.view.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
                own.max(0).unsigned_abs().min(self.context.config.eviction.max_pod_grace)
            }
            None => 1,
        };
        let (message, annotations) = words(met, victim);
        tracing::info!(pod = ?victim.view.pod.metadata.name, message, "a pod is evicted");
        let eviction = Eviction { reason: "Evicted", message, annotations, grace: Some(grace), disrupts: true };
        let activity = &self.context.activity;
        activity.add(Deed::Evict(met.signal.name()));
        activity.evicted_after.observe(&[met.signal.name()], seen.elapsed().as_secs_f64());
        self.context.pods.evict(&uid, eviction);
        if let Some(mut view) = self.context.pods.follow(&uid) {
            let gone = view.wait_for(|v| v.failed && v.sandbox.is_none());
            let _ = tokio::time::timeout(CLEAN_UP, gone).await;
        }
    }
}

/// What each container of a pod uses of what is short; the containers' names and amounts, and what belongs to none.
async fn usage(context: &Arc<Context>, view: &PodView, signal: Signal) -> (Vec<(String, i64)>, i64) {
    if signal.is_disk() {
        let usage = storage::usage(context, view).await;
        let amount = |taken: &storage::Taken| if signal.counts() { taken.inodes } else { taken.bytes };
        let shared = usage.volumes.values().map(amount).sum::<u64>();
        let own = usage.containers.iter().map(|(name, taken)| (name.clone(), signed(amount(taken)))).collect();
        return (own, signed(shared));
    }
    let sandbox = view.sandbox.as_deref().unwrap_or_default();
    let all = context.runtime.usage(sandbox).await.unwrap_or_default();
    let amount = |u: &crate::runtime::Usage| if signal == Signal::PidAvailable { u.pids } else { u.working_set };
    let named = all.iter().map(|u| {
        // Runtime ids are NAME.ATTEMPT.
        let name = u.container.rsplit_once('.').map_or(u.container.as_str(), |(name, _)| name);
        (name.to_owned(), signed(amount(u)))
    });
    (named.collect(), 0)
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

fn candidate(view: Arc<PodView>, signal: Signal, (containers, shared): (Vec<(String, i64)>, i64)) -> Candidate {
    let pod = view.granted();
    let spec = pod.spec.as_ref();
    let request = spec.map_or(0, |s| signal.requested().map_or(0, |name| crate::pods::requested(s, name)));
    Candidate {
        priority: spec.and_then(|s| s.priority).unwrap_or(0),
        usage: containers.iter().map(|(_, amount)| amount).sum::<i64>().saturating_add(shared),
        request,
        containers,
        view,
    }
}

/// What people read, and what programs find on the event (`evictionMessage` of upstream's).
fn words(met: &Met, victim: &Candidate) -> (String, BTreeMap<String, String>) {
    let resource = met.signal.resource();
    let show = |amount: i64| if met.signal.counts() { quantity::decimal(amount) } else { quantity::binary(amount) };
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        show(met.limit),
        show(met.available)
    );
    let (mut offenders, mut usage) = (Vec::new(), Vec::new());
    let pod = victim.view.granted();
    let name = met.signal.requested().unwrap_or_default();
    for container in pod.spec.iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten())) {
        let used = victim.containers.iter().find(|(n, _)| *n == container.name).map_or(0, |(_, amount)| *amount);
        let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get(name));
        let request = asked.and_then(quantity::whole).unwrap_or(0);
        if !name.is_empty() && used > request {
            let shown = asked.map_or_else(|| "0".to_owned(), |q| q.0.clone());
            text.push_str(&format!(
                "Container {} was using {}, request is {shown}, has larger consumption of {resource}. ",
                container.name,
                show(used)
            ));
            offenders.push(container.name.clone());
            usage.push(show(used));
        }
    }
    let annotations = [
        ("offending_containers", offenders.join(",")),
        ("offending_containers_usage", usage.join(",")),
        ("starved_resource", resource.to_owned()),
    ];
    (text, annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::Health;

    #[test]
    fn under_pressure_the_node_takes_only_what_it_must() {
        let pod = |spec: serde_json::Value| -> Pod { serde_json::from_value(json!({"spec": spec})).expect("a pod") };
        let memory = Health { memory_pressure: true, ..Health::default() };
        let both = Health { memory_pressure: true, disk_pressure: true, ..Health::default() };
        let idle = pod(json!({"containers": [{"name": "c"}]}));
        assert_eq!(refusal(&idle, memory).as_deref(), Some("The node had condition: [MemoryPressure]. "));
        assert_eq!(refusal(&idle, Health::default()), None);
        let asks = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]}));
        assert_eq!(refusal(&asks, memory), None);
        assert_eq!(refusal(&asks, both).as_deref(), Some("The node had condition: [DiskPressure, MemoryPressure]. "));
        let tolerant = pod(json!({"containers": [{"name": "c"}],
            "tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]}));
        assert_eq!(refusal(&tolerant, memory), None);
        let critical = pod(json!({"priority": CRITICAL, "containers": [{"name": "c"}]}));
        assert_eq!(refusal(&critical, both), None);
    }
}
