//! `apps/v1 ReplicaSet` and `v1 ReplicationController`.

use serde_json::{Value, json};

use super::{
    super::{
        access::{at, ensure_object, entries, fill, get, int, is_empty, set},
        check::nonnegative,
        field::{Faults, Path},
        pod::{defaults::default_template, spec},
        prepare::{self, PLAIN},
    },
    template,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of ReplicaSets.
pub const REPLICA_SET: Strategy = Strategy {
    default: default_replica_set,
    prepare_create,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    validate,
    validate_update,
    validate_status_update,
    ..PLAIN
};

/// The strategy of ReplicationControllers.
pub const REPLICATION_CONTROLLER: Strategy = Strategy {
    default: default_replication_controller,
    prepare_create,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    validate: validate_controller,
    validate_update: |new, _| validate_controller(new),
    validate_status_update,
    ..PLAIN
};

fn prepare_create(object: &mut Value) {
    prepare::first_generation(object);
    prepare::empty_status(object, json!({"replicas": 0}));
}

fn default_replica_set(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "replicas", 1);
    default_template(spec);
}

fn default_replication_controller(object: &mut Value) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels.filter(|labels| labels.as_object().is_some_and(|map| !map.is_empty())) {
        let spec = ensure_object(object, "spec");
        if is_empty(spec, "selector") {
            set(spec, "selector", labels.clone());
        }
        let metadata = ensure_object(object, "metadata");
        if get(metadata, "labels").is_none() || is_empty(metadata, "labels") {
            set(metadata, "labels", labels);
        }
    }
    let spec = ensure_object(object, "spec");
    fill(spec, "replicas", 1);
    // Unlike a ReplicaSet's, it may be missing.
    if get(spec, "template").is_some() {
        default_template(spec);
    }
}

fn validate(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    nonnegative(&mut faults, &path, spec, "replicas");
    nonnegative(&mut faults, &path, spec, "minReadySeconds");
    template::selector(&mut faults, &path, spec, "deployment");
    template::selector_matches(&mut faults, &path, spec);
    template::endless_template(&mut faults, &path, spec, "ReplicaSet");
    faults.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate(new));
    template::immutable_selector(&mut faults, new, old);
    faults.into_causes()
}

fn validate_status_update(new: &Value, _: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let status = get(new, "status").unwrap_or(&Value::Null);
    template::status_counts(
        &mut faults,
        status,
        &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    );
    let available = int(status, "availableReplicas").unwrap_or(0);
    if available > int(status, "readyReplicas").unwrap_or(0) {
        faults.invalid(&Path::root("status.availableReplicas"), available, "cannot be greater than readyReplicas");
    }
    faults.into_causes()
}

fn validate_controller(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let object_spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    nonnegative(&mut faults, &path, object_spec, "minReadySeconds");
    if is_empty(object_spec, "selector") {
        faults.required(&path.field("selector"), "");
    }
    nonnegative(&mut faults, &path, object_spec, "replicas");
    let at = path.field("template");
    match get(object_spec, "template") {
        None => faults.required(&at, ""),
        Some(pods) => {
            let labels = super::super::access::at(pods, &["metadata", "labels"]);
            let matches = entries(object_spec, "selector")
                .all(|(key, value)| labels.and_then(|labels| get(labels, key)) == Some(value));
            if !matches {
                faults.invalid(
                    &at.field("metadata").field("labels"),
                    labels.unwrap_or(&json!({})),
                    "`selector` does not match template `labels`",
                );
            }
            spec::template(&mut faults, &at, pods);
            template::endless(&mut faults, &at, object_spec, "ReplicationController");
        }
    }
    faults.into_causes()
}
