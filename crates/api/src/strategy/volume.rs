//! PersistentVolumes, their claims, and what is in `storage.k8s.io`.

use serde_json::{Value, json};

use super::{
    access::{ensure_object, fill, fill_text, object_mut, set},
    field::{Faults, Path},
    pod::defaults::default_remote_disk,
    prepare::{self, PLAIN, WITH_STATUS},
};
use crate::resource::Strategy;

/// The strategy of PersistentVolumes.
pub const PERSISTENT_VOLUME: Strategy = Strategy {
    default: default_volume,
    prepare_create: |object| prepare::empty_status(object, json!({"phase": "Pending"})),
    ..WITH_STATUS
};

/// The strategy of PersistentVolumeClaims.
pub const PERSISTENT_VOLUME_CLAIM: Strategy = Strategy {
    default: default_claim,
    prepare_create: |object| prepare::empty_status(object, json!({"phase": "Pending"})),
    ..WITH_STATUS
};

/// The strategy of StorageClasses.
pub const STORAGE_CLASS: Strategy = Strategy { default: default_class, ..PLAIN };

/// The strategy of CSIDrivers.
pub const CSI_DRIVER: Strategy = Strategy {
    default: default_driver,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    unconditional_update: false,
    ..PLAIN
};

/// The strategy of CSINodes, CSIStorageCapacities and VolumeAttributesClasses.
pub const STORAGE_PLAIN: Strategy = Strategy { unconditional_update: false, ..PLAIN };

/// The strategy of VolumeAttachments.
pub const VOLUME_ATTACHMENT: Strategy = Strategy {
    prepare_create: |object| prepare::empty_status(object, json!({"attached": false})),
    prepare_status_update: prepare::status_update,
    unconditional_update: false,
    ..WITH_STATUS
};

fn default_volume(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill(spec, "volumeMode", "Filesystem");
    if let Some(source) = object_mut(spec, "hostPath") {
        fill(source, "type", "");
    }
    default_remote_disk(spec);
    fill_text(ensure_object(object, "status"), "phase", "Pending");
}

/// Defaults of a claim, also in the templates of StatefulSets.
pub fn default_claim(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "volumeMode", "Filesystem");
    fill_text(ensure_object(object, "status"), "phase", "Pending");
}

fn default_class(object: &mut Value) {
    fill(object, "reclaimPolicy", "Delete");
    fill(object, "volumeBindingMode", "Immediate");
}

fn default_driver(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "attachRequired", true);
    fill(spec, "podInfoOnMount", false);
    fill(spec, "storageCapacity", false);
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    fill(spec, "requiresRepublish", false);
    fill(spec, "seLinuxMount", false);
    if super::access::is_empty(spec, "volumeLifecycleModes") {
        set(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
}

/// The spec of a claim, of its own or in an ephemeral volume.
pub fn claim_spec(_faults: &mut Faults, _path: &Path<'_>, _spec: &Value) {}
