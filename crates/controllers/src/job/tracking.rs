//! Counting how pods ended, each exactly once: first their UIDs are written down in the status, then their
//! finalizer goes, then the number moves and the UID is struck out. Whatever is interrupted can be resumed. Pure.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::{
    api::{
        batch::v1::{JobCondition, JobSpec, JobStatus, UncountedTerminatedPods},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::{
    Acted,
    decide::{Decision, View, condition},
    facts,
    policy::{self, Verdict},
};
use crate::pods;

/// The most UIDs in the status at a time.
const MOST: usize = 500;

/// The status that is to be written before any finalizer goes.
pub struct Counted {
    pub status: JobStatus,
    /// Pods whose end the status knows of.
    pub release: Vec<Arc<Pod>>,
    /// More ended than the status has room for.
    pub overflow: bool,
}

/// Writes down the pods that ended.
pub fn count(view: &View, decision: &Decision, acted: &Acted) -> Counted {
    let (spec, now) = (view.spec, view.now);
    let mut status = view.job.status.clone().unwrap_or_default();
    // Those that were just deleted may need a while.
    let terminating = view.pods.iter().filter(|p| facts::is_terminating(p)).count() + acted.deleted;
    status.active = Some(acted.active as i32).filter(|n| *n > 0);
    status.ready = Some(acted.ready as i32);
    status.terminating = Some(terminating as i32);
    suspension(&mut status, view, decision);
    strike_out(&mut status, &tracked(view.pods));
    let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let mut release = Vec::new();
    let mut overflow = false;
    let fails = decision.fate.as_ref().is_some_and(|f| f.type_ == "FailureTarget");
    let mut seen = 0;
    for pod in view.pods.iter().filter(|p| facts::is_tracked(p)) {
        let uid = pod.uid().unwrap_or_default();
        let failed = facts::has_failed(pod, spec);
        if !may_go(view, decision, pod, failed) {
            continue;
        }
        release.push(pod.clone());
        let index = facts::index(pod, spec);
        let known_bad = uncounted.failed.iter().flatten().any(|u| *u == uid);
        let counts = !facts::is_indexed(spec) || index.is_some();
        if facts::has_succeeded(pod) && !known_bad {
            let known = uncounted.succeeded.iter().flatten().any(|u| *u == uid);
            // The index is enough to count by.
            if !facts::is_indexed(spec) && !known {
                uncounted.succeeded.get_or_insert_default().push(uid);
            }
            seen += 1;
        } else if (failed || fails) && !known_bad && counts && policy::verdict(spec, pod) != Verdict::Ignore {
            uncounted.failed.get_or_insert_default().push(uid);
            seen += 1;
        }
        if seen >= MOST {
            overflow = true;
            break;
        }
    }
    if facts::is_indexed(spec) {
        status.succeeded = Some(decision.succeeded.len()).filter(|n| *n > 0);
        status.completed_indexes = Some(decision.succeeded.to_string()).filter(|t| !t.is_empty());
        status.failed_indexes = decision.failed.as_ref().map(ToString::to_string).or(status.failed_indexes);
    }
    status.uncounted_terminated_pods = Some(uncounted);
    if let Some(fate) = &decision.fate
        && !status.conditions.iter().flatten().any(|c| c.type_ == fate.type_ && c.status == "True")
    {
        status.conditions.get_or_insert_default().push(fate.clone());
    }
    if status.start_time.is_none() && !facts::is_suspended(spec) {
        status.start_time = Some(Time(now));
    }
    Counted { status, release, overflow }
}

/// The UIDs of the pods that still have their finalizer.
pub fn tracked(pods: &[Arc<Pod>]) -> HashSet<String> {
    pods.iter().filter(|p| facts::is_tracked(p)).filter_map(|p| p.uid()).collect()
}

/// Whether a pod may lose its finalizer.
fn may_go(view: &View, decision: &Decision, pod: &Pod, failed: bool) -> bool {
    if view.job.metadata.deletion_timestamp.is_some() || decision.fate.is_some() || facts::has_succeeded(pod) {
        return true;
    }
    let remembered = || {
        let index = facts::index(pod, view.spec)?;
        decision.remembered.get(&index).filter(|last| last.uid() == pod.uid())
    };
    failed && remembered().is_none()
}

fn suspension(status: &mut JobStatus, view: &View, decision: &Decision) {
    if !decision.managed || decision.fate.is_some() {
        return;
    }
    let suspended = facts::is_suspended(view.spec);
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().position(|c| c.type_ == "Suspended");
    let was = before.is_some_and(|i| conditions[i].status == "True");
    if was == suspended {
        if conditions.is_empty() {
            status.conditions = None;
        }
        return;
    }
    let mut fresh = match suspended {
        true => condition("Suspended", "JobSuspended", "Job suspended", view.now),
        false => condition("Suspended", "JobResumed", "Job resumed", view.now),
    };
    // The deadline counts from the last resumption.
    status.start_time = Some(Time(view.now)).filter(|_| !suspended);
    if !suspended {
        fresh.status = "False".into();
    }
    match before {
        Some(index) => conditions[index] = fresh,
        None => conditions.push(fresh),
    }
}

/// Moves the pods that lost their finalizer from the list to the numbers; whether anything moved.
pub fn strike_out(status: &mut JobStatus, tracked: &HashSet<String>) -> bool {
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let UncountedTerminatedPods { succeeded, failed } = uncounted;
    let settle = |list: &mut Option<Vec<String>>, number: &mut Option<i32>| {
        let Some(uids) = list else { return false };
        let before = uids.len();
        uids.retain(|uid| tracked.contains(uid));
        let moved = before - uids.len();
        if uids.is_empty() {
            *list = None;
        }
        if moved > 0 {
            *number = Some(number.unwrap_or(0) + moved as i32);
        }
        moved > 0
    };
    let good = settle(succeeded, &mut status.succeeded);
    let bad = settle(failed, &mut status.failed);
    good || bad
}

/// The Job ends once all is counted and nothing runs any more; returns the condition that says so.
pub fn end(status: &mut JobStatus, spec: &JobSpec, fate: &JobCondition, now: jiff::Timestamp) -> Option<JobCondition> {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let pending = uncounted.succeeded.is_some() || uncounted.failed.is_some();
    if pending || status.active.unwrap_or(0) > 0 || status.terminating.unwrap_or(0) > 0 {
        return None;
    }
    let kind = if fate.type_ == "FailureTarget" { "Failed" } else { "Complete" };
    let ended =
        condition(kind, fate.reason.as_deref().unwrap_or_default(), fate.message.as_deref().unwrap_or_default(), now);
    if kind == "Complete" {
        status.completion_time = Some(Time(now));
    }
    // The server takes no end without a start, and a pod may well succeed while its Job is being suspended.
    let never_started = facts::is_suspended(spec) && spec.completions == Some(0);
    if status.start_time.is_none() && !never_started {
        status.start_time = Some(Time(now));
    }
    status.conditions.get_or_insert_default().push(ended.clone());
    Some(ended)
}

/// How many of these are ready.
pub fn ready(all: &[Arc<Pod>]) -> usize {
    all.iter().filter(|p| pods::is_ready(p)).count()
}
