//! The spec of a pod or a pod template (`ValidatePodSpec`).

use serde_json::Value;

use super::{
    super::{
        access::{at, entries, flag, get, int, list, text},
        amount, check,
        field::{Faults, Path},
        metadata::{validate_annotations, validate_labels},
        names, resources,
    },
    container::{self, Surroundings},
    placement, security, volume, windows,
};

/// A pod template at `path`: labels, annotations and spec.
pub fn template(faults: &mut Faults, path: &Path<'_>, template: &Value) {
    let none = Value::Null;
    let metadata = get(template, "metadata").unwrap_or(&none);
    validate_labels(faults, path, metadata, "labels");
    validate_annotations(faults, &path.field("annotations"), metadata);
    let spec_path = path.field("spec");
    let spec = get(template, "spec").unwrap_or(&none);
    annotations(faults, &path.field("annotations"), metadata, spec);
    pod_spec(faults, &spec_path, spec, "", false);
    if !list(spec, "ephemeralContainers").is_empty() {
        faults.forbidden(&spec_path.field("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// The annotations that mean something to pods.
pub fn annotations(faults: &mut Faults, path: &Path<'_>, metadata: &Value, spec: &Value) {
    for (key, value) in entries(metadata, "annotations") {
        let value = value.as_str().unwrap_or("");
        match key.as_str() {
            "kubernetes.io/config.mirror" if text(spec, "nodeName").is_empty() => {
                faults.invalid(&path.key(key), value, "must set spec.nodeName if mirror pod annotation is set");
            }
            "controller.kubernetes.io/pod-deletion-cost" => {
                // As Go's ParseInt, and no leading plus sign or zeros.
                let canonical = value.parse::<i32>().is_ok_and(|number| number.to_string() == value);
                if !canonical {
                    faults.invalid(&path.key(key), value, "must be a 32bit integer");
                }
            }
            _ => {}
        }
    }
}

/// A pod spec; `pod` is the pod's name, empty for a template.
pub fn pod_spec(faults: &mut Faults, path: &Path<'_>, spec: &Value, pod: &str, is_pod: bool) {
    if get(spec, "terminationGracePeriodSeconds").is_none() {
        faults.required(&path.field("terminationGracePeriodSeconds"), "");
    }
    let volumes = volume::volumes(faults, &path.field("volumes"), list(spec, "volumes"), pod, is_pod);
    let claims = resource_claims(faults, &path.field("resourceClaims"), list(spec, "resourceClaims"));
    let around = Surroundings { spec, volumes, claims };
    container::containers(faults, &path.field("containers"), &around);
    container::init_containers(faults, &path.field("initContainers"), &around);
    container::ephemeral_containers(faults, &path.field("ephemeralContainers"), &around);
    if let Some(whole) = get(spec, "resources") {
        pod_resources(faults, path, spec, whole);
    }
    container::host_network_ports(faults, path, spec, is_pod);
    match text(spec, "restartPolicy") {
        "Always" | "OnFailure" | "Never" => {}
        "" => faults.required(&path.field("restartPolicy"), ""),
        other => faults.not_supported(&path.field("restartPolicy"), other, &["Always", "OnFailure", "Never"]),
    }
    dns(faults, path, spec);
    validate_labels(faults, path, spec, "nodeSelector");
    security::pod(faults, &path.field("securityContext"), spec);
    if let Some(affinity) = get(spec, "affinity") {
        placement::affinity(faults, &path.field("affinity"), affinity);
    }
    dns_config(faults, &path.field("dnsConfig"), spec);
    for (i, gate) in list(spec, "readinessGates").iter().enumerate() {
        let kind = text(gate, "conditionType");
        faults.invalid_each(
            &path.field("readinessGates").index(i).field("conditionType"),
            kind,
            names::qualified_name(kind),
        );
    }
    placement::scheduling_gates(faults, &path.field("schedulingGates"), list(spec, "schedulingGates"));
    placement::topology_spread(
        faults,
        &path.field("topologySpreadConstraints"),
        list(spec, "topologySpreadConstraints"),
    );
    if get(spec, "hostUsers") == Some(&Value::Bool(false)) {
        for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if flag(spec, field) {
                faults.forbidden(&path.field(shown), "when `pod.Spec.HostUsers` is false");
            }
        }
    }
    named_fields(faults, path, spec);
    placement::tolerations(faults, &path.field("tolerations"), list(spec, "tolerations"));
    host_aliases(faults, &path.field("hostAliases"), list(spec, "hostAliases"));
    for field in ["priorityClassName", "runtimeClassName"] {
        if let Some(name) = get(spec, field).and_then(Value::as_str)
            && (field == "runtimeClassName" || !name.is_empty())
        {
            faults.invalid_each(&path.field(field), name, names::dns1123_subdomain(name));
        }
    }
    if get(spec, "preemptionPolicy").is_some() {
        match text(spec, "preemptionPolicy") {
            "PreemptLowerPriority" | "Never" => {}
            "" => faults.required(&path.field("preemptionPolicy"), ""),
            other => faults.not_supported(&path.field("preemptionPolicy"), other, &["PreemptLowerPriority", "Never"]),
        }
    }
    for (name, quantity) in entries(spec, "overhead") {
        let overhead = path.field("overhead");
        let limits = overhead.field("limits");
        resources::container_resource_name(faults, &limits.key(name), name);
        resources::quantity_value(faults, &limits.key(name), name, quantity);
    }
    windows::host_process(faults, path, spec);
    if get(spec, "os").is_some() {
        match windows::system(spec) {
            "linux" => windows::not_for_linux(faults, path, spec),
            "windows" => windows::not_for_windows(faults, path, spec),
            "" => faults.required(&path.field("os").field("name"), "cannot be empty"),
            other => faults.not_supported(&path.field("os"), other, &["linux", "windows"]),
        }
    }
}

fn named_fields(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    for field in ["serviceAccountName", "nodeName"] {
        let name = text(spec, field);
        if !name.is_empty() {
            faults.invalid_each(&path.field(field), name, names::dns1123_subdomain(name));
        }
    }
    if let Some(seconds) = int(spec, "activeDeadlineSeconds") {
        for fault in names::in_range(seconds, 1, i64::from(i32::MAX)) {
            faults.invalid(&path.field("activeDeadlineSeconds"), seconds, fault);
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            faults.invalid_each(&path.field(field), name, names::dns1123_label(name));
        }
    }
    if let Some(name) = get(spec, "hostnameOverride").and_then(Value::as_str) {
        let at = path.field("hostnameOverride");
        if name.len() > 64 {
            faults.too_long(&at, 64);
        }
        faults.invalid_each(&at, name, names::dns1123_subdomain(name));
        if flag(spec, "setHostnameAsFQDN") {
            faults.forbidden(&at, "may not be specified when `setHostnameAsFQDN` is true");
        }
        if flag(spec, "hostNetwork") {
            faults.forbidden(&at, "may not be specified when `hostNetwork` is true");
        }
    }
}

fn resource_claims<'a>(faults: &mut Faults, path: &Path<'_>, claims: &'a [Value]) -> Vec<&'a str> {
    for (i, claim) in claims.iter().enumerate() {
        let at = path.index(i);
        match text(claim, "name") {
            "" => faults.required(&at.field("name"), ""),
            name if claims[..i].iter().any(|before| text(before, "name") == name) => {
                faults.duplicate(&at.field("name"), name);
            }
            name => faults.invalid_each(&at.field("name"), name, names::dns1123_label(name)),
        }
        let fields = ["resourceClaimName", "resourceClaimTemplateName"];
        match fields.iter().filter(|field| get(claim, field).is_some()).count() {
            0 => faults.invalid(&at, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            1 => {}
            _ => faults.invalid(
                &at,
                claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
        }
        for field in fields {
            if let Some(name) = get(claim, field).and_then(Value::as_str) {
                faults.invalid_each(&at.field(field), name, names::dns1123_subdomain(name));
            }
        }
    }
    claims.iter().map(|claim| text(claim, "name")).filter(|name| !name.is_empty()).collect()
}

fn pod_resources(faults: &mut Faults, path: &Path<'_>, spec: &Value, whole: &Value) {
    let path = path.field("resources");
    resources::pod_requirements(faults, &path, whole);
    for (i, container) in list(spec, "containers").iter().enumerate() {
        let Some(own) = get(container, "resources") else { continue };
        for (name, limit) in entries(own, "limits") {
            let Some(most) = at(whole, &["limits", name]) else { continue };
            if amount::compare(limit, most).is_gt() {
                faults.invalid(
                    &path.field("containers").index(i).key(name).field("limits"),
                    &amount::shown(limit),
                    format!("must be less than or equal to pod limits of {}", amount::shown(most)),
                );
            }
        }
    }
}

fn dns(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    const POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    match text(spec, "dnsPolicy") {
        "" => faults.required(&path.field("dnsPolicy"), ""),
        policy if POLICIES.contains(&policy) => {}
        policy => faults.not_supported(&path.field("dnsPolicy"), policy, &POLICIES),
    }
}

fn dns_config(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let config = get(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        match config {
            None => {
                faults.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
                return;
            }
            Some(config) if list(config, "nameservers").is_empty() => {
                faults.required(
                    &path.field("nameservers"),
                    "must provide at least one DNS nameserver when `dnsPolicy` is None",
                );
                return;
            }
            Some(_) => {}
        }
    }
    let Some(config) = config else { return };
    let (servers, searches) = (list(config, "nameservers"), list(config, "searches"));
    if servers.len() > 3 {
        faults.invalid(
            &path.field("nameservers"),
            get(config, "nameservers").unwrap_or(&Value::Null),
            "must not have more than 3 nameservers",
        );
    }
    for (i, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        check::ip(faults, &path.field("nameservers").index(i), server);
    }
    let shown = get(config, "searches").unwrap_or(&Value::Null);
    if searches.len() > 32 {
        faults.invalid(&path.field("searches"), shown, "must not have more than 32 search paths");
    }
    let characters: usize = searches.iter().filter_map(Value::as_str).map(|search| search.len() + 1).sum();
    if characters > 2049 {
        faults.invalid(
            &path.field("searches"),
            shown,
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for (i, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        if search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            faults.invalid_each(
                &path.field("searches").index(i),
                search,
                names::dns1123_subdomain_with_underscore(search),
            );
        }
    }
    for (i, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            faults.required(&path.field("options").index(i), "must not be empty");
        }
    }
}

fn host_aliases(faults: &mut Faults, path: &Path<'_>, aliases: &[Value]) {
    for (i, alias) in aliases.iter().enumerate() {
        let at = path.index(i);
        check::ip(faults, &at.field("ip"), text(alias, "ip"));
        for (j, name) in list(alias, "hostnames").iter().filter_map(Value::as_str).enumerate() {
            faults.invalid_each(&at.field("hostnames").index(j), name, names::dns1123_subdomain(name));
        }
    }
}
