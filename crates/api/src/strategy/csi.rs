//! What CSI drivers and their controllers write in `storage.k8s.io`: CSIDrivers, CSINodes, CSIStorageCapacities and
//! VolumeAttachments.

use serde_json::{Value, json};

use super::{
    access::{at, ensure_object, entries, fill, get, int, is_empty, list, same, same_field, set, text},
    amount,
    check::{IMMUTABLE, label_selector, nonnegative, optional_one_of},
    field::{Faults, Path},
    names,
    pod::volume::csi_driver_name,
    prepare::{self, PLAIN, WITH_STATUS},
    volume::STORAGE_PLAIN,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of CSIDrivers.
pub const CSI_DRIVER: Strategy = Strategy {
    default: default_driver,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    validate: validate_driver,
    validate_update: validate_driver_update,
    unconditional_update: false,
    ..PLAIN
};

/// The strategy of CSINodes.
pub const CSI_NODE: Strategy =
    Strategy { validate: validate_node, validate_update: validate_node_update, ..STORAGE_PLAIN };

/// The strategy of CSIStorageCapacities.
pub const CSI_STORAGE_CAPACITY: Strategy =
    Strategy { validate: validate_capacity, validate_update: validate_capacity_update, ..STORAGE_PLAIN };

/// The strategy of VolumeAttachments.
pub const VOLUME_ATTACHMENT: Strategy = Strategy {
    prepare_create: |object| prepare::empty_status(object, json!({"attached": false})),
    prepare_status_update: prepare::status_update,
    validate: validate_attachment,
    validate_update: validate_attachment_update,
    validate_status_update: validate_attachment_update,
    unconditional_update: false,
    ..WITH_STATUS
};

/// The object in a field, or none of it.
fn object<'a>(value: &'a Value, key: &str) -> &'a Value {
    get(value, key).unwrap_or(&Value::Null)
}

fn default_driver(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill(spec, "attachRequired", true);
    fill(spec, "podInfoOnMount", false);
    fill(spec, "storageCapacity", false);
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    fill(spec, "requiresRepublish", false);
    fill(spec, "seLinuxMount", false);
    if is_empty(spec, "volumeLifecycleModes") {
        set(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
}

fn validate_driver(driver: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    driver_spec(&mut faults, object(driver, "spec"));
    faults.into_causes()
}

fn validate_driver_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let (new_spec, old_spec) = (object(new, "spec"), object(old, "spec"));
    driver_spec(&mut faults, new_spec);
    let path = Path::root("spec");
    // Upstream's messages have the first one's name with a letter too many.
    for (field, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
        if !same_field(new_spec, old_spec, field) {
            faults.invalid(&path.field(shown), object(new_spec, field), IMMUTABLE);
        }
    }
    faults.into_causes()
}

fn driver_spec(faults: &mut Faults, spec: &Value) {
    let path = Path::root("spec");
    optional_one_of(faults, &path, spec, "fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"]);
    token_requests(faults, &path.field("tokenRequests"), list(spec, "tokenRequests"));
    for mode in list(spec, "volumeLifecycleModes") {
        if mode != "Persistent" && mode != "Ephemeral" {
            faults.not_supported(&path.field("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
    }
    if let Some(seconds) = int(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|seconds| *seconds < 10) {
        let at = path.field("nodeAllocatableUpdatePeriodSeconds");
        faults.invalid(&at, seconds, "must be greater than or equal to 10 seconds");
    }
}

fn token_requests(faults: &mut Faults, path: &Path<'_>, requests: &[Value]) {
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        let audience = text(request, "audience");
        if requests[..i].iter().any(|before| text(before, "audience") == audience) {
            faults.duplicate(&path.field("audience"), audience);
            continue;
        }
        let at = path.field("expirationSeconds");
        match int(request, "expirationSeconds") {
            Some(seconds) if seconds < 600 => {
                faults.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > 1 << 32 => {
                faults.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}

/// Bytes in a node's name as a driver has it.
const LONGEST_NODE_ID: usize = 256;

fn validate_node(node: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("spec.drivers");
    let drivers = list(object(node, "spec"), "drivers");
    for (i, driver) in drivers.iter().enumerate() {
        let path = path.index(i);
        let (name, id) = (text(driver, "name"), text(driver, "nodeID"));
        csi_driver_name(&mut faults, &path.field("name"), name);
        if id.is_empty() {
            faults.required(&path.field("nodeID"), "");
        }
        if id.len() > LONGEST_NODE_ID {
            faults.invalid(&path.field("nodeID"), id, format!("must be {LONGEST_NODE_ID} characters or less"));
        }
        nonnegative(&mut faults, &path.field("allocatable"), object(driver, "allocatable"), "count");
        if drivers[..i].iter().any(|before| text(before, "name") == name) {
            faults.duplicate(&path.field("name"), name);
        }
        let keys = list(driver, "topologyKeys");
        for (i, key) in keys.iter().enumerate() {
            let shown = key.as_str().unwrap_or("");
            if shown.is_empty() {
                faults.required(&path, "");
            }
            if keys[..i].contains(key) {
                faults.duplicate(&path, shown);
            }
            faults.invalid_each(&path, shown, names::qualified_name(shown));
        }
    }
    faults.into_causes()
}

/// Of a driver that is there already only what it can have may change.
fn validate_node_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_node(new));
    let drivers = |node| list(object(node, "spec"), "drivers");
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        super::access::remove(&mut driver, "allocatable");
        driver
    };
    for before in drivers(old) {
        for driver in drivers(new).iter().filter(|driver| text(driver, "name") == text(before, "name")) {
            if !same(&fixed(driver), &fixed(before)) {
                faults.invalid(&Path::root("spec.drivers"), &fixed(driver), IMMUTABLE);
            }
        }
    }
    faults.into_causes()
}

fn validate_capacity(capacity: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    if let Some(topology) = get(capacity, "nodeTopology") {
        label_selector(&mut faults, &Path::root("nodeTopology"), topology);
    }
    let class = text(capacity, "storageClassName");
    faults.invalid_each(&Path::root("storageClassName"), class, names::dns1123_subdomain(class));
    if let Some(room) = get(capacity, "capacity")
        && amount::of(room).is_some_and(|amount| amount.signum() < 0)
    {
        faults.invalid(&Path::root("capacity"), &amount::shown(room), "must be greater than or equal to 0");
    }
    faults.into_causes()
}

fn validate_capacity_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    for field in ["nodeTopology", "storageClassName"] {
        if !same_field(new, old, field) {
            faults.invalid(&Path::root(field), object(new, field), IMMUTABLE);
        }
    }
    faults.into_causes()
}

/// Bytes in an attachment's metadata, and in the text of an error.
const MOST_METADATA: usize = 256 * 1024;
const LONGEST_ERROR: usize = 1024;

fn validate_attachment(attachment: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    attachment_parts(&mut faults, attachment);
    let path = Path::root("spec");
    let spec = object(attachment, "spec");
    csi_driver_name(&mut faults, &path.field("attacher"), text(spec, "attacher"));
    if let Some(volume) = at(spec, &["source", "persistentVolumeName"]).and_then(Value::as_str) {
        let path = Path::root("spec.source.persistentVolumeName");
        faults.invalid_each(&path, volume, names::dns1123_subdomain(volume));
    }
    faults.into_causes()
}

fn validate_attachment_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    attachment_parts(&mut faults, new);
    if !same_field(new, old, "spec") {
        faults.invalid(&Path::root("spec"), object(new, "spec"), IMMUTABLE);
    }
    faults.into_causes()
}

fn attachment_parts(faults: &mut Faults, attachment: &Value) {
    let path = Path::root("spec");
    let spec = object(attachment, "spec");
    if text(spec, "attacher").is_empty() {
        faults.required(&path.field("attacher"), "");
    }
    let at = path.field("source");
    let source = object(spec, "source");
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (get(source, "inlineVolumeSpec"), get(source, "persistentVolumeName")) {
        (None, None) => faults.required(&at, ONE),
        (Some(_), Some(_)) => faults.forbidden(&at, ONE),
        (None, Some(name)) if name == "" => {
            faults.required(&at.field("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        _ => {}
    }
    let node = text(spec, "nodeName");
    faults.invalid_each(&path.field("nodeName"), node, names::dns1123_subdomain(node));
    let path = Path::root("status");
    let status = object(attachment, "status");
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if entries(status, "attachmentMetadata").map(size).sum::<usize>() > MOST_METADATA {
        faults.too_long(&path.field("attachmentMetadata"), MOST_METADATA);
    }
    for field in ["attachError", "detachError"] {
        let error = object(status, field);
        let path = path.field(field);
        if text(error, "message").len() > LONGEST_ERROR {
            faults.too_long(&path.field("message"), MOST_METADATA);
        }
        if let Some(code) = int(error, "errorCode").filter(|code| *code < 0) {
            faults.invalid(&path.field("errorCode"), code, "must be between 0 and 2147483647, inclusive");
        }
    }
}
