//! A pod's volumes.

use serde_json::Value;

use super::{
    super::{
        access::{entries, get, int, is_empty, list, text},
        amount,
        check::optional_one_of,
        field::{Faults, Path},
        names,
    },
    environment::{VOLUME_FIELDS, object_field, resource_field},
};

/// The volumes that are sound: name and the volume.
pub type Volumes<'a> = Vec<(&'a str, &'a Value)>;

/// `volumes`; `pod` is the name of the pod if this is one's spec. Gives those that can be mounted.
pub fn volumes<'a>(faults: &mut Faults, path: &Path<'_>, volumes: &'a [Value], pod: &str, is_pod: bool) -> Volumes<'a> {
    let mut sound: Volumes<'a> = Vec::with_capacity(volumes.len());
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        let before = faults.count();
        let name = text(volume, "name");
        source(faults, &at, volume, pod, is_pod);
        match name {
            "" => faults.required(&at.field("name"), ""),
            name => faults.invalid_each(&at.field("name"), name, names::dns1123_label(name)),
        }
        if sound.iter().any(|(other, _)| *other == name) {
            faults.duplicate(&at.field("name"), name);
        }
        if faults.count() == before {
            sound.push((name, volume));
        }
        let claim = get(volume, "persistentVolumeClaim").map_or("", |claim| text(claim, "claimName"));
        if !claim.is_empty() && !pod.is_empty() {
            let created = volumes
                .iter()
                .any(|other| get(other, "ephemeral").is_some() && claim == format!("{pod}-{}", text(other, "name")));
            if created {
                faults.invalid(
                    &at.field("persistentVolumeClaim").field("claimName"),
                    claim,
                    "must not reference a PVC that gets created for an ephemeral volume",
                );
            }
        }
    }
    sound
}

fn source(faults: &mut Faults, path: &Path<'_>, volume: &Value, pod: &str, is_pod: bool) {
    let mut count = 0;
    if let Some(memory) = get(volume, "emptyDir") {
        count += 1;
        if get(memory, "sizeLimit").and_then(amount::of).is_some_and(|size| size.signum() < 0) {
            faults.forbidden(
                &path.field("emptyDir").field("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            );
        }
    }
    for kind in SOURCES {
        let Some(source) = get(volume, kind) else { continue };
        let at = path.field(kind);
        count += 1;
        if count > 1 {
            let at = path.field(if kind == "cephfs" { "cephFS" } else { kind });
            faults.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        match kind {
            "hostPath" => host_path(faults, &at, source),
            "secret" => keyed(faults, &at, source, "secretName"),
            "configMap" => keyed(faults, &at, source, "name"),
            "downwardAPI" => {
                mode(faults, &at, source, "defaultMode");
                for file in list(source, "items") {
                    downward_file(faults, &at, file);
                }
            }
            "projected" => projected(faults, &at, source),
            "image" => {
                if is_pod && text(source, "reference").is_empty() {
                    faults.required(&at.field("reference"), "");
                }
                super::container::pull_policy(faults, &at.field("pullPolicy"), text(source, "pullPolicy"));
            }
            "ephemeral" => ephemeral(faults, path, source, pod, text(volume, "name")),
            "csi" => {
                csi_driver_name(faults, &at.field("driver"), text(source, "driver"));
                if let Some(secret) = get(source, "nodePublishSecretRef") {
                    match text(secret, "name") {
                        "" => faults.required(&at.field("nodePublishSecretRef").field("name"), ""),
                        name => faults.invalid_each(
                            &at.field("nodePublishSecretRef").field("name"),
                            name,
                            names::dns1123_subdomain(name),
                        ),
                    }
                }
            }
            _ => remote(faults, &at, kind, source),
        }
    }
    if count == 0 {
        faults.required(path, "must specify a volume type");
    }
}

/// All but `emptyDir`, in upstream's order.
const SOURCES: [&str; 30] = [
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
    "local",
];

/// What must be filled in of the sources that need little more than that, in a pod or a PersistentVolume.
pub fn remote(faults: &mut Faults, path: &Path<'_>, kind: &str, source: &Value) {
    let required: &[&str] = match kind {
        "gitRepo" => &["repository"],
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "nfs" => &["server", "path"],
        "iscsi" => &["targetPortal", "iqn"],
        "glusterfs" => &["endpoints", "path"],
        "persistentVolumeClaim" => &["claimName"],
        "rbd" => &["monitors", "image"],
        "cephfs" => &["monitors"],
        "quobyte" => &["volume"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "azureDisk" => &["diskName", "diskURI"],
        "storageos" => &["volumeName"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        _ => &[],
    };
    for field in required {
        if is_empty(source, field) {
            faults.required(&path.field(field), "");
        }
    }
    match kind {
        "gitRepo" => local_descending_path(faults, &path.field("directory"), text(source, "directory")),
        "nfs" if !text(source, "path").starts_with('/') => {
            faults.invalid(&path.field("path"), text(source, "path"), "must be an absolute path");
        }
        "fc" => fibre_channel(faults, path, source),
        "iscsi" => {
            let lun = int(source, "lun").unwrap_or(0);
            if !(0..=255).contains(&lun) {
                faults.invalid(&path.field("lun"), lun, "must be between 0 and 255, inclusive");
            }
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = int(source, "partition").unwrap_or(0);
            if !(0..=255).contains(&partition) {
                faults.invalid(&path.field("partition"), partition, "must be between 1 and 255, inclusive");
            }
        }
        "flexVolume" => {
            for (key, _) in entries(source, "options") {
                let namespace = key.split('/').next().unwrap_or("");
                let normalized = format!(".{}", namespace.to_lowercase());
                if normalized.ends_with(".kubernetes.io") || normalized.ends_with(".k8s.io") {
                    faults.invalid(
                        &path.field("options").key(key),
                        key,
                        "kubernetes.io and k8s.io namespaces are reserved",
                    );
                }
            }
        }
        _ => {}
    }
}

/// An `fc`, of a pod or a PersistentVolume.
pub fn fibre_channel(faults: &mut Faults, path: &Path<'_>, source: &Value) {
    let at = path.field("targetWWNs");
    let (names, ids) = (!is_empty(source, "targetWWNs"), !is_empty(source, "wwids"));
    if !names && !ids {
        faults.required(&at, "must specify either targetWWNs or wwids, but not both");
    }
    if names && ids {
        let names = get(source, "targetWWNs").unwrap_or(&Value::Null);
        faults.invalid(&at, names, "targetWWNs and wwids can not be specified simultaneously");
    }
    match int(source, "lun") {
        _ if !names => {}
        None => faults.required(&path.field("lun"), "lun is required if targetWWNs is specified"),
        Some(lun) => {
            for fault in super::super::names::in_range(lun, 0, 255) {
                faults.invalid(&path.field("lun"), lun, fault);
            }
        }
    }
}

/// A `hostPath`, of a pod or a PersistentVolume.
pub fn host_path(faults: &mut Faults, path: &Path<'_>, source: &Value) {
    let directory = text(source, "path");
    if directory.is_empty() {
        faults.required(&path.field("path"), "");
        return;
    }
    no_backsteps(faults, &path.field("path"), directory);
    optional_one_of(
        faults,
        path,
        source,
        "type",
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"],
    );
}

/// The name of a CSI driver.
pub fn csi_driver_name(faults: &mut Faults, path: &Path<'_>, driver: &str) {
    if driver.is_empty() {
        faults.required(path, "");
    }
    if driver.len() > 63 {
        faults.too_long(path, 63);
    }
    let lower = driver.to_lowercase();
    faults.invalid_each(path, driver, names::dns1123_subdomain(&lower));
}

fn keyed(faults: &mut Faults, path: &Path<'_>, source: &Value, name: &str) {
    if text(source, name).is_empty() {
        faults.required(&path.field(name), "");
    }
    mode(faults, path, source, "defaultMode");
    for (i, item) in list(source, "items").iter().enumerate() {
        key_to_path(faults, &path.field("items").index(i), item);
    }
}

fn key_to_path(faults: &mut Faults, path: &Path<'_>, item: &Value) {
    for field in ["key", "path"] {
        if text(item, field).is_empty() {
            faults.required(&path.field(field), "");
        }
    }
    local_non_reserved_path(faults, &path.field("path"), text(item, "path"));
    mode(faults, path, item, "mode");
}

fn mode(faults: &mut Faults, path: &Path<'_>, parent: &Value, field: &str) {
    if let Some(mode) = int(parent, field)
        && !(0..=0o777).contains(&mode)
    {
        faults.invalid(&path.field(field), mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn downward_file(faults: &mut Faults, path: &Path<'_>, file: &Value) {
    if text(file, "path").is_empty() {
        faults.required(&path.field("path"), "");
    }
    local_non_reserved_path(faults, &path.field("path"), text(file, "path"));
    match (get(file, "fieldRef"), get(file, "resourceFieldRef")) {
        (Some(field), other) => {
            object_field(faults, &path.field("fieldRef"), field, &VOLUME_FIELDS);
            if other.is_some() {
                faults.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
        }
        (None, Some(resource)) => resource_field(faults, &path.field("resourceFieldRef"), resource, true),
        (None, None) => faults.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(faults, path, file, "mode");
}

fn projected(faults: &mut Faults, path: &Path<'_>, source: &Value) {
    mode(faults, path, source, "defaultMode");
    let mut taken: Vec<&str> = Vec::new();
    for (i, projection) in list(source, "sources").iter().enumerate() {
        let sources = path.field("sources");
        let at = sources.index(i);
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let Some(projection) = get(projection, kind) else { continue };
            count += 1;
            let at = at.field(kind);
            let name = text(projection, "name");
            if name.is_empty() {
                faults.required(&at.field("name"), "");
            }
            for (j, item) in list(projection, "items").iter().enumerate() {
                key_to_path(faults, &at.field("items").index(j), item);
                take(faults, path, &mut taken, text(item, "path"), name);
            }
        }
        if let Some(projection) = get(projection, "downwardAPI") {
            count += 1;
            for file in list(projection, "items") {
                downward_file(faults, &at.field("downwardAPI"), file);
                take(faults, path, &mut taken, text(file, "path"), text(file, "path"));
            }
        }
        if let Some(token) = get(projection, "serviceAccountToken") {
            count += 1;
            let at = at.field("serviceAccountToken");
            let seconds = int(token, "expirationSeconds").unwrap_or(0);
            if seconds < 600 {
                faults.invalid(
                    &at.field("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            if seconds > 1 << 32 {
                faults.invalid(
                    &at.field("expirationSeconds"),
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                );
            }
            match text(token, "path") {
                "" => faults.required(&path.field("path"), ""),
                file => local_non_reserved_path(faults, &path.field("path"), file),
            }
        }
        if count > 1 {
            faults.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn take<'a>(faults: &mut Faults, path: &Path<'_>, taken: &mut Vec<&'a str>, file: &'a str, shown: &str) {
    if file.is_empty() {
        return;
    }
    if taken.contains(&file) {
        faults.invalid(path, shown, "conflicting duplicate paths");
    } else {
        taken.push(file);
    }
}

fn ephemeral(faults: &mut Faults, path: &Path<'_>, source: &Value, pod: &str, volume: &str) {
    let at = path.field("ephemeral");
    match get(source, "volumeClaimTemplate") {
        None => faults.required(&at.field("volumeClaimTemplate"), ""),
        Some(template) => {
            let at = at.field("volumeClaimTemplate");
            match get(template, "spec") {
                None => faults.required(&at.field("spec"), ""),
                Some(spec) => super::super::volume::claim_spec(faults, &at.field("spec"), spec),
            }
        }
    }
    if !pod.is_empty() && !volume.is_empty() {
        let claim = format!("{pod}-{volume}");
        for fault in names::dns1123_subdomain(&claim) {
            faults.invalid(&path.field("name"), volume, format!("PVC name \"{claim}\": {fault}"));
        }
    }
}

/// A relative path without `..`.
pub fn local_descending_path(faults: &mut Faults, path: &Path<'_>, file: &str) {
    if file.starts_with('/') {
        faults.invalid(path, file, "must be a relative path");
    }
    no_backsteps(faults, path, file);
}

/// A relative path without `..` whose first segment does not start with `..` either.
pub fn local_non_reserved_path(faults: &mut Faults, path: &Path<'_>, file: &str) {
    local_descending_path(faults, path, file);
    if file.starts_with("..") && !file.starts_with("../") {
        faults.invalid(path, file, "must not start with '..'");
    }
}

fn no_backsteps(faults: &mut Faults, path: &Path<'_>, file: &str) {
    if file.split('/').any(|segment| segment == "..") {
        faults.invalid(path, file, "must not contain '..'");
    }
}
