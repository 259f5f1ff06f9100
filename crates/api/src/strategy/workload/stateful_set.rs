//! `apps/v1 StatefulSet`, and `ControllerRevision`.

use serde_json::{Value, json};

use super::super::{
    access::{ensure_object, fill, fill_text, items_mut, object_mut, text},
    pod::defaults::default_template,
    prepare::{self, PLAIN},
};
use crate::resource::Strategy;

/// The strategy of StatefulSets.
pub const STATEFUL_SET: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update: prepare::next_generation,
    prepare_status_update: prepare::status_update,
    ..PLAIN
};

/// The strategy of ControllerRevisions.
pub const CONTROLLER_REVISION: Strategy = Strategy { ..PLAIN };

fn prepare_create(object: &mut Value) {
    prepare::first_generation(object);
    prepare::empty_status(object, json!({"replicas": 0, "availableReplicas": 0}));
}

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill_text(spec, "podManagementPolicy", "OrderedReady");
    default_template(spec);
    let strategy = ensure_object(spec, "updateStrategy");
    if text(strategy, "type").is_empty() {
        fill_text(strategy, "type", "RollingUpdate");
        ensure_object(strategy, "rollingUpdate");
    }
    if text(strategy, "type") == "RollingUpdate" {
        if let Some(rolling) = object_mut(strategy, "rollingUpdate") {
            fill(rolling, "partition", 0);
        }
    }
    let retention = ensure_object(spec, "persistentVolumeClaimRetentionPolicy");
    fill_text(retention, "whenDeleted", "Retain");
    fill_text(retention, "whenScaled", "Retain");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    for claim in items_mut(spec, "volumeClaimTemplates") {
        fill(claim, "apiVersion", "v1");
        fill(claim, "kind", "PersistentVolumeClaim");
        super::super::volume::default_claim(claim);
    }
}
