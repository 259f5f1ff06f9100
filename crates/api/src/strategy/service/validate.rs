//! All faults of a Service. Addresses and node ports have been given out by then.

use serde_json::Value;

use super::super::{
    access::{entries, get, int, is_empty, list, text},
    check::{self, PROTOCOLS, non_special_ip, port_number_or_name, required_one_of},
    field::{Faults, Path},
    metadata::validate_labels,
    names,
};
use crate::status::Cause;

/// The first and the last port that a NodePort can have.
pub const NODE_PORTS: (i64, i64) = (30000, 32767);

/// All faults of a new Service.
pub fn validate(service: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    whole(&mut faults, service);
    faults.into_causes()
}

/// All faults of a change.
pub fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let (new_spec, old_spec) = (get(new, "spec").unwrap_or(&none), get(old, "spec").unwrap_or(&none));
    let either_external = text(new_spec, "type") == "ExternalName" || text(old_spec, "type") == "ExternalName";
    if !either_external {
        addresses_update(&mut faults, new_spec, old_spec);
        families_update(&mut faults, new_spec, old_spec);
    }
    let path = Path::root("spec");
    if text(new_spec, "type") == "LoadBalancer"
        && text(old_spec, "type") == "LoadBalancer"
        && get(new_spec, "loadBalancerClass") != get(old_spec, "loadBalancerClass")
    {
        faults.invalid(
            &path.field("loadBalancerClass"),
            get(new_spec, "loadBalancerClass").unwrap_or(&none),
            "may not change once set",
        );
    }
    if needs_health_check(new_spec)
        && needs_health_check(old_spec)
        && int(new_spec, "healthCheckNodePort").unwrap_or(0) != int(old_spec, "healthCheckNodePort").unwrap_or(0)
    {
        faults.forbidden(&path.field("healthCheckNodePort"), "field is immutable");
    }
    whole(&mut faults, new);
    faults.into_causes()
}

/// All faults of a change of the status.
pub fn validate_status_update(new: &Value, _: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("status.loadBalancer.ingress");
    let ingress = super::super::access::list_at(new, &["status", "loadBalancer", "ingress"]);
    let kind = get(new, "spec").map_or("", |spec| text(spec, "type"));
    if kind != "LoadBalancer" && !ingress.is_empty() {
        faults.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return faults.into_causes();
    }
    for (i, ingress) in ingress.iter().enumerate() {
        let at = path.index(i);
        let (address, mode) = (text(ingress, "ip"), get(ingress, "ipMode"));
        if !address.is_empty() {
            check::ip(&mut faults, &at.field("ip"), address);
        }
        match mode {
            None if !address.is_empty() => {
                faults.required(&at.field("ipMode"), "must be specified when `ip` is set");
            }
            Some(_) if address.is_empty() => {
                faults.forbidden(&at.field("ipMode"), "may not be specified when `ip` is not set");
            }
            Some(mode) if mode != "VIP" && mode != "Proxy" => {
                faults.not_supported(&at.field("ipMode"), mode, &["Proxy", "VIP"]);
            }
            _ => {}
        }
        host_name(&mut faults, &at.field("hostname"), text(ingress, "hostname"));
    }
    faults.into_causes()
}

/// A host name that is no address; empty is fine.
pub fn host_name(faults: &mut Faults, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        return;
    }
    faults.invalid_each(path, name, names::dns1123_subdomain(name));
    if check::parse_ip(name).is_some() {
        faults.invalid(path, name, "must be a DNS name, not an IP address");
    }
}

fn is_headless(spec: &Value) -> bool {
    matches!(list(spec, "clusterIPs"), [only] if only == "None")
}

fn needs_health_check(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn whole(faults: &mut Faults, service: &Value) {
    let none = Value::Null;
    let spec = get(service, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    let kind = text(spec, "type");
    let headless = is_headless(spec);
    let ports = list(spec, "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        faults.required(&path.field("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => faults.invalid(
            &path.field("clusterIPs").index(0),
            "None",
            format!("may not be set to 'None' for {kind} services"),
        ),
        "ExternalName" => external_name(faults, &path, spec),
        _ => {}
    }
    for (i, port) in ports.iter().enumerate() {
        service_port(faults, &path.field("ports").index(i), port, &ports[..i], ports.len() > 1);
    }
    validate_labels(faults, &path, spec, "selector");
    required_one_of(faults, &path, spec, "sessionAffinity", &["ClientIP", "None"]);
    session_affinity(faults, &path.field("sessionAffinityConfig"), spec);
    if kind != "ExternalName" {
        addresses(faults, &path, spec);
    }
    for (i, address) in list(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        let at = path.field("externalIPs");
        let at = at.index(i);
        if check::ip(faults, &at, address) {
            non_special_ip(faults, &at, address);
        }
    }
    required_one_of(faults, &path, spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    port_collisions(faults, &path.field("ports"), kind, ports);
    source_ranges(faults, service, spec, kind);
    if kind == "LoadBalancer" {
        if let Some(class) = get(spec, "loadBalancerClass").and_then(Value::as_str) {
            faults.invalid_each(&path.field("loadBalancerClass"), class, names::qualified_name(class));
        }
    } else {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if get(spec, field).is_some() {
                faults.forbidden(&path.field(field), "may only be used when `type` is 'LoadBalancer'");
            }
        }
    }
    traffic_policies(faults, &path, spec, kind);
}

fn external_name(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    for field in ["clusterIPs", "ipFamilies"] {
        if !is_empty(spec, field) {
            faults.forbidden(&path.field(field), "may not be set for ExternalName services");
        }
    }
    if get(spec, "ipFamilyPolicy").is_some() {
        faults.forbidden(&path.field("ipFamilyPolicy"), "may not be set for ExternalName services");
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => faults.required(&path.field("externalName"), ""),
        name => faults.invalid_each(&path.field("externalName"), name, names::dns1123_subdomain(name)),
    }
}

fn service_port(faults: &mut Faults, path: &Path<'_>, port: &Value, before: &[Value], several: bool) {
    match text(port, "name") {
        "" => {
            if several {
                faults.required(&path.field("name"), "");
            }
        }
        name => {
            faults.invalid_each(&path.field("name"), name, names::dns1123_label(name));
            if before.iter().any(|other| text(other, "name") == name) {
                faults.duplicate(&path.field("name"), name);
            }
        }
    }
    check::port(faults, path, port, "port");
    required_one_of(faults, path, port, "protocol", &PROTOCOLS);
    port_number_or_name(faults, &path.field("targetPort"), get(port, "targetPort"));
    if let Some(protocol) = get(port, "appProtocol").and_then(Value::as_str) {
        faults.invalid_each(&path.field("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn session_affinity(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let config = get(spec, "sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            const WHEN: &str = "when session affinity type is ClientIP";
            let client = config.and_then(|config| get(config, "clientIP"));
            let seconds = client.and_then(|client| int(client, "timeoutSeconds"));
            match (config, client, seconds) {
                (None, ..) => faults.required(path, WHEN),
                (_, None, _) => faults.required(&path.field("clientIP"), WHEN),
                (.., None) => faults.required(&path.field("clientIP").field("timeoutSeconds"), WHEN),
                (.., Some(seconds)) => {
                    if !(1..=86400).contains(&seconds) {
                        faults.invalid(
                            &path.field("clientIP").field("timeoutSeconds"),
                            seconds,
                            "must be greater than 0 and less than 86400",
                        );
                    }
                }
            }
        }
        "None" if config.is_some() => faults.forbidden(path, "must not be set when session affinity is None"),
        _ => {}
    }
}

fn addresses(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let at = path.field("clusterIPs");
    let none = Value::Null;
    let (shown, all) = (get(spec, "clusterIPs").unwrap_or(&none), list(spec, "clusterIPs"));
    let primary = text(spec, "clusterIP");
    match (primary.is_empty(), all.first()) {
        (false, None) => faults.required(&at, ""),
        (false, Some(first)) if first != primary => faults.invalid(&at, shown, "first value must match `clusterIP`"),
        (true, Some(_)) => faults.invalid(&at, shown, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let families: Vec<&str> = list(spec, "ipFamilies").iter().filter_map(Value::as_str).collect();
    for (i, family) in families.iter().enumerate() {
        let at = path.field("ipFamilies");
        if !matches!(*family, "IPv4" | "IPv6") {
            faults.not_supported(&at.index(i), *family, &["IPv4", "IPv6"]);
        }
        if families[..i].contains(family) {
            faults.duplicate(&at.index(i), *family);
        }
    }
    check::optional_one_of(
        faults,
        path,
        spec,
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    );
    let before = faults.count();
    for (i, address) in all.iter().filter_map(Value::as_str).enumerate() {
        if i == 0 && address == "None" {
            if all.len() > 1 {
                faults.invalid(&at, shown, "'None' must be the first and only value");
            }
            continue;
        }
        check::ip(faults, &at.index(i), address);
    }
    let sound = faults.count() == before;
    if all.len() > 2 {
        faults.invalid(&at, shown, "may only hold up to 2 values");
    }
    if !sound {
        return;
    }
    let is_v6 = |value: &Value| value.as_str().is_some_and(|address| address.contains(':'));
    if let [first, second, ..] = all
        && is_v6(first) == is_v6(second)
    {
        faults.invalid(&at, shown, "may specify no more than one IP for each IP family");
    }
    if !is_headless(spec) {
        for (i, (address, family)) in all.iter().zip(&families).enumerate() {
            let found = if is_v6(address) { "IPv6" } else { "IPv4" };
            if *family != found && matches!(*family, "IPv4" | "IPv6") {
                faults.invalid(
                    &at.index(i),
                    address,
                    format!("expected an {family} value as indicated by `ipFamilies[{i}]`"),
                );
            }
        }
    }
}

fn port_collisions(faults: &mut Faults, path: &Path<'_>, kind: &str, ports: &[Value]) {
    let number = |port: &Value, field: &str| int(port, field).unwrap_or(0);
    for (i, port) in ports.iter().enumerate() {
        let node = number(port, "nodePort");
        if node == 0 {
            continue;
        }
        let at = path.index(i);
        if kind == "ClusterIP" {
            faults.forbidden(&at.field("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        let taken = ports[..i]
            .iter()
            .any(|other| number(other, "nodePort") == node && text(other, "protocol") == text(port, "protocol"));
        if taken {
            faults.duplicate(&at.field("nodePort"), node);
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let taken = ports[..i].iter().any(|other| {
            number(other, "port") == number(port, "port") && text(other, "protocol") == text(port, "protocol")
        });
        if taken {
            // Upstream shows the key of its internal type.
            let shown = serde_json::json!({
                "Name": "", "Protocol": text(port, "protocol"), "AppProtocol": null, "Port": number(port, "port"),
                "TargetPort": 0, "NodePort": 0,
            });
            faults.duplicate(&path.index(i), &shown);
        }
    }
}

/// A node port that the client wishes must be in the range; called by whoever gives them out.
pub fn node_port_faults(service: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("spec.ports");
    for (i, port) in super::super::access::list_at(service, &["spec", "ports"]).iter().enumerate() {
        let node = int(port, "nodePort").unwrap_or(0);
        if node != 0 && !(NODE_PORTS.0..=NODE_PORTS.1).contains(&node) {
            faults.invalid(
                &path.index(i).field("nodePort"),
                node,
                format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    NODE_PORTS.0, NODE_PORTS.1
                ),
            );
        }
    }
    faults.into_causes()
}

fn source_ranges(faults: &mut Faults, service: &Value, spec: &Value, kind: &str) {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let ranges = list(spec, "loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let path = Path::root("spec.LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            faults.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
        }
        for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
            check::cidr(faults, &path.index(i), range.trim());
        }
        return;
    }
    let annotation = get(service, "metadata")
        .into_iter()
        .flat_map(|metadata| entries(metadata, "annotations"))
        .find(|(key, _)| *key == ANNOTATION)
        .and_then(|(_, value)| value.as_str());
    if let Some(annotation) = annotation {
        let path = Path::root("metadata.annotations");
        let path = path.key(ANNOTATION);
        if kind != "LoadBalancer" {
            faults.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
        }
        for range in annotation.trim().split(',').filter(|range| !range.is_empty()) {
            check::cidr(faults, &path, range.trim());
        }
    }
}

fn traffic_policies(faults: &mut Faults, path: &Path<'_>, spec: &Value, kind: &str) {
    let external =
        matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !is_empty(spec, "externalIPs"));
    let policy = text(spec, "externalTrafficPolicy");
    if external {
        required_one_of(faults, path, spec, "externalTrafficPolicy", &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        faults.invalid(
            &path.field("externalTrafficPolicy"),
            policy,
            "may only be set for externally-accessible services",
        );
    }
    let health = int(spec, "healthCheckNodePort").unwrap_or(0);
    match (needs_health_check(spec), health) {
        // The server gives one out if there is none.
        (_, 0) => {}
        (false, port) => faults.invalid(
            &path.field("healthCheckNodePort"),
            port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (true, _) => check::port(faults, path, spec, "healthCheckNodePort"),
    }
    match text(spec, "internalTrafficPolicy") {
        "" if matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") => {
            faults.required(&path.field("internalTrafficPolicy"), "");
        }
        "" | "Cluster" | "Local" => {}
        other => faults.not_supported(&path.field("internalTrafficPolicy"), other, &["Cluster", "Local"]),
    }
    check::optional_one_of(
        faults,
        path,
        spec,
        "trafficDistribution",
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
}

fn addresses_update(faults: &mut Faults, new: &Value, old: &Value) {
    if is_headless(new) && is_headless(old) {
        return;
    }
    let at = Path::root("spec.clusterIPs");
    let empty = Value::Array(Vec::new());
    let shown = get(new, "clusterIPs").unwrap_or(&empty);
    let (after, before) = (list(new, "clusterIPs"), list(old, "clusterIPs"));
    if after.len() == before.len() {
        for (i, (a, b)) in after.iter().zip(before).enumerate() {
            if a != b {
                faults.invalid(&at.index(i), shown, "may not change once set");
            }
        }
        return;
    }
    if after.is_empty() {
        faults.invalid(&at.index(0), shown, "primary clusterIP can not be unset");
    } else if before.first().is_some_and(|first| *first != after[0]) {
        faults.invalid(&at.index(0), shown, "may not change once set");
    }
    released(faults, new, before.len() > after.len() && after.len() == 1, "clusterIP");
}

fn families_update(faults: &mut Faults, new: &Value, old: &Value) {
    if is_headless(new) || is_headless(old) {
        return;
    }
    let at = Path::root("spec.ipFamilies");
    let empty = Value::Array(Vec::new());
    let shown = get(new, "ipFamilies").unwrap_or(&empty);
    let (after, before) = (list(new, "ipFamilies"), list(old, "ipFamilies"));
    if let (Some(a), Some(b)) = (after.first(), before.first()) {
        let changed = if after.len() == before.len() { after != before } else { a != b };
        if changed {
            faults.invalid(&at.index(0), shown, "may not change once set");
        }
    }
    released(faults, new, before.len() > after.len() && after.len() == 1, "ipFamily");
}

fn released(faults: &mut Faults, spec: &Value, released: bool, what: &str) {
    if released && text(spec, "ipFamilyPolicy") != "SingleStack" {
        faults.invalid(
            &Path::root("spec.ipFamilyPolicy"),
            get(spec, "ipFamilyPolicy").unwrap_or(&Value::Null),
            format!("must be set to 'SingleStack' when releasing the secondary {what}"),
        );
    }
}
