//! PersistentVolumes, their claims, and what is in `storage.k8s.io`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    access::{
        at, copy, ensure_object, entries, fill, fill_text, get, is_empty, list, map, object_mut, same, same_field, set,
        text,
    },
    amount,
    check::{IMMUTABLE, label_selector, optional_one_of},
    field::{Faults, Path},
    names,
    pod::{
        defaults::default_remote_disk,
        placement::node_selector,
        update::difference,
        volume::{csi_driver_name, host_path, remote},
    },
    prepare::{self, PLAIN, WITH_STATUS},
    resources,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of PersistentVolumes.
pub const PERSISTENT_VOLUME: Strategy = Strategy {
    default: default_volume,
    prepare_create: |object| prepare::empty_status(object, json!({"phase": "Pending"})),
    validate: validate_volume,
    validate_update: validate_volume_update,
    ..WITH_STATUS
};

/// The strategy of PersistentVolumeClaims.
pub const PERSISTENT_VOLUME_CLAIM: Strategy = Strategy {
    default: default_claim,
    prepare_create: |object| prepare::empty_status(object, json!({"phase": "Pending"})),
    validate: validate_claim,
    validate_update: validate_claim_update,
    ..WITH_STATUS
};

/// The strategy of StorageClasses.
pub const STORAGE_CLASS: Strategy =
    Strategy { default: default_class, validate: validate_class, validate_update: validate_class_update, ..PLAIN };

/// The strategy of VolumeAttributesClasses.
pub const VOLUME_ATTRIBUTES_CLASS: Strategy =
    Strategy { validate: validate_attributes, validate_update: validate_attributes_update, ..STORAGE_PLAIN };

/// What most kinds of the group have in common.
pub const STORAGE_PLAIN: Strategy = Strategy { unconditional_update: false, ..PLAIN };

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

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

fn access_modes(faults: &mut Faults, path: &Path<'_>, spec: &Value, none: &str) {
    let path = path.field("accessModes");
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        faults.required(&path, none);
    }
    let (mut one_pod, mut others) = (false, false);
    for mode in modes.iter().filter_map(Value::as_str) {
        if !ACCESS_MODES.contains(&mode) {
            faults.not_supported(&path, mode, &ACCESS_MODES);
        } else if mode == "ReadWriteOncePod" {
            one_pod = true;
        } else {
            others = true;
        }
    }
    if one_pod && others {
        faults.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn class_name(faults: &mut Faults, path: &Path<'_>, spec: &Value, field: &str) {
    let name = text(spec, field);
    if !name.is_empty() {
        faults.invalid_each(&path.field(field), name, names::dns1123_subdomain(name));
    }
}

/// The spec of a claim, of its own or in an ephemeral volume.
pub fn claim_spec(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    if is_empty(spec, "accessModes") {
        faults.required(&path.field("accessModes"), "at least 1 access mode is required");
    }
    if let Some(selector) = get(spec, "selector") {
        label_selector(faults, &path.field("selector"), selector);
    }
    if !is_empty(spec, "accessModes") {
        access_modes(faults, path, spec, "");
    }
    let at_storage = path.field("resources");
    let at_storage = at_storage.key("storage");
    match at(spec, &["resources", "requests", "storage"]) {
        None => faults.required(&at_storage, ""),
        Some(size) => {
            resources::positive(faults, &at_storage, size);
        }
    }
    class_name(faults, path, spec, "storageClassName");
    optional_one_of(faults, path, spec, "volumeMode", &VOLUME_MODES);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = get(spec, field) {
            data_source(faults, &path.field(field), source);
        }
    }
    class_name(faults, path, spec, "volumeAttributesClassName");
}

fn data_source(faults: &mut Faults, path: &Path<'_>, source: &Value) {
    for field in ["name", "kind"] {
        if text(source, field).is_empty() {
            faults.required(&path.field(field), "");
        }
    }
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        faults.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        faults.invalid_each(&path.field("apiGroup"), group, names::dns1123_subdomain(group));
    }
}

fn validate_claim(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    claim_spec(&mut faults, &Path::root("spec"), get(object, "spec").unwrap_or(&Value::Null));
    faults.into_causes()
}

fn validate_claim_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_claim(new));
    let none = json!({});
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    let mut munged = new_spec.clone();
    // The volume is named once, and a class once.
    if text(old_spec, "volumeName").is_empty() {
        copy(&mut munged, old_spec, "volumeName");
    }
    if get(old_spec, "storageClassName").is_none() {
        copy(&mut munged, old_spec, "storageClassName");
    }
    let bound = at(new, &["status", "phase"]).and_then(Value::as_str) == Some("Bound");
    let size = |object: &Value| at(object, &["resources", "requests", "storage"]).cloned();
    if bound {
        if let (Some(before), Some(requests)) =
            (size(old_spec), super::access::object_at_mut(&mut munged, &["resources", "requests"]))
        {
            set(requests, "storage", before);
        }
        copy(&mut munged, old_spec, "volumeAttributesClassName");
    }
    if !same(&munged, old_spec) {
        faults.forbidden(
            &Path::root("spec"),
            &format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
                difference("core.PersistentVolumeClaimSpec", old_spec, &munged)
            ),
        );
    }
    let given = at(new, &["status", "capacity", "storage"]);
    if let (Some(after), Some(before)) = (size(new_spec), size(old_spec)) {
        let shrunk = amount::compare(&after, &before).is_lt();
        let below_given = given.is_some_and(|given| amount::compare(&after, given).is_le());
        if shrunk && below_given {
            faults.forbidden(
                &Path::root("spec.resources.requests.storage"),
                "field can not be less than status.capacity",
            );
        }
    }
    if !same_field(new_spec, old_spec, "volumeMode") {
        faults.invalid(&Path::root("volumeMode"), get(new_spec, "volumeMode").unwrap_or(&Value::Null), IMMUTABLE);
    }
    let (wanted, before) = (get(new_spec, ATTRIBUTES), get(old_spec, ATTRIBUTES));
    if wanted != before && at(old, &["status", "currentVolumeAttributesClassName"]).is_some() {
        let none = match wanted.map(|name| name.as_str().unwrap_or_default()) {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return faults.into_causes(),
        };
        faults.forbidden(
            &Path::root("spec").field(ATTRIBUTES),
            &format!("update to {none} is forbidden when status.currentVolumeAttributesClassName is not nil"),
        );
    }
    faults.into_causes()
}

const ATTRIBUTES: &str = "volumeAttributesClassName";

/// The sources that a PersistentVolume can have.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

fn validate_volume(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    access_modes(&mut faults, &path, spec, "");
    if is_empty(spec, "capacity") {
        faults.required(&path.field("capacity"), "");
    }
    if map(spec, "capacity").is_none_or(|capacity| !capacity.contains_key("storage") || capacity.len() > 1) {
        faults.not_supported(&path.field("capacity"), get(spec, "capacity").unwrap_or(&none), &["storage"]);
    }
    for (name, quantity) in entries(spec, "capacity") {
        let at = path.field("capacity");
        let at = at.key(name);
        resources::not_negative(&mut faults, &at, quantity);
        resources::positive(&mut faults, &at, quantity);
    }
    optional_one_of(&mut faults, &path, spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"]);
    let host_path = get(spec, "hostPath").map(|source| text(source, "path"));
    if host_path.is_some_and(is_root) && text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let at = path.field("persistentVolumeReclaimPolicy");
        faults.forbidden(&at, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let affinity = get(spec, "nodeAffinity");
    if let Some(affinity) = affinity {
        let at = path.field("nodeAffinity");
        match get(affinity, "required") {
            None => faults.required(&at.field("required"), "must specify required node constraints"),
            Some(selector) => node_selector(&mut faults, &at.field("required"), selector),
        }
    }
    let mut count = 0;
    for source in SOURCES {
        let Some(value) = get(spec, source) else { continue };
        count += 1;
        let at = path.field(source);
        if count > 1 {
            faults.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        volume_source(&mut faults, &path, &at, source, value, affinity.is_some());
    }
    if count == 0 {
        faults.required(&path, "must specify a volume type");
    }
    class_name(&mut faults, &path, spec, "storageClassName");
    optional_one_of(&mut faults, &path, spec, "volumeMode", &VOLUME_MODES);
    faults.into_causes()
}

fn volume_source(faults: &mut Faults, spec: &Path<'_>, path: &Path<'_>, kind: &str, source: &Value, affinity: bool) {
    match kind {
        "hostPath" => host_path(faults, path, source),
        "local" => {
            if text(source, "path").is_empty() {
                faults.required(&path.field("path"), "");
            }
            if !affinity {
                faults.required(&spec.field("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => csi_source(faults, path, source),
        _ => remote(faults, path, kind, source),
    }
}

fn csi_source(faults: &mut Faults, path: &Path<'_>, source: &Value) {
    csi_driver_name(faults, &path.field("driver"), text(source, "driver"));
    if text(source, "volumeHandle").is_empty() {
        faults.required(&path.field("volumeHandle"), "");
    }
    for field in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let Some(secret) = get(source, field) else { continue };
        let path = path.field(field);
        for field in ["name", "namespace"] {
            let name = text(secret, field);
            match field {
                _ if name.is_empty() => faults.required(&path.field(field), ""),
                "name" => faults.invalid_each(&path.field(field), name, names::dns1123_subdomain(name)),
                _ => faults.invalid_each(&path.field(field), name, names::dns1123_label(name)),
            }
        }
    }
}

fn validate_volume_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_volume(new));
    let none = json!({});
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    if SOURCES.iter().any(|source| !same_field(new_spec, old_spec, source)) {
        let only_source = |spec: &Value| {
            let mut out = json!({});
            for source in SOURCES {
                copy(&mut out, spec, source);
            }
            out
        };
        faults.forbidden(
            &Path::root("spec.persistentvolumesource"),
            &format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                difference("core.PersistentVolumeSource", &only_source(old_spec), &only_source(new_spec))
            ),
        );
    }
    if !same_field(new_spec, old_spec, "volumeMode") {
        faults.invalid(&Path::root("volumeMode"), get(new_spec, "volumeMode").unwrap_or(&Value::Null), IMMUTABLE);
    }
    if get(old_spec, "nodeAffinity").is_some() && !same_field(new_spec, old_spec, "nodeAffinity") {
        faults.invalid(
            &Path::root("nodeAffinity"),
            get(new_spec, "nodeAffinity").unwrap_or(&Value::Null),
            "field is immutable, except for updating from beta label to GA",
        );
    }
    if get(old_spec, ATTRIBUTES).is_some() && get(new_spec, ATTRIBUTES).is_none() {
        let path = Path::root("spec");
        faults.forbidden(&path.field(ATTRIBUTES), "update from non-nil value to nil is forbidden");
    }
    faults.into_causes()
}

/// Whether a path is another way to write `/`.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|step| matches!(step, "" | "."))
}

fn validate_attributes(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    provisioner(&mut faults, "driverName", object);
    parameters(&mut faults, object);
    if is_empty(object, "parameters") {
        faults.required(&Path::root("parameters"), "must contain at least one key/value pair");
    }
    faults.into_causes()
}

fn validate_attributes_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    for field in ["driverName", "parameters"] {
        if !same_field(new, old, field) {
            faults.forbidden(&Path::root(field), &format!("updates to {field} are forbidden."));
        }
    }
    faults.extend(validate_attributes(new));
    faults.into_causes()
}

/// What makes volumes, or changes them, by its name.
fn provisioner(faults: &mut Faults, field: &str, object: &Value) {
    match text(object, field) {
        "" => faults.required(&Path::root(field), ""),
        name => {
            let lower = name.to_lowercase();
            faults.invalid_each(&Path::root(field), name, names::qualified_name(&lower));
        }
    }
}

/// What it is told: at most 512 pairs of at most 256 KiB together.
fn parameters(faults: &mut Faults, object: &Value) {
    const MOST: usize = 256 << 10;
    let path = Path::root("parameters");
    if map(object, "parameters").is_some_and(|parameters| parameters.len() > 512) {
        return faults.too_long(&path, 512);
    }
    let mut size = 0;
    for (key, value) in entries(object, "parameters") {
        if key.is_empty() {
            faults.invalid(&path, key, "field can not be empty.");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MOST {
        faults.too_long(&path, MOST);
    }
}

fn validate_class(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let root = Path::root("");
    provisioner(&mut faults, "provisioner", object);
    parameters(&mut faults, object);
    optional_one_of(&mut faults, &root, object, "reclaimPolicy", &["Delete", "Retain"]);
    optional_one_of(&mut faults, &root, object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]);
    topologies(&mut faults, &root.field("allowedTopologies"), list(object, "allowedTopologies"));
    faults.into_causes()
}

fn topologies(faults: &mut Faults, path: &Path<'_>, terms: &[Value]) {
    // Values by key: neither the order of keys nor that of values tells terms apart.
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let at = path.index(i);
        let at = at.field("matchLabelExpressions");
        let mut keys = BTreeMap::new();
        for (j, expression) in list(term, "matchLabelExpressions").iter().enumerate() {
            let at = at.index(j);
            let (key, values) = (text(expression, "key"), list(expression, "values"));
            let mut set = BTreeSet::new();
            if values.is_empty() {
                faults.required(&at.field("values"), "");
            }
            for (k, value) in values.iter().enumerate() {
                let value = value.as_str().unwrap_or_default();
                if !set.insert(value) {
                    faults.duplicate(&at.field("values").index(k), value);
                }
            }
            faults.invalid_each(&at.field("key"), key, names::qualified_name(key));
            if keys.insert(key, set).is_some() {
                faults.duplicate(&at.field("key"), key);
            }
        }
        if seen.contains(&keys) {
            faults.duplicate(&at, "");
        }
        seen.push(keys);
    }
}

fn validate_class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let forbidden = |faults: &mut Faults, field: &str| {
        if !same_field(new, old, field) {
            faults.forbidden(&Path::root(field), &format!("updates to {field} are forbidden."));
        }
    };
    forbidden(&mut faults, "parameters");
    forbidden(&mut faults, "provisioner");
    forbidden(&mut faults, "reclaimPolicy");
    if !same_field(new, old, "volumeBindingMode") {
        faults.invalid(
            &Path::root("volumeBindingMode"),
            get(new, "volumeBindingMode").unwrap_or(&Value::Null),
            IMMUTABLE,
        );
    }
    faults.into_causes()
}
