//! Where a container mounts its pod's volumes.

use serde_json::Value;

use super::{
    super::{
        access::{flag, get, list, text},
        check::optional_one_of,
        field::{Faults, Path},
    },
    volume::{Volumes, local_descending_path},
};

/// A container's `volumeMounts` and `volumeDevices`.
pub fn mounts(faults: &mut Faults, path: &Path<'_>, container: &Value, volumes: &Volumes<'_>) {
    let (mounts, devices) = (list(container, "volumeMounts"), list(container, "volumeDevices"));
    let privileged = get(container, "securityContext").is_some_and(|context| flag(context, "privileged"));
    let path_of_mounts = path.field("volumeMounts");
    for (i, mount) in mounts.iter().enumerate() {
        let at = path_of_mounts.index(i);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        let volume = volumes.iter().find(|(other, _)| *other == name).map(|(_, volume)| *volume);
        if name.is_empty() {
            faults.required(&at.field("name"), "");
        }
        if volume.is_none() {
            faults.not_found(&at.field("name"), name);
        }
        if target.is_empty() {
            faults.required(&at.field("mountPath"), "");
        }
        if mounts[..i].iter().any(|before| text(before, "mountPath") == target) {
            faults.invalid(&at.field("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            faults.invalid(&at.field("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| text(device, "devicePath") == target) {
            faults.invalid(&at.field("mountPath"), target, "must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if volume.is_some_and(|volume| get(volume, "image").is_some()) && !expression.is_empty() {
            faults.invalid(&at.field("subPathExpr"), expression, "not allowed in image volume sources");
        }
        if !sub.is_empty() {
            local_descending_path(faults, &path_of_mounts.field("subPath"), sub);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                faults.invalid(&at.field("subPathExpr"), expression, "subPathExpr and subPath are mutually exclusive");
            }
            local_descending_path(faults, &path_of_mounts.field("subPathExpr"), expression);
        }
        propagation(faults, &path_of_mounts, mount, privileged);
    }
    let path_of_devices = path.field("volumeDevices");
    for (i, device) in devices.iter().enumerate() {
        let at = path_of_devices.index(i);
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            faults.required(&at.field("name"), "");
        }
        if devices[..i].iter().any(|before| text(before, "name") == name && !name.is_empty()) {
            faults.invalid(&at.field("name"), name, "must be unique");
        }
        match volumes.iter().find(|(other, _)| *other == name) {
            None => faults.not_found(&at.field("name"), name),
            Some((_, volume)) => {
                if get(volume, "persistentVolumeClaim").is_none() && get(volume, "ephemeral").is_none() {
                    faults.invalid(
                        &at.field("name"),
                        name,
                        "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                    );
                }
            }
        }
        if target.is_empty() {
            faults.required(&at.field("devicePath"), "");
        } else if target.split('/').any(|segment| segment == "..") {
            faults.invalid(&at.field("devicePath"), target, "can not contain backsteps ('..')");
        }
        if devices[..i].iter().any(|before| text(before, "devicePath") == target) {
            faults.invalid(&at.field("devicePath"), target, "must be unique");
        }
        if mounts.iter().any(|mount| text(mount, "name") == name) {
            faults.invalid(&at.field("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| text(mount, "mountPath") == target) {
            faults.invalid(&at.field("devicePath"), target, "must not already exist as a path in volumeMounts");
        }
    }
}

fn propagation(faults: &mut Faults, path: &Path<'_>, mount: &Value, privileged: bool) {
    let propagation = get(mount, "mountPropagation").and_then(Value::as_str);
    optional_one_of(faults, path, mount, "mountPropagation", &["Bidirectional", "HostToContainer", "None"]);
    if propagation == Some("Bidirectional") && !privileged {
        faults.forbidden(
            &path.field("mountPropagation"),
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
    let at = path.field("recursiveReadOnly");
    match get(mount, "recursiveReadOnly").and_then(Value::as_str) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                faults.forbidden(&at, "may only be specified when readOnly is true");
            }
            if propagation.is_some_and(|propagation| propagation != "None") {
                faults.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => faults.not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}
