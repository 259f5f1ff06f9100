//! What the controllers count, under upstream's names: their queues (`k8s.io/component-base/metrics/prometheus/workqueue`),
//! Jobs, CronJobs, autoscalers and nodes that fell silent.

use std::time::Duration;

use metrics::Family;

/// Powers of ten from ten billionths of a second.
const QUEUE: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0];
/// Powers of two from four thousandths of a second.
const SYNC: &[f64] =
    &[0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384, 32.768, 65.536];
const SKEW: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
const RECONCILE: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

static ADDS: Family =
    Family::counter("workqueue_adds_total", "[ALPHA] Total number of adds handled by workqueue", &["name"]);
static DEPTH: Family = Family::gauge("workqueue_depth", "[ALPHA] Current depth of workqueue", &["name"]);
static RETRIES: Family =
    Family::counter("workqueue_retries_total", "[ALPHA] Total number of retries handled by workqueue", &["name"]);
static WAITED: Family = Family::histogram(
    "workqueue_queue_duration_seconds",
    "[ALPHA] How long in seconds an item stays in workqueue before being requested.",
    &["name"],
    QUEUE,
);
static WORKED: Family = Family::histogram(
    "workqueue_work_duration_seconds",
    "[ALPHA] How long in seconds processing an item from workqueue takes.",
    &["name"],
    QUEUE,
);
static JOB_SYNCS: Family = Family::counter(
    "job_controller_job_syncs_total",
    "[STABLE] The number of job syncs",
    &["action", "completion_mode", "result"],
);
static JOB_SYNC_TOOK: Family = Family::histogram(
    "job_controller_job_sync_duration_seconds",
    "[STABLE] The time it took to sync a job",
    &["action", "completion_mode", "result"],
    SYNC,
);
static JOB_PODS: Family = Family::counter(
    "job_controller_job_pods_finished_total",
    "[STABLE] The number of finished Pods that are fully tracked",
    &["completion_mode", "result"],
);
static JOBS: Family = Family::counter(
    "job_controller_jobs_finished_total",
    "[STABLE] The number of finished jobs",
    &["completion_mode", "reason", "result"],
);
static CRON_SKEW: Family = Family::histogram(
    "cronjob_controller_job_creation_skew_duration_seconds",
    "[STABLE] Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    &[],
    SKEW,
);
static EVICTIONS: Family = Family::counter(
    "node_collector_evictions_total",
    "[STABLE] Number of Node evictions that happened since current instance of NodeController started.",
    &["zone"],
);
static SCALINGS: Family = Family::counter(
    "horizontal_pod_autoscaler_controller_reconciliations_total",
    "[ALPHA] Number of reconciliations of HPA controller. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'. Note that if both spec and internal errors happen during a reconciliation, the first one to occur is reported in `error` label.",
    &["action", "error"],
);
static SCALING_TOOK: Family = Family::histogram(
    "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds",
    "[ALPHA] The time(seconds) that the HPA controller takes to reconcile once. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'. Note that if both spec and internal errors happen during a reconciliation, the first one to occur is reported in `error` label.",
    &["action", "error"],
    RECONCILE,
);

pub(crate) fn register() {
    metrics::register(&[
        &ADDS,
        &DEPTH,
        &RETRIES,
        &WAITED,
        &WORKED,
        &JOB_SYNCS,
        &JOB_SYNC_TOOK,
        &JOB_PODS,
        &JOBS,
        &CRON_SKEW,
        &EVICTIONS,
        &SCALINGS,
        &SCALING_TOOK,
    ]);
}

/// What a queue counts, by upstream's name of it.
#[derive(Clone, Copy)]
pub(crate) struct OfQueue(&'static str);

impl OfQueue {
    /// That of the controller of this name.
    pub fn of(controller: &'static str) -> Self {
        Self(match controller {
            "csrsigning" => "certificate",
            "endpoints" => "endpoint",
            "endpointslice" => "endpoint_slice",
            "endpointslicemirroring" => "endpoint_slice_mirroring",
            "ephemeral-volume" => "ephemeral_volume",
            "garbage" => "garbage_collector_attempt_to_delete",
            "job-strays" => "job_orphan_pod",
            "node-lifecycle" => "node_lifecycle_controller",
            "persistentvolume-binder" => "claims",
            "podgc" => "orphaned_pods_nodes",
            "pv-protection" => "pvprotection",
            "pvc-protection" => "pvcprotection",
            "resourcequota" => "resourcequota_primary",
            "root-ca-cert-publisher" => "root_ca_cert_publisher",
            "serviceaccount-token" => "serviceaccount_tokens_secret",
            "stale-disruption" => "stale_pod_disruption",
            "ttl" => "ttlcontroller",
            "ttl-after-finished" => "ttl_jobs_to_delete",
            "vac-protection" => "vacprotection",
            same => same,
        })
    }

    /// So many keys came, and so many wait now.
    pub fn added(self, more: usize, waiting: usize) {
        ADDS.add(&[self.0], more as f64);
        DEPTH.set(&[self.0], waiting as f64);
    }

    /// A key was taken after so long; so many wait now.
    pub fn taken(self, after: Duration, waiting: usize) {
        WAITED.observe(&[self.0], after.as_secs_f64());
        DEPTH.set(&[self.0], waiting as f64);
    }

    /// Work on a key is over; it is tried again if it failed.
    pub fn worked(self, took: Duration, failed: bool) {
        WORKED.observe(&[self.0], took.as_secs_f64());
        if failed {
            RETRIES.count(&[self.0]);
        }
    }
}

/// A look at a Job is over. `action` is what was done about its pods.
pub(crate) fn job_synced(action: &str, mode: &str, failed: bool, took: Duration) {
    let labels = [action, mode, if failed { "error" } else { "success" }];
    JOB_SYNCS.count(&labels);
    JOB_SYNC_TOOK.observe(&labels, took.as_secs_f64());
}

/// So many more pods of a Job are counted as succeeded and failed.
pub(crate) fn job_pods(mode: &str, succeeded: i32, failed: i32) {
    for (result, more) in [("succeeded", succeeded), ("failed", failed)] {
        if more > 0 {
            JOB_PODS.add(&[mode, result], f64::from(more));
        }
    }
}

/// A Job is over; the reason is that of its condition.
pub(crate) fn job_ended(mode: &str, reason: &str, succeeded: bool) {
    JOBS.count(&[mode, reason, if succeeded { "succeeded" } else { "failed" }]);
}

/// A CronJob's Job was made so many seconds after its time.
pub(crate) fn cron_job_started(late: f64) {
    CRON_SKEW.observe(&[], late);
}

/// Pods of a node of that zone have to leave it.
pub(crate) fn node_evicted(zone: &str) {
    EVICTIONS.count(&[zone]);
}

/// An autoscaler was looked at. `action` is what it did, `error` what kept it from that.
pub(crate) fn scaled(action: &str, error: &str, took: Duration) {
    SCALINGS.count(&[action, error]);
    SCALING_TOOK.observe(&[action, error], took.as_secs_f64());
}
