//! `apps/v1 DaemonSet`.

use serde_json::{Value, json};

use super::super::{
    access::{at, copy, ensure_object, fill, fill_text, get, same_field, set, text},
    pod::defaults::default_template,
    prepare::{self, PLAIN},
};
use crate::resource::Strategy;

/// The strategy of DaemonSets.
pub const DAEMON_SET: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update,
    prepare_status_update: prepare::status_update,
    ..PLAIN
};

fn prepare_create(object: &mut Value) {
    prepare::first_generation(object);
    prepare::empty_status(
        object,
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}),
    );
}

/// The template's generation grows with the template, which old clients rely on.
fn prepare_update(new: &mut Value, old: &Value) {
    let none = json!({});
    let old_spec = get(old, "spec").unwrap_or(&none);
    if let Some(metadata) = new.as_object_mut().and_then(|map| map.get_mut("metadata")) {
        let key = "deprecated.daemonset.template.generation";
        let before = at(old, &["metadata", "annotations", key]).and_then(Value::as_str).and_then(|text| text.parse::<i64>().ok());
        if let Some(before) = before {
            let annotations = ensure_object(metadata, "annotations");
            fill(annotations, key, before.to_string());
        }
    }
    let template_changed = get(new, "spec").is_some_and(|spec| !same_field(spec, old_spec, "template"));
    prepare::next_generation(new, old);
    if template_changed {
        let generation = at(old, &["metadata", "annotations", "deprecated.daemonset.template.generation"])
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(0)
            + 1;
        let metadata = ensure_object(new, "metadata");
        let annotations = ensure_object(metadata, "annotations");
        set(annotations, "deprecated.daemonset.template.generation", generation.to_string());
    }
    copy(new, old, "status");
}

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    default_template(spec);
    let strategy = ensure_object(spec, "updateStrategy");
    fill_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = ensure_object(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", 1);
        fill(rolling, "maxSurge", 0);
    }
    fill(spec, "revisionHistoryLimit", 10);
}
