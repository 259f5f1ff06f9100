//! `networking.k8s.io`: Ingress, IngressClass, NetworkPolicy, IPAddress, ServiceCIDR.

use serde_json::{Value, json};

use super::{
    access::{at, ensure_object, fill, get, int, is_empty, items_mut, list, set, text},
    check::{self, IMMUTABLE, label_selector},
    field::{Faults, Path},
    names,
    prepare::{self, PLAIN, WITH_GENERATION},
    service::host_name,
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of Ingresses.
pub const INGRESS: Strategy = Strategy {
    prepare_create: |object| {
        prepare::first_generation(object);
        prepare::empty_status(object, json!({"loadBalancer": {}}));
    },
    validate: validate_ingress,
    validate_update: |new, _| validate_ingress_spec(new),
    validate_status_update: |new, _| validate_ingress_status(new),
    ..WITH_GENERATION
};

/// The strategy of IngressClasses.
pub const INGRESS_CLASS: Strategy = Strategy {
    default: default_class,
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    validate: validate_class,
    validate_update: validate_class_update,
    ..PLAIN
};

/// The strategy of NetworkPolicies.
pub const NETWORK_POLICY: Strategy = Strategy {
    default: default_policy,
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    validate: validate_policy,
    validate_update: |new, _| validate_policy(new),
    ..PLAIN
};

/// The strategy of ServiceCIDRs.
pub const SERVICE_CIDR: Strategy = Strategy { ..WITH_GENERATION };

fn default_class(object: &mut Value) {
    if let Some(parameters) = super::access::object_at_mut(object, &["spec", "parameters"]) {
        fill(parameters, "scope", "Cluster");
    }
}

fn default_policy(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    ensure_object(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        for rule in items_mut(spec, direction) {
            for port in items_mut(rule, "ports") {
                fill(port, "protocol", "TCP");
            }
        }
    }
    if is_empty(spec, "policyTypes") {
        let types = if is_empty(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        set(spec, "policyTypes", types);
    }
}

fn validate_ingress(object: &Value) -> Vec<Cause> {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let mut faults = Faults::new();
    faults.extend(validate_ingress_spec(object));
    let annotation = at(object, &["metadata", "annotations", CLASS]).and_then(Value::as_str);
    let class = at(object, &["spec", "ingressClassName"]).and_then(Value::as_str);
    if let (Some(annotation), Some(class)) = (annotation, class) {
        if annotation != class {
            faults.invalid(
                &Path::root("annotations").field(CLASS),
                annotation,
                "must match `ingressClassName` when both are specified",
            );
        }
    }
    faults.into_causes()
}

fn validate_ingress_spec(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    let rules = list(spec, "rules");
    let backend = get(spec, "defaultBackend");
    if rules.is_empty() && backend.is_none() {
        faults.invalid(
            &path,
            get(spec, "rules").unwrap_or(&json!([])),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(backend) = backend {
        ingress_backend(&mut faults, &path.field("defaultBackend"), backend);
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = path.field("rules");
        let at = at.index(i);
        let host = text(rule, "host");
        if host.contains('*') {
            faults.invalid_each(&at.field("host"), host, names::wildcard_dns1123_subdomain(host));
        } else if !host.is_empty() {
            if check::parse_ip(host).is_some() {
                faults.invalid(&at.field("host"), host, "must be a DNS name, not an IP address");
            }
            faults.invalid_each(&at.field("host"), host, names::dns1123_subdomain(host));
        }
        let Some(http) = get(rule, "http") else { continue };
        let at = at.field("http");
        let at = at.field("paths");
        if is_empty(http, "paths") {
            faults.required(&at, "");
        }
        for (j, rule) in list(http, "paths").iter().enumerate() {
            ingress_path(&mut faults, &at.index(j), rule);
        }
    }
    for (i, tls) in list(spec, "tls").iter().enumerate() {
        let at = path.field("tls");
        let at = at.index(i);
        for (j, host) in list(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
            let messages = if host.contains('*') {
                names::wildcard_dns1123_subdomain(host)
            } else {
                names::dns1123_subdomain(host)
            };
            faults.invalid_each(&at.field("hosts").index(j), host, messages);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            faults.invalid_each(&at.field("secretName"), secret, names::dns1123_subdomain(secret));
        }
    }
    if let Some(class) = get(spec, "ingressClassName").and_then(Value::as_str) {
        faults.invalid_each(&path.field("ingressClassName"), class, names::dns1123_subdomain(class));
    }
    faults.into_causes()
}

fn ingress_path(faults: &mut Faults, path: &Path<'_>, rule: &Value) {
    let Some(kind) = get(rule, "pathType").and_then(Value::as_str) else {
        faults.required(&path.field("pathType"), "pathType must be specified");
        return;
    };
    let at = path.field("path");
    let value = text(rule, "path");
    match kind {
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                faults.invalid(&at, value, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(sequence) {
                    faults.invalid(&at, value, format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if value.ends_with(suffix) {
                    faults.invalid(&at, value, format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                faults.invalid(&at, value, "must be an absolute path");
            }
        }
        other => faults.not_supported(
            &path.field("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    ingress_backend(faults, &path.field("backend"), get(rule, "backend").unwrap_or(&Value::Null));
}

fn ingress_backend(faults: &mut Faults, path: &Path<'_>, backend: &Value) {
    match (get(backend, "service"), get(backend, "resource")) {
        (Some(_), Some(_)) => faults.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => faults.invalid(path, "", "resource or service backend is required"),
        (None, Some(resource)) => typed_reference(faults, &path.field("resource"), resource),
        (Some(service), None) => {
            let at = path.field("service");
            match text(service, "name") {
                "" => faults.required(&at.field("name"), ""),
                name => faults.invalid_each(&at.field("name"), name, names::dns1035_label(name)),
            }
            let none = Value::Null;
            let port = get(service, "port").unwrap_or(&none);
            let (name, number) = (text(port, "name"), int(port, "number").unwrap_or(0));
            match (name.is_empty(), number) {
                (true, 0) => faults.required(path, "port name or number is required"),
                (true, _) => check::port(faults, &at.field("port"), port, "number"),
                (false, 0) => {
                    faults.invalid_each(&at.field("port").field("name"), name, names::port_name(name));
                }
                (false, _) => faults.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

fn typed_reference(faults: &mut Faults, path: &Path<'_>, reference: &Value) {
    if let Some(group) = get(reference, "apiGroup").and_then(Value::as_str) {
        faults.invalid_each(&path.field("apiGroup"), group, names::dns1123_subdomain(group));
    }
    for field in ["kind", "name"] {
        match text(reference, field) {
            "" => faults.required(&path.field(field), ""),
            value => faults.invalid_each(&path.field(field), value, names::path_segment(value, false)),
        }
    }
}

fn validate_ingress_status(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("status.loadBalancer.ingress");
    let ingress = super::access::list_at(object, &["status", "loadBalancer", "ingress"]);
    for (i, ingress) in ingress.iter().enumerate() {
        let address = text(ingress, "ip");
        if !address.is_empty() {
            check::ip(&mut faults, &path.index(i).field("ip"), address);
        }
        host_name(&mut faults, &path.index(i).field("hostname"), text(ingress, "hostname"));
    }
    faults.into_causes()
}

fn validate_class(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    let at = path.field("controller");
    match text(spec, "controller") {
        "" => faults.required(&at, ""),
        controller => {
            if controller.len() > 250 {
                faults.too_long(&at, 250);
            }
            match controller.split_once('/') {
                Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
                    faults.invalid_each(&at, host, names::dns1123_subdomain(host));
                }
                _ => faults.invalid(&at, controller, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
            }
        }
    }
    if let Some(parameters) = get(spec, "parameters") {
        let at = path.field("parameters");
        typed_reference(&mut faults, &at, parameters);
        let namespace = get(parameters, "namespace");
        match (text(parameters, "scope"), namespace) {
            ("", _) => faults.required(&at.field("scope"), ""),
            ("Namespace", None) => {
                faults.required(&at.field("namespace"), "`parameters.scope` is set to 'Namespace'");
            }
            ("Cluster", Some(_)) => {
                faults.forbidden(&at.field("namespace"), "`parameters.scope` is set to 'Cluster'");
            }
            ("Namespace" | "Cluster", _) => {}
            (other, _) => faults.not_supported(&at.field("scope"), other, &["Cluster", "Namespace"]),
        }
    }
    faults.into_causes()
}

fn validate_class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let controller = |object| super::access::text_at(object, &["spec", "controller"]);
    if controller(new) != controller(old) {
        faults.invalid(&Path::root("spec.controller"), controller(new), IMMUTABLE);
    }
    faults.extend(validate_class(new));
    faults.into_causes()
}

fn validate_policy(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    if let Some(selector) = get(spec, "podSelector") {
        label_selector(&mut faults, &path.field("podSelector"), selector);
    }
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(spec, direction).iter().enumerate() {
            let at = path.field(direction);
            let at = at.index(i);
            for (j, port) in list(rule, "ports").iter().enumerate() {
                policy_port(&mut faults, &at.field("ports").index(j), port);
            }
            for (j, peer) in list(rule, peers).iter().enumerate() {
                policy_peer(&mut faults, &at.field(peers).index(j), peer);
            }
        }
    }
    let types = list(spec, "policyTypes");
    if types.len() > 2 {
        faults.invalid(
            &path.field("policyTypes"),
            get(spec, "policyTypes").unwrap_or(&none),
            "may not specify more than two policyTypes",
        );
        return faults.into_causes();
    }
    for (i, kind) in types.iter().enumerate() {
        if kind != "Ingress" && kind != "Egress" {
            faults.not_supported(&path.field("policyTypes").index(i), kind, &["Ingress", "Egress"]);
        }
    }
    faults.into_causes()
}

fn policy_port(faults: &mut Faults, path: &Path<'_>, port: &Value) {
    check::optional_one_of(faults, path, port, "protocol", &["TCP", "UDP", "SCTP"]);
    let at = path.field("endPort");
    let end = int(port, "endPort");
    match get(port, "port") {
        None => {
            if let Some(end) = end {
                faults.invalid(&at, end, "may not be specified when `port` is not specified");
            }
        }
        Some(Value::String(name)) => {
            if let Some(end) = end {
                faults.invalid(&at, end, "may not be specified when `port` is non-numeric");
            }
            faults.invalid_each(&path.field("port"), name, names::port_name(name));
        }
        Some(_) => {
            check::port(faults, path, port, "port");
            if let Some(end) = end {
                if end < int(port, "port").unwrap_or(0) {
                    faults.invalid(&at, end, "must be greater than or equal to `port`");
                }
                check::port(faults, path, port, "endPort");
            }
        }
    }
}

fn policy_peer(faults: &mut Faults, path: &Path<'_>, peer: &Value) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = get(peer, field) {
            count += 1;
            label_selector(faults, &path.field(field), selector);
        }
    }
    let Some(block) = get(peer, "ipBlock") else {
        if count == 0 {
            faults.required(path, "must specify a peer");
        }
        return;
    };
    let at = path.field("ipBlock");
    let range = text(block, "cidr");
    if range.is_empty() {
        faults.required(&at.field("cidr"), "");
    } else if check::cidr(faults, &at.field("cidr"), range) {
        for (i, except) in list(block, "except").iter().filter_map(Value::as_str).enumerate() {
            let at = at.field("except");
            if check::cidr(faults, &at.index(i), except) && !is_strict_subset(except, range) {
                faults.invalid(&at.index(i), except, "must be a strict subset of `cidr`");
            }
        }
    }
    if count > 0 {
        faults.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

/// Whether a range of addresses lies in another and is smaller; both are well-formed.
fn is_strict_subset(inner: &str, outer: &str) -> bool {
    let parse = |range: &str| {
        let (address, bits) = range.split_once('/')?;
        let (number, width) = match check::parse_ip(address)? {
            std::net::IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            std::net::IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        Some((number, bits.parse::<u32>().ok()?, width))
    };
    let (Some((inner, inner_bits, inner_width)), Some((outer, outer_bits, width))) = (parse(inner), parse(outer)) else {
        return false;
    };
    let shift = width - outer_bits;
    let prefix = |number: u128| number.checked_shr(shift).unwrap_or(0);
    inner_width == width && outer_bits < inner_bits && prefix(inner) == prefix(outer)
}
