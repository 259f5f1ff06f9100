//! `apps/v1 Deployment`.

use serde_json::Value;

use super::super::{
    access::{ensure_object, fill, fill_text, get, set, text},
    pod::defaults::default_template,
    prepare::{self, PLAIN},
};
use crate::resource::Strategy;

/// The strategy of Deployments.
pub const DEPLOYMENT: Strategy = Strategy {
    default,
    prepare_create: prepare::first_generation,
    prepare_update,
    prepare_status_update: prepare::status_update_keeping_labels,
    ..PLAIN
};

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "replicas", 1);
    default_template(spec);
    let strategy = ensure_object(spec, "strategy");
    fill_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = ensure_object(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", "25%");
        fill(rolling, "maxSurge", "25%");
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

/// The generation also counts changes of annotations, which carry to the ReplicaSets.
fn prepare_update(new: &mut Value, old: &Value) {
    prepare::next_generation(new, old);
    let annotations = |object: &Value| get(object, "metadata").and_then(|metadata| get(metadata, "annotations")).cloned();
    let before = super::super::access::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    let changed = match (annotations(new), annotations(old)) {
        (Some(new), Some(old)) => new != old,
        (Some(one), None) | (None, Some(one)) => one.as_object().is_some_and(|map| !map.is_empty()),
        (None, None) => false,
    };
    if changed {
        if let Some(metadata) = new.as_object_mut().and_then(|map| map.get_mut("metadata")) {
            set(metadata, "generation", before + 1);
        }
    }
}
