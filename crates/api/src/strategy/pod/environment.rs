//! A container's environment, and the references that it and downward volumes make.

use serde_json::Value;

use super::super::{
    access::{get, text},
    amount,
    field::{Faults, Path},
    names,
};

/// `env`.
pub fn env(faults: &mut Faults, path: &Path<'_>, variables: &[Value]) {
    for (i, variable) in variables.iter().enumerate() {
        let at = path.index(i);
        match text(variable, "name") {
            "" => faults.required(&at.field("name"), ""),
            name => faults.invalid_each(&at.field("name"), name, names::environment_variable(name)),
        }
        if let Some(from) = get(variable, "valueFrom") {
            value_from(faults, &at.field("valueFrom"), from, text(variable, "value"));
        }
    }
}

fn value_from(faults: &mut Faults, path: &Path<'_>, from: &Value, value: &str) {
    let mut sources = 0;
    if let Some(field) = get(from, "fieldRef") {
        sources += 1;
        object_field(faults, &path.field("fieldRef"), field, &ENV_FIELDS);
    }
    if let Some(resource) = get(from, "resourceFieldRef") {
        sources += 1;
        resource_field(faults, &path.field("resourceFieldRef"), resource, false);
    }
    for reference in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(selector) = get(from, reference) {
            sources += 1;
            key_selector(faults, &path.field(reference), selector);
        }
    }
    if let Some(selector) = get(from, "fileKeyRef") {
        sources += 1;
        file_key(faults, &path.field("fileKeyRef"), selector);
    }
    if sources == 0 {
        faults.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !value.is_empty() {
        faults.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        faults.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key_selector(faults: &mut Faults, path: &Path<'_>, selector: &Value) {
    let name = text(selector, "name");
    faults.invalid_each(&path.field("name"), name, names::dns1123_subdomain(name));
    match text(selector, "key") {
        "" => faults.required(&path.field("key"), ""),
        key => faults.invalid_each(&path.field("key"), key, names::config_key(key)),
    }
}

fn file_key(faults: &mut Faults, path: &Path<'_>, selector: &Value) {
    match text(selector, "key") {
        "" => faults.required(&path.field("key"), ""),
        key => faults.invalid_each(&path.field("key"), key, names::environment_variable(key)),
    }
    match text(selector, "volumeName") {
        "" => faults.required(&path.field("volumeName"), ""),
        name => faults.invalid_each(&path.field("volumeName"), name, names::dns1123_label(name)),
    }
    match text(selector, "path") {
        "" => faults.required(&path.field("path"), ""),
        file => super::volume::local_non_reserved_path(faults, &path.field("path"), file),
    }
}

/// The volumes from which variables are read: only those are written by nobody but the pod that every pod has anew.
pub fn file_volumes(faults: &mut Faults, path: &Path<'_>, variables: &[Value], volumes: &[Value]) {
    for (i, variable) in variables.iter().enumerate() {
        let Some(selector) = get(variable, "valueFrom").and_then(|from| get(from, "fileKeyRef")) else { continue };
        let name = text(selector, "volumeName");
        let at = path.index(i);
        let at = at.field("valueFrom");
        let at = at.field("fileKeyRef");
        match volumes.iter().find(|volume| text(volume, "name") == name) {
            _ if name.is_empty() => {}
            None => faults.not_found(&at.field("volumeName"), name),
            Some(volume) if get(volume, "emptyDir").is_none() => {
                faults.invalid(&at.field("volumeName"), name, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}

/// `envFrom`.
pub fn env_from(faults: &mut Faults, path: &Path<'_>, sources: &[Value]) {
    for (i, source) in sources.iter().enumerate() {
        let at = path.index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            faults.invalid_each(&at.field("prefix"), prefix, names::environment_variable(prefix));
        }
        let mut count = 0;
        for reference in ["configMapRef", "secretRef"] {
            if let Some(target) = get(source, reference) {
                count += 1;
                match text(target, "name") {
                    "" => faults.required(&at.field(reference).field("name"), ""),
                    name => faults.invalid_each(
                        &at.field(reference).field("name"),
                        name,
                        super::super::metadata::name_faults(name, crate::resource::NameRule::Subdomain, true),
                    ),
                }
            }
        }
        if count == 0 {
            faults.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            faults.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a downward API volume can show.
pub const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// A `fieldRef`; `allowed` is sorted.
pub fn object_field(faults: &mut Faults, path: &Path<'_>, reference: &Value, allowed: &[&str]) {
    if text(reference, "apiVersion").is_empty() {
        faults.required(&path.field("apiVersion"), "");
        return;
    }
    let field = text(reference, "fieldPath");
    if field.is_empty() {
        faults.required(&path.field("fieldPath"), "");
        return;
    }
    let (base, subscript) = match field.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        Some((base, subscript)) => (base, Some(subscript)),
        None => (field, None),
    };
    let convertible = match subscript {
        Some(_) => matches!(base, "metadata.annotations" | "metadata.labels"),
        None => CONVERTIBLE.contains(&base),
    };
    let version = text(reference, "apiVersion");
    if version != "v1" || !convertible {
        let reason = match subscript {
            _ if version != "v1" => format!("unsupported pod version: {version}"),
            Some(_) => format!("field label does not support subscript: {field}"),
            None => format!("field label not supported: {field}"),
        };
        faults.invalid(&path.field("fieldPath"), field, format!("error converting fieldPath: {reason}"));
        return;
    }
    match subscript {
        Some(key) if base == "metadata.annotations" => {
            let key = key.to_lowercase();
            faults.invalid_each(path, &key, names::qualified_name(&key));
        }
        Some(key) => faults.invalid_each(path, key, names::qualified_name(key)),
        None if !allowed.contains(&base) => faults.not_supported(&path.field("fieldPath"), base, allowed),
        None => {}
    }
}

/// What `ConvertDownwardAPIFieldLabel` knows.
const CONVERTIBLE: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A `resourceFieldRef`, in an environment or (with a container name) in a volume.
pub fn resource_field(faults: &mut Faults, path: &Path<'_>, reference: &Value, volume: bool) {
    let resource = text(reference, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if volume && text(reference, "containerName").is_empty() {
        faults.required(&path.field("containerName"), "");
    } else if resource.is_empty() {
        faults.required(&path.field("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&resource) && !huge {
        faults.not_supported(&path.field("resource"), resource, &RESOURCE_FIELDS);
    }
    let Some(divisor) = get(reference, "divisor") else { return };
    if amount::of(divisor).is_none_or(|amount| amount.is_zero()) {
        return;
    }
    let shown = amount::shown(divisor);
    let of_size = matches!(
        shown.as_str(),
        "1" | "1k" | "1M" | "1G" | "1T" | "1P" | "1E" | "1Ki" | "1Mi" | "1Gi" | "1Ti" | "1Pi" | "1Ei"
    );
    let what = match resource {
        "limits.cpu" | "requests.cpu" => {
            if !matches!(shown.as_str(), "1m" | "1") {
                faults.invalid(
                    &path.field("divisor"),
                    resource,
                    "only divisor's values 1m and 1 are supported with the cpu resource",
                );
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !of_size {
        faults.invalid(
            &path.field("divisor"),
            resource,
            format!(
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {what} resource"
            ),
        );
    }
}
