//! What a Job and its pods say, in the terms of the decisions. Pure.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec},
    core::v1::Pod,
};
use kube::ResourceExt;

use crate::pods;

/// Holds a pod until its end is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label: which part of the work a pod does.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index failed before this pod, as counts against its limit.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often it failed besides, in ways that the policy ignores.
pub const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The spec, or an empty one: the API admits no Job without.
pub fn spec(job: &Job) -> JobSpec {
    job.spec.clone().unwrap_or_default()
}

pub fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// `completionMode`, which is NonIndexed by default.
pub fn completion_mode(spec: &JobSpec) -> &'static str {
    if is_indexed(spec) { "Indexed" } else { "NonIndexed" }
}

pub fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

/// Whether a pod is replaced only once it has failed, not already while it ends.
pub fn replaces_failed_only(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// A condition that is True.
pub fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    job.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// The condition that says the Job is over: Complete or Failed.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    condition(job, "Complete").or_else(|| condition(job, "Failed"))
}

pub fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|f| f == FINALIZER)
}

/// A pod's index if it has one that the Job knows.
pub fn index(pod: &Pod, spec: &JobSpec) -> Option<i32> {
    let index: i32 = pod.annotations().get(INDEX)?.parse().ok()?;
    (0..spec.completions.unwrap_or(0)).contains(&index).then_some(index)
}

pub fn has_succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

/// Failed; or deleted, where that is enough to count as a failure.
pub fn has_failed(pod: &Pod, spec: &JobSpec) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !replaces_failed_only(spec) && pod.metadata.deletion_timestamp.is_some(),
    }
}

/// Being deleted, but not at its end yet.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && !pods::is_terminal(pod)
}

/// When the last of its containers ended; else the best that is known.
pub fn finished_at(pod: &Pod, now: Timestamp) -> Timestamp {
    let status = pod.status.as_ref();
    let ended = status
        .and_then(|s| s.container_statuses.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|t| t.0));
    let not_ready =
        || pods::condition(pod, "Ready").filter(|c| c.status == "False")?.last_transition_time.as_ref().map(|t| t.0);
    let deleted = || {
        let end = pod.metadata.deletion_timestamp.as_ref()?.0;
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        end.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
    };
    ended.max().or_else(deleted).or_else(not_ready).unwrap_or(now)
}

/// A number from an annotation; 0 without.
pub fn count(pod: &Pod, annotation: &str) -> i32 {
    pod.annotations().get(annotation).and_then(|n| n.parse().ok()).unwrap_or(0)
}
