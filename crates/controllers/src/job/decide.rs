//! What a Job needs next: pods made, pods deleted, its end. Pure (upstream's `syncJob` and `manageJob`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::{
    backoff::{self, Record},
    facts::{self, FAILURES, IGNORED_FAILURES},
    indexes::Indexes,
    policy::{self, Verdict},
};
use crate::{deletion_rank as rank, pod_control::BURST, pods};

/// A Job and its pods at a moment.
pub struct View<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    pub pods: &'a [Arc<Pod>],
    /// How its pods had ended when the Job was looked at before.
    pub record: Record,
    pub now: Timestamp,
}

/// A pod to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which part of the work it does, in an Indexed Job.
    pub index: Option<i32>,
    /// Failures of its index that count, and that are ignored; where there is a limit per index.
    pub failures: Option<(i32, i32)>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Decision {
    pub create: Vec<Wanted>,
    pub delete: Vec<Arc<Pod>>,
    /// Pods that are active before any of this is done.
    pub active: Vec<Arc<Pod>>,
    /// The Job's fate, if it is decided: FailureTarget or SuccessCriteriaMet.
    pub fate: Option<JobCondition>,
    /// Whether the pods were brought in line (not so when the Job is going).
    pub managed: bool,
    pub record: Record,
    pub succeeded: Indexes,
    pub failed: Option<Indexes>,
    /// Failed pods by index that are to stay until their replacement has taken over their counts.
    pub remembered: HashMap<i32, Arc<Pod>>,
    /// When time alone changes the decision.
    pub look_again: Option<Duration>,
}

impl Decision {
    /// What is done about the pods, as upstream's metrics name it.
    pub fn action(&self) -> &'static str {
        match self {
            Self { fate: Some(_), .. } | Self { managed: false, .. } => "reconciling",
            Self { delete, .. } if !delete.is_empty() => "pods_deleted",
            Self { create, .. } if !create.is_empty() => "pods_created",
            _ => "tracking",
        }
    }
}

/// A condition that is True from now on.
pub fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Decides.
pub fn decide(view: &View) -> Decision {
    let (job, spec, now) = (view.job, view.spec, view.now);
    let status = job.status.clone().unwrap_or_default();
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let (known_good, known_bad) = (uncounted.succeeded.unwrap_or_default(), uncounted.failed.unwrap_or_default());
    let new = |pod: &&Arc<Pod>, known: &[String]| {
        facts::is_tracked(pod)
            && !known.contains(&pod.uid().unwrap_or_default())
            && (!facts::is_indexed(spec) || facts::index(pod, spec).is_some())
    };
    let good: Vec<_> = view.pods.iter().filter(|p| new(p, &known_good) && facts::has_succeeded(p)).collect();
    let bad: Vec<_> = view.pods.iter().filter(|p| new(p, &known_bad) && facts::has_failed(p, spec)).collect();
    let counted = bad.iter().filter(|p| policy::verdict(spec, p) != Verdict::Ignore).count();
    let ends = |pods: &[&Arc<Pod>]| pods.iter().map(|p| facts::finished_at(p, now)).collect::<Vec<_>>();
    let total = |counted: Option<i32>, new: usize, known: usize| counted.unwrap_or(0) + (new + known) as i32;
    let mut succeeded = total(status.succeeded, good.len(), known_good.len());
    let failed = total(status.failed, counted, known_bad.len());
    let mut decision = Decision {
        active: view.pods.iter().filter(|p| pods::is_active(p)).cloned().collect(),
        // A failure that does not count puts its replacement off as any other does.
        record: view.record.after(&ends(&good), &ends(&bad)),
        ..Decision::default()
    };
    decision.fate = fate(view, failed, &mut decision.look_again);
    if facts::is_indexed(spec) {
        indexed(view, &mut decision);
        succeeded = decision.succeeded.len();
    }
    if decision.fate.is_some() {
        decision.delete = decision.active.clone();
        return decision;
    }
    if job.metadata.deletion_timestamp.is_none() {
        manage(view, succeeded, &mut decision);
        decision.managed = true;
    }
    let active = decision.active.len() + decision.create.len() - decision.delete.len();
    let enough = spec.completions.map_or(succeeded > 0, |wanted| succeeded >= wanted);
    let complete = enough && active == 0 && (spec.completions.is_some() || decision.create.is_empty());
    if complete {
        let words = "Reached expected number of succeeded pods";
        decision.fate = Some(condition("SuccessCriteriaMet", "CompletionsReached", words, now));
    }
    decision
}

/// The fate that limits and policies decide, or have decided before.
fn fate(view: &View, failed: i32, look_again: &mut Option<Duration>) -> Option<JobCondition> {
    let (job, spec, now) = (view.job, view.spec, view.now);
    if let Some(decided) =
        facts::condition(job, "SuccessCriteriaMet").or_else(|| facts::condition(job, "FailureTarget"))
    {
        return Some(decided.clone());
    }
    let failure = |reason: &str, message: &str| Some(condition("FailureTarget", reason, message, now));
    let by_policy =
        view.pods.iter().filter(|p| facts::has_failed(p, spec)).find_map(|pod| match policy::verdict(spec, pod) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
    if let Some(message) = by_policy {
        return failure("PodFailurePolicy", &message);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if failed > limit || restarts_exceed(view, limit) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    let deadline = spec.active_deadline_seconds.filter(|_| !facts::is_suspended(spec))?;
    let started = job.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(now, |t| t.0);
    let left = deadline - now.duration_since(started).as_secs();
    if left <= 0 {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    *look_again = sooner(*look_again, Duration::from_secs(left.unsigned_abs()));
    None
}

/// Containers that are restarted in place count by their restarts.
fn restarts_exceed(view: &View, limit: i32) -> bool {
    let policy = view.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let running = view.pods.iter().filter(|p| !pods::is_terminal(p));
    let restarts: i32 = running
        .flat_map(|p| p.status.iter())
        .flat_map(|s| s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten()))
        .map(|c| c.restart_count)
        .sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

fn sooner(a: Option<Duration>, b: Duration) -> Option<Duration> {
    Some(a.map_or(b, |a| a.min(b)))
}

/// What an Indexed Job has to know besides: which indexes are done, which are lost, and what that decides.
fn indexed(view: &View, decision: &mut Decision) {
    let (spec, now) = (view.spec, view.now);
    let completions = spec.completions.unwrap_or(0);
    let status = view.job.status.clone().unwrap_or_default();
    decision.succeeded = Indexes::parse(&status.completed_indexes.unwrap_or_default(), completions);
    let tracked =
        || view.pods.iter().filter(|p| facts::is_tracked(p)).filter_map(|p| Some((facts::index(p, spec)?, p)));
    for (index, _) in tracked().filter(|(_, p)| facts::has_succeeded(p)) {
        decision.succeeded.insert(index);
    }
    if let Some(limit) = spec.backoff_limit_per_index {
        let mut failed = Indexes::parse(&status.failed_indexes.unwrap_or_default(), completions);
        for (index, pod) in tracked().filter(|(_, p)| facts::has_failed(p, spec)) {
            let over = match policy::verdict(spec, pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => facts::count(pod, FAILURES) >= limit,
            };
            if over && !decision.succeeded.has(index) {
                failed.insert(index);
            }
        }
        if decision.fate.is_none() {
            let verdict = if spec.max_failed_indexes.is_some_and(|most| failed.len() > most) {
                Some(("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"))
            } else if !failed.is_empty() && failed.len() + decision.succeeded.len() >= completions {
                Some(("FailedIndexes", "Job has failed indexes"))
            } else {
                None
            };
            decision.fate = verdict.map(|(reason, message)| condition("FailureTarget", reason, message, now));
        }
        let active: Indexes = decision.active.iter().filter_map(|p| facts::index(p, spec)).collect();
        for (index, pod) in tracked().filter(|(_, p)| facts::has_failed(p, spec)) {
            if active.has(index) || decision.succeeded.has(index) || failed.has(index) {
                continue;
            }
            let order =
                |p: &Pod| (facts::count(p, FAILURES) + facts::count(p, IGNORED_FAILURES), facts::finished_at(p, now));
            let last = decision.remembered.entry(index).or_insert_with(|| pod.clone());
            if order(last) <= order(pod) {
                *last = pod.clone();
            }
        }
        decision.failed = Some(failed);
    }
    if decision.fate.is_none()
        && let Some(message) = policy::success(spec.success_policy.as_ref(), completions, &decision.succeeded)
    {
        decision.fate = Some(condition("SuccessCriteriaMet", "SuccessPolicy", &message, now));
    }
}

/// Which pods to make and which to delete so that as many work as should.
fn manage(view: &View, succeeded: i32, decision: &mut Decision) {
    let spec = view.spec;
    if facts::is_suspended(spec) {
        decision.delete = decision.active.clone();
        return;
    }
    let active = decision.active.len() as i32;
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        // Any success means that the work is done: what runs may end, nothing is begun.
        None if succeeded > 0 => active,
        None => parallelism,
        Some(completions) => (completions - succeeded).clamp(0, parallelism),
    };
    let surplus = usize::try_from(active - wanted).unwrap_or(0);
    decision.delete = superfluous(spec, &decision.active, surplus);
    decision.delete.truncate(BURST);
    if !decision.delete.is_empty() {
        return;
    }
    let terminating: Vec<&Arc<Pod>> =
        view.pods.iter().filter(|p| facts::replaces_failed_only(spec) && facts::is_terminating(p)).collect();
    let missing = usize::try_from(wanted - active - terminating.len() as i32).unwrap_or(0).min(BURST);
    if missing == 0 {
        return;
    }
    if spec.backoff_limit_per_index.is_none() {
        let left = decision.record.left(view.now);
        if !left.is_zero() {
            decision.look_again = sooner(decision.look_again, left);
            return;
        }
    }
    if !facts::is_indexed(spec) {
        decision.create = vec![Wanted { index: None, failures: None }; missing];
        return;
    }
    let busy: Indexes =
        decision.active.iter().chain(terminating.iter().copied()).filter_map(|p| facts::index(p, spec)).collect();
    let lost = decision.failed.clone().unwrap_or_default();
    let free = Indexes::first_outside(&[&decision.succeeded, &busy, &lost], spec.completions.unwrap_or(0), missing);
    for index in free {
        let before = decision.remembered.get(&index);
        if let Some(pod) = before {
            let failures = facts::count(pod, FAILURES) + facts::count(pod, IGNORED_FAILURES) + 1;
            let left = backoff::left(failures.unsigned_abs(), facts::finished_at(pod, view.now), view.now);
            if !left.is_zero() {
                decision.look_again = sooner(decision.look_again, left);
                continue;
            }
        }
        let failures = spec.backoff_limit_per_index.map(|_| match before {
            None => (0, 0),
            Some(pod) => {
                let (counted, ignored) = (facts::count(pod, FAILURES), facts::count(pod, IGNORED_FAILURES));
                if policy::verdict(spec, pod) == Verdict::Ignore {
                    (counted, ignored + 1)
                } else {
                    (counted + 1, ignored)
                }
            }
        });
        decision.create.push(Wanted { index: Some(index), failures });
    }
}

/// Pods without an index that makes sense, all but one of each index, and then those that matter least.
fn superfluous(spec: &JobSpec, active: &[Arc<Pod>], surplus: usize) -> Vec<Arc<Pod>> {
    let mut doomed = Vec::new();
    let mut rest = active.to_vec();
    if facts::is_indexed(spec) {
        let mut by_index: HashMap<Option<i32>, Vec<Arc<Pod>>> = HashMap::new();
        for pod in active {
            by_index.entry(facts::index(pod, spec)).or_default().push(pod.clone());
        }
        rest.clear();
        for (index, twins) in by_index {
            let too_many = twins.len() - usize::from(index.is_some());
            let least = rank::least(&twins, active, too_many);
            rest.extend(twins.into_iter().filter(|p| !least.iter().any(|l| l.uid() == p.uid())));
            doomed.extend(least);
        }
    }
    let more = surplus.saturating_sub(doomed.len());
    doomed.extend(rank::least(&rest, active, more));
    doomed
}
