//! `apps/v1 ReplicaSet` and `v1 ReplicationController`.

use serde_json::{Value, json};

use super::super::{
    access::{at, ensure_object, fill, get, is_empty, set},
    pod::defaults::default_pod_spec,
    prepare::{self, PLAIN},
};
use crate::resource::Strategy;

/// The strategy of ReplicaSets.
pub const REPLICA_SET: Strategy = Strategy {
    default: default_replica_set,
    prepare_create,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    ..PLAIN
};

/// The strategy of ReplicationControllers.
pub const REPLICATION_CONTROLLER: Strategy = Strategy {
    default: default_replication_controller,
    prepare_create,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    ..PLAIN
};

fn prepare_create(object: &mut Value) {
    prepare::first_generation(object);
    prepare::empty_status(object, json!({"replicas": 0}));
}

fn default_replica_set(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "replicas", 1);
    if let Some(template) = super::super::access::object_mut(spec, "template") {
        default_pod_spec(ensure_object(template, "spec"));
    }
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
    default_replica_set(object);
}
