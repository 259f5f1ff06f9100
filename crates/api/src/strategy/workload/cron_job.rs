//! `batch/v1 CronJob`.

use serde_json::Value;

use super::{
    super::{
        access::{ensure_object, fill, fill_text, flag, get, text, text_at},
        check::{nonnegative, required_one_of},
        field::{Faults, Path},
        prepare::{self, PLAIN},
    },
    job::{default_job_parts, job_spec},
    schedule,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of CronJobs.
pub const CRON_JOB: Strategy = Strategy {
    default,
    prepare_create: prepare::first_generation,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    validate,
    validate_update: |new, _| validate_spec(new),
    ..PLAIN
};

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill_text(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    let template = ensure_object(spec, "jobTemplate");
    ensure_object(template, "metadata");
    default_job_parts(ensure_object(template, "spec"));
}

fn validate(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let name = text_at(object, &["metadata", "name"]);
    // Its jobs get eleven characters more.
    if name.len() > 52 {
        faults.invalid(&Path::root("metadata.name"), name, "must be no more than 52 characters");
    }
    faults.extend(validate_spec(object));
    faults.into_causes()
}

fn validate_spec(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    let written = text(spec, "schedule");
    let at = path.field("schedule");
    if written.is_empty() {
        faults.required(&at, "");
    } else {
        if let Err(fault) = schedule::check(written) {
            faults.invalid(&at, written, fault);
        }
        if written.contains("TZ") {
            let detail = if get(spec, "timeZone").is_some() {
                "cannot use both timeZone field and TZ or CRON_TZ in schedule"
            } else {
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            };
            faults.invalid(&at, written, detail);
        }
    }
    nonnegative(&mut faults, &path, spec, "startingDeadlineSeconds");
    if let Some(zone) = get(spec, "timeZone").and_then(Value::as_str) {
        let at = path.field("timeZone");
        if zone.is_empty() {
            faults.invalid(&at, zone, "timeZone must be nil or non-empty string");
        } else if zone.eq_ignore_ascii_case("local") {
            faults.invalid(
                &at,
                zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            );
        } else if jiff::tz::TimeZone::get(zone).is_err() {
            faults.invalid(&at, zone, format!("unknown time zone {zone}"));
        }
    }
    required_one_of(&mut faults, &path, spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
    let template_path = path.field("jobTemplate");
    let at = template_path.field("spec");
    let template = get(spec, "jobTemplate").unwrap_or(&none);
    let job = get(template, "spec").unwrap_or(&none);
    job_spec(&mut faults, &at, job);
    if let Some(selector) = get(job, "selector") {
        faults.invalid(&at.field("selector"), selector, "`selector` will be auto-generated");
    }
    if flag(job, "manualSelector") {
        faults.not_supported(&at.field("manualSelector"), true, &["nil", "false"]);
    }
    nonnegative(&mut faults, &path, spec, "successfulJobsHistoryLimit");
    nonnegative(&mut faults, &path, spec, "failedJobsHistoryLimit");
    faults.into_causes()
}
