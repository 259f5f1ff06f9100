//! `networking.k8s.io`: Ingress, IngressClass and ServiceCIDR.

use serde_json::{Value, json};

use super::{
    access::{at, fill, get, int, is_empty, list, text},
    check::{self, IMMUTABLE},
    field::{Faults, Path},
    names,
    prepare::{self, PLAIN, WITH_GENERATION},
    service::host_name,
};
use crate::{
    resource::{NameRule, Strategy},
    status::Cause,
};

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

/// The strategy of IPAddresses, whose names are addresses.
pub const IP_ADDRESS: Strategy = Strategy { validate: validate_ip_address, name: NameRule::PathSegment, ..PLAIN };

/// The strategy of ServiceCIDRs.
pub const SERVICE_CIDR: Strategy = Strategy { ..WITH_GENERATION };

fn default_class(object: &mut Value) {
    if let Some(parameters) = super::access::object_at_mut(object, &["spec", "parameters"]) {
        fill(parameters, "scope", "Cluster");
    }
}

fn validate_ingress(object: &Value) -> Vec<Cause> {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let mut faults = Faults::new();
    faults.extend(validate_ingress_spec(object));
    let annotation = at(object, &["metadata", "annotations", CLASS]).and_then(Value::as_str);
    let class = at(object, &["spec", "ingressClassName"]).and_then(Value::as_str);
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        faults.invalid(
            &Path::root("annotations").field(CLASS),
            annotation,
            "must match `ingressClassName` when both are specified",
        );
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
        other => faults.not_supported(&path.field("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"]),
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
                name => faults.invalid_each(&at.field("name"), name, names::dns1123_label(name)),
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
    let controller = text(spec, "controller");
    if controller.len() > 250 {
        faults.too_long(&at, 250);
    }
    check::domain_prefixed_path(&mut faults, &at, controller);
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

fn validate_ip_address(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let name = super::access::text_at(object, &["metadata", "name"]);
    let canonical = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_string() == name);
    if !name.is_empty() && !canonical {
        faults.invalid(&Path::root("metadata.name"), name, "must be a valid address in canonical form");
    }
    let path = Path::root("spec.parentRef");
    match at(object, &["spec", "parentRef"]) {
        None => faults.required(&path, ""),
        Some(parent) => {
            for field in ["resource", "name"] {
                if text(parent, field).is_empty() {
                    faults.required(&path.field(field), "");
                }
            }
        }
    }
    faults.into_causes()
}
