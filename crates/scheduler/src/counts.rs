//! What the scheduler counts, under upstream's names (`pkg/scheduler/metrics`).

use std::time::Duration;

use metrics::Family;

use crate::pod::PodInfo;

/// Powers of two from a thousandth of a second.
const ATTEMPT: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
const STEP: &[f64] = &[0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048];
const WHOLE: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
    1310.72, 2621.44, 5242.88,
];

static ATTEMPTS: Family = Family::counter(
    "scheduler_schedule_attempts_total",
    "[STABLE] Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.",
    &["profile", "result"],
);
static ATTEMPT_TOOK: Family = Family::histogram(
    "scheduler_scheduling_attempt_duration_seconds",
    "[STABLE] Scheduling attempt latency in seconds (scheduling algorithm + binding)",
    &["profile", "result"],
    ATTEMPT,
);
static DECISION_TOOK: Family = Family::histogram(
    "scheduler_scheduling_algorithm_duration_seconds",
    "[ALPHA] Scheduling algorithm latency in seconds",
    &[],
    ATTEMPT,
);
static STEP_TOOK: Family = Family::histogram(
    "scheduler_framework_extension_point_duration_seconds",
    "[STABLE] Latency for running all plugins of a specific extension point.",
    &["extension_point", "profile", "status"],
    STEP,
);
static TRIES: Family = Family::histogram(
    "scheduler_pod_scheduling_attempts",
    "[STABLE] Number of attempts to successfully schedule a pod.",
    &[],
    &[1.0, 2.0, 4.0, 8.0, 16.0],
);
static WAITED: Family = Family::histogram(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "[BETA] E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.",
    &["attempts"],
    WHOLE,
);
static PREEMPTIONS: Family = Family::counter(
    "scheduler_preemption_attempts_total",
    "[STABLE] Total preemption attempts in the cluster till now",
    &[],
);
static VICTIMS: Family = Family::histogram(
    "scheduler_preemption_victims",
    "[STABLE] Number of selected preemption victims",
    &[],
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
);
static PENDING: Family = Family::gauge(
    "scheduler_pending_pods",
    "[STABLE] Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated.",
    &["queue"],
);
static INCOMING: Family = Family::counter(
    "scheduler_queue_incoming_pods_total",
    "[STABLE] Number of pods added to scheduling queues by event and queue type.",
    &["event", "queue"],
);

/// What became of an attempt.
#[derive(Clone, Copy)]
pub(crate) enum Attempt {
    Scheduled,
    Unschedulable,
    Error,
}

/// A part of an attempt.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    PostFilter,
    Bind,
}

pub(crate) fn register() {
    metrics::register(&[
        &ATTEMPTS,
        &ATTEMPT_TOOK,
        &DECISION_TOOK,
        &STEP_TOOK,
        &TRIES,
        &WAITED,
        &PREEMPTIONS,
        &VICTIMS,
        &PENDING,
        &INCOMING,
    ]);
    pending([0, 0, 0, 0]);
}

/// An attempt to place a pod of this profile is over.
pub(crate) fn attempted(pod: &PodInfo, attempt: Attempt, took: Duration) {
    let result = match attempt {
        Attempt::Scheduled => "scheduled",
        Attempt::Unschedulable => "unschedulable",
        Attempt::Error => "error",
    };
    ATTEMPTS.count(&[&pod.scheduler_name, result]);
    ATTEMPT_TOOK.observe(&[&pod.scheduler_name, result], took.as_secs_f64());
}

/// A node was chosen, or none was found.
pub(crate) fn decided(took: Duration) {
    DECISION_TOOK.observe(&[], took.as_secs_f64());
}

/// A pod is bound after so many attempts, and so long after it came.
pub(crate) fn bound(attempts: u32, waited: Duration) {
    TRIES.observe(&[], f64::from(attempts));
    // Upstream counts beyond fifteen as one.
    let label = if attempts >= 15 { "15+".to_owned() } else { attempts.to_string() };
    WAITED.observe(&[&label], waited.as_secs_f64());
}

/// A step of an attempt is over; `status` is upstream's code of it.
pub(crate) fn stepped(pod: &PodInfo, step: Step, status: &str, took: Duration) {
    let step = match step {
        Step::PostFilter => "PostFilter",
        Step::Bind => "Bind",
    };
    STEP_TOOK.observe(&[step, &pod.scheduler_name, status], took.as_secs_f64());
}

/// It was tried to make room for a pod; `victims` have to go.
pub(crate) fn preempted(victims: Option<usize>) {
    PREEMPTIONS.count(&[]);
    if let Some(victims) = victims {
        VICTIMS.observe(&[], victims as f64);
    }
}

/// A pod came into a queue: `active`, `backoff`, `unschedulable`.
pub(crate) fn queued(event: &str, queue: &str) {
    INCOMING.count(&[event, queue]);
}

/// How many are in `active`, `backoff`, `unschedulable` and `gated`.
pub(crate) fn pending(counts: [usize; 4]) {
    for (queue, count) in ["active", "backoff", "unschedulable", "gated"].into_iter().zip(counts) {
        PENDING.set(&[queue], count as f64);
    }
}
