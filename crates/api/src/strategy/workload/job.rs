//! `batch/v1 Job`.

use serde_json::Value;

use super::super::{
    access::{at, ensure_object, fill, fill_text, flag, get, is_empty, items_mut, object_mut, set, text_at},
    pod::defaults::default_template,
    prepare::{self, PLAIN},
};
use crate::resource::Strategy;

/// The strategy of Jobs.
pub const JOB: Strategy = Strategy {
    default,
    prepare_create: prepare::first_generation,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    ..PLAIN
};

fn default(object: &mut Value) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]).cloned();
    let spec = ensure_object(object, "spec");
    if get(spec, "completions").is_none() && get(spec, "parallelism").is_none() {
        set(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = if get(spec, "backoffLimitPerIndex").is_some() { i64::from(i32::MAX) } else { 6 };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replacement = if get(spec, "podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
    default_job_parts(spec);
    if let Some(labels) = labels.filter(|labels| labels.as_object().is_some_and(|map| !map.is_empty())) {
        let metadata = ensure_object(object, "metadata");
        if is_empty(metadata, "labels") {
            set(metadata, "labels", labels);
        }
    }
}

/// Defaults that the job template of a CronJob gets too.
pub fn default_job_parts(spec: &mut Value) {
    default_template(spec);
    if let Some(policy) = object_mut(spec, "podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            for pattern in items_mut(rule, "onPodConditions") {
                fill_text(pattern, "status", "True");
            }
        }
    }
}

/// Once the Job has a uid: the labels and the selector by which it knows its pods.
pub fn after_identity(job: &mut Value) {
    if get(job, "spec").is_some_and(|spec| flag(spec, "manualSelector")) {
        return;
    }
    let uid = text_at(job, &["metadata", "uid"]).to_owned();
    let name = text_at(job, &["metadata", "name"]).to_owned();
    let spec = ensure_object(job, "spec");
    let template = ensure_object(spec, "template");
    let labels = ensure_object(ensure_object(template, "metadata"), "labels");
    fill(labels, "job-name", name.as_str());
    fill(labels, "batch.kubernetes.io/job-name", name.as_str());
    fill(labels, "controller-uid", uid.as_str());
    fill(labels, "batch.kubernetes.io/controller-uid", uid.as_str());
    let selector = ensure_object(ensure_object(spec, "selector"), "matchLabels");
    fill(selector, "batch.kubernetes.io/controller-uid", uid);
}
