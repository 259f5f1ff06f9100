//! Facts about pods that several controllers ask for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// Annotations that controllers read.
const KEPT: [&str; 2] = ["controller.kubernetes.io/", "batch.kubernetes.io/"];

/// Controllers read labels, owners, node, claims, conditions, exit codes and addresses; the rest of a pod is its
/// node's business.
pub fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = pod.metadata.annotations.take().map(|mut all| {
        all.retain(|name, _| KEPT.iter().any(|prefix| name.starts_with(prefix)));
        all
    });
    if let Some(spec) = &mut pod.spec {
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
        }
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            container.env = None;
            container.volume_mounts = None;
            container.command = None;
            container.args = None;
            container.liveness_probe = None;
            container.readiness_probe = None;
            container.startup_probe = None;
        }
    }
    if let Some(status) = &mut pod.status {
        let all = [&mut status.container_statuses, &mut status.init_container_statuses];
        for container in all.into_iter().flat_map(|c| c.iter_mut().flatten()) {
            container.last_state = None;
            container.image_id = String::new();
            if let Some(state) = &mut container.state {
                state.running = None;
                state.waiting = None;
                if let Some(ended) = &mut state.terminated {
                    ended.message = None;
                    ended.container_id = None;
                }
            }
        }
    }
}

/// `Pending`, `Running`, `Succeeded`, `Failed`.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

/// Neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// A condition of the pod by its type.
pub fn condition<'a>(pod: &'a Pod, name: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == name)
}

/// Whether its condition Ready is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when it is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|t| t.0)
}

/// Whether it has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds == 0
            || ready_since(pod).is_some_and(|t| now.duration_since(t).as_secs() >= i64::from(min_ready_seconds)))
}

/// How long until the next of these pods may count as available; `None` when time alone changes nothing.
pub fn until_available<P: AsRef<Pod>>(pods: &[P], min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let waits = pods.iter().filter_map(|pod| {
        let since = ready_since(pod.as_ref()).filter(|_| min_ready_seconds > 0)?;
        let left = i64::from(min_ready_seconds) - now.duration_since(since).as_secs();
        u64::try_from(left).ok().filter(|left| *left > 0)
    });
    waits.min().map(|seconds| Duration::from_secs(seconds) + Duration::from_millis(50))
}

/// The most restarts of any of its containers.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
}
