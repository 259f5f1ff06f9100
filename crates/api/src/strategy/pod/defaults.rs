//! Defaults of pods and pod templates (`pkg/apis/core/v1/defaults.go`).

use serde_json::{Value, json};

use super::super::access::{
    at, ensure_object, fill, fill_number, fill_text, flag, get, int, is_empty, items_mut, map, object_at_mut,
    object_mut, remove, set, text,
};

/// The lists of a pod spec that hold containers.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a whole pod: those of its spec, and those that templates do not get.
pub fn default_pod(pod: &mut Value) {
    let spec = ensure_object(pod, "spec");
    default_pod_spec(spec);
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            requests_from_limits(container);
        }
    }
    default_whole(pod);
    let spec = ensure_object(pod, "spec");
    fill(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        for list in ["containers", "initContainers"] {
            for container in items_mut(spec, list) {
                for port in items_mut(container, "ports") {
                    if let Some(number) = int(port, "containerPort") {
                        fill_number(port, "hostPort", number);
                    }
                }
            }
        }
    }
}

/// What a pod with limits of its own requests unless it says: what its containers request together, or its limits.
fn default_whole(pod: &mut Value) {
    const KNOWN: [&str; 2] = ["cpu", "memory"];
    if at(pod, &["spec", "resources", "limits"]).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        return;
    }
    let mut bare = pod.clone();
    if let Some(spec) = object_mut(&mut bare, "spec") {
        remove(spec, "resources");
        remove(spec, "overhead");
    }
    let together = crate::quota::of_containers(&bare, "requests");
    let Some(resources) = object_at_mut(pod, &["spec", "resources"]) else { return };
    let limits = get(resources, "limits").cloned().unwrap_or_default();
    let known = |name: &str| KNOWN.contains(&name) || name.starts_with("hugepages-");
    let requests = ensure_object(resources, "requests");
    for (name, amount) in together.iter().filter(|(name, _)| KNOWN.contains(&name.as_str())) {
        fill(requests, name, amount.to_string());
    }
    for (name, limit) in limits.as_object().into_iter().flatten().filter(|(name, _)| known(name)) {
        fill(requests, name, limit.clone());
    }
}

/// Defaults of the pod template at `spec.template`, made if absent as decoding upstream does.
pub fn default_template(spec: &mut Value) {
    let template = ensure_object(spec, "template");
    // Go writes a struct that is empty.
    ensure_object(template, "metadata");
    default_pod_spec(ensure_object(template, "spec"));
}

/// Defaults of a pod spec, in a pod or a template.
pub fn default_pod_spec(spec: &mut Value) {
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "restartPolicy", "Always");
    ensure_object(spec, "securityContext");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_text(spec, "schedulerName", "default-scheduler");
    // `serviceAccount` is the old name of `serviceAccountName`; both are always shown.
    let account = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount").to_owned(),
        account => account.to_owned(),
    };
    if !account.is_empty() {
        set(spec, "serviceAccountName", account.as_str());
        set(spec, "serviceAccount", account);
    }
    for volume in items_mut(spec, "volumes") {
        default_volume(volume);
    }
    for list in CONTAINER_LISTS {
        for container in items_mut(spec, list) {
            default_container(container);
        }
    }
    drop_disabled(spec);
}

/// Drops the fields of features that v1.36 has off unless they are asked for, as upstream does
/// (`DropDisabledPodFields`): ClusterTrustBundleProjection, PodCertificateRequest, ContainerStopSignals, GenericWorkload.
fn drop_disabled(spec: &mut Value) {
    for volume in items_mut(spec, "volumes") {
        let Some(projected) = object_mut(volume, "projected") else { continue };
        for source in items_mut(projected, "sources") {
            remove(source, "clusterTrustBundle");
            remove(source, "podCertificate");
        }
    }
    for list in CONTAINER_LISTS {
        for container in items_mut(spec, list) {
            let dropped = object_mut(container, "lifecycle").and_then(|lifecycle| remove(lifecycle, "stopSignal"));
            if dropped.is_some() && is_empty(container, "lifecycle") {
                remove(container, "lifecycle");
            }
        }
    }
    remove(spec, "schedulingGroup");
}

fn default_container(container: &mut Value) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        set(container, "imagePullPolicy", policy);
    }
    // Decoding upstream gives every container this field.
    ensure_object(container, "resources");
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    for port in items_mut(container, "ports") {
        fill_text(port, "protocol", "TCP");
    }
    for variable in items_mut(container, "env") {
        if let Some(from) = object_mut(variable, "valueFrom") {
            if let Some(field) = object_mut(from, "fieldRef") {
                fill_text(field, "apiVersion", "v1");
            }
            if let Some(resource) = object_mut(from, "resourceFieldRef") {
                default_divisor(resource);
            }
            if let Some(file) = object_mut(from, "fileKeyRef") {
                fill(file, "optional", false);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object_mut(container, name) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = object_at_mut(container, &["lifecycle", hook, "httpGet"]) {
            default_http_get(get);
        }
    }
}

fn default_probe(probe: &mut Value) {
    fill_number(probe, "timeoutSeconds", 1);
    fill_number(probe, "periodSeconds", 10);
    fill_number(probe, "successThreshold", 1);
    fill_number(probe, "failureThreshold", 3);
    if let Some(get) = object_mut(probe, "httpGet") {
        default_http_get(get);
    }
    if let Some(grpc) = object_mut(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn default_http_get(action: &mut Value) {
    fill_text(action, "path", "/");
    fill_text(action, "scheme", "HTTP");
}

fn requests_from_limits(container: &mut Value) {
    let Some(limits) = at(container, &["resources", "limits"]).and_then(Value::as_object) else { return };
    if limits.is_empty() {
        return;
    }
    let limits = limits.clone();
    if let Some(resources) = object_mut(container, "resources") {
        let requests = ensure_object(resources, "requests");
        for (name, quantity) in limits {
            fill(requests, &name, quantity);
        }
    }
}

/// Defaults of a volume in a pod spec.
fn default_volume(volume: &mut Value) {
    let has_source =
        volume.as_object().is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        ensure_object(volume, "emptyDir");
        return;
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object_mut(volume, source) {
            fill(source, "defaultMode", 420);
        }
    }
    if let Some(source) = object_mut(volume, "hostPath") {
        fill(source, "type", "");
    }
    if let Some(source) = object_mut(volume, "downwardAPI") {
        default_downward_items(source);
    }
    if let Some(projected) = object_mut(volume, "projected") {
        for source in items_mut(projected, "sources") {
            if let Some(source) = object_mut(source, "downwardAPI") {
                default_downward_items(source);
            }
            if let Some(source) = object_mut(source, "serviceAccountToken") {
                fill(source, "expirationSeconds", 3600);
            }
        }
    }
    if let Some(template) = object_at_mut(volume, &["ephemeral", "volumeClaimTemplate"]) {
        fill(ensure_object(template, "spec"), "volumeMode", "Filesystem");
    }
    if let Some(image) = object_mut(volume, "image")
        && text(image, "pullPolicy").is_empty()
    {
        let policy = pull_policy(text(image, "reference"));
        set(image, "pullPolicy", policy);
    }
    default_remote_disk(volume);
}

/// Defaults of the network disks that pods and PersistentVolumes share.
pub fn default_remote_disk(volume: &mut Value) {
    if let Some(source) = object_mut(volume, "iscsi") {
        fill_text(source, "iscsiInterface", "default");
    }
    if let Some(source) = object_mut(volume, "rbd") {
        fill_text(source, "pool", "rbd");
        fill_text(source, "user", "admin");
        fill_text(source, "keyring", "/etc/ceph/keyring");
    }
    if let Some(source) = object_mut(volume, "azureDisk") {
        fill(source, "cachingMode", "ReadWrite");
        fill(source, "kind", "Shared");
        fill(source, "fsType", "ext4");
        fill(source, "readOnly", false);
    }
    if let Some(source) = object_mut(volume, "scaleIO") {
        fill_text(source, "storageMode", "ThinProvisioned");
        fill_text(source, "fsType", "xfs");
    }
}

fn default_downward_items(source: &mut Value) {
    for item in items_mut(source, "items") {
        if let Some(field) = object_mut(item, "fieldRef") {
            fill_text(field, "apiVersion", "v1");
        }
        if let Some(resource) = object_mut(item, "resourceFieldRef") {
            default_divisor(resource);
        }
    }
}

/// A quantity that is no pointer is always written; zero means one.
fn default_divisor(resource: &mut Value) {
    fill(resource, "divisor", "0");
}

/// `Always` for `:latest`, spelled out or meant; else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[path_start..].rfind(':') {
        Some(colon) => (&name[..path_start + colon], &name[path_start + colon + 1..]),
        None => (name, ""),
    };
    let domain_free = match repository.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => repository,
    };
    let well_formed = !domain_free.is_empty()
        && domain_free
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'/' | b'.' | b'_' | b'-'));
    let latest = well_formed && (tag == "latest" || (tag.is_empty() && !digest));
    if latest { "Always" } else { "IfNotPresent" }
}

/// The quality of service class of a pod (`Guaranteed`, `Burstable`, `BestEffort`).
pub fn qos_class(pod: &Value) -> &'static str {
    let none = json!({});
    let spec = get(pod, "spec").unwrap_or(&none);
    if let Some(resources) = get(spec, "resources") {
        return class_of(std::iter::once(resources));
    }
    class_of(
        ["containers", "initContainers"]
            .into_iter()
            .flat_map(|list| super::super::access::list(spec, list))
            .map(|container| get(container, "resources").unwrap_or(&Value::Null)),
    )
}

fn class_of<'a>(all: impl Iterator<Item = &'a Value>) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in ["cpu", "memory"] {
            let amount =
                |kind: &str| map(resources, kind).and_then(|map| map.get(name)).filter(|value| !is_zero(value));
            match (amount("requests"), amount("limits")) {
                (None, None) => guaranteed = false,
                (request, limit) => {
                    any = true;
                    guaranteed &= match (request, limit) {
                        (Some(request), Some(limit)) => super::super::amount::same(request, limit),
                        (None, Some(_)) => true,
                        _ => false,
                    };
                }
            }
        }
    }
    match (any, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

fn is_zero(quantity: &Value) -> bool {
    super::super::amount::of(quantity).is_some_and(|amount| amount.is_zero())
}
