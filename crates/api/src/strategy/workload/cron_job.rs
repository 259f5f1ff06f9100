//! `batch/v1 CronJob`.

use serde_json::Value;

use super::{
    super::{
        access::{ensure_object, fill, fill_text},
        prepare::{self, PLAIN},
    },
    job::default_job_parts,
};
use crate::resource::Strategy;

/// The strategy of CronJobs.
pub const CRON_JOB: Strategy = Strategy {
    default,
    prepare_create: prepare::first_generation,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    ..PLAIN
};

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill_text(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    let template = ensure_object(spec, "jobTemplate");
    default_job_parts(ensure_object(template, "spec"));
}
