//! `v1 Service`.

mod validate;

use serde_json::{Value, json};

pub use self::validate::{NODE_PORTS, host_name, node_port_faults};
use super::{
    access::{at, ensure_object, fill, fill_text, get, int, is_empty, items_mut, list, remove, same_field, set, text},
    prepare::{self, PLAIN},
};
use crate::resource::{NameRule, Strategy};

/// The strategy of Services. Addresses and node ports are given out by the server, between defaulting and validation.
pub const SERVICE: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update,
    prepare_status_update,
    validate: validate::validate,
    validate_update: validate::validate_update,
    validate_status_update: validate::validate_status_update,
    name: NameRule::Label,
    create_on_update: true,
    ..PLAIN
};

fn default(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    fill_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            remove(spec, "sessionAffinityConfig");
        }
        "ClientIP" if at(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).is_none() => {
            set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
        }
        _ => {}
    }
    fill_text(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports") {
        fill_text(port, "protocol", "TCP");
        let target_unset = match get(port, "targetPort") {
            None => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(number) => number.as_i64() == Some(0),
        };
        if target_unset {
            let number = int(port, "port").unwrap_or(0);
            set(port, "targetPort", number);
        }
    }
    let kind = text(spec, "type").to_owned();
    let external =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !is_empty(spec, "externalIPs"));
    if external {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
        default_status(object);
    }
}

/// A balancer's address is the nodes' own unless it says otherwise.
fn default_status(object: &mut Value) {
    if let Some(balancer) = super::access::object_at_mut(object, &["status", "loadBalancer"]) {
        for ingress in items_mut(balancer, "ingress") {
            if !text(ingress, "ip").is_empty() {
                fill(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn prepare_create(object: &mut Value) {
    prepare::empty_status(object, json!({"loadBalancer": {}}));
    normalize_addresses(object, None);
}

fn prepare_update(new: &mut Value, old: &Value) {
    prepare::keep_status(new, old);
    let Some(old_spec) = get(old, "spec") else { return };
    patch_allocated(new, old_spec);
    drop_type_dependent(new, old_spec);
    normalize_addresses(new, Some(old_spec));
}

fn prepare_status_update(new: &mut Value, old: &Value) {
    prepare::status_update(new, old);
    if at(new, &["spec", "type"]).is_some_and(|kind| kind == "LoadBalancer") {
        default_status(new);
    }
}

/// What the server gave out stays if the client leaves it out.
fn patch_allocated(new: &mut Value, old: &Value) {
    let spec = ensure_object(new, "spec");
    let kind = text(spec, "type").to_owned();
    let old_kind = text(old, "type");
    let needs_address = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    let needs_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if needs_address(old_kind) && needs_address(&kind) {
        if text(spec, "clusterIP").is_empty() {
            super::access::copy(spec, old, "clusterIP");
        }
        if is_empty(spec, "clusterIPs") && text(spec, "clusterIP") == text(old, "clusterIP") {
            super::access::copy(spec, old, "clusterIPs");
        }
    }
    if needs_ports(old_kind) && needs_ports(&kind) {
        let mut used: Vec<i64> = list(spec, "ports").iter().filter_map(|port| int(port, "nodePort")).collect();
        for port in items_mut(spec, "ports") {
            if int(port, "nodePort").unwrap_or(0) == 0 {
                let before = list(old, "ports").iter().find(|before| {
                    int(before, "port") == int(port, "port") && text(before, "protocol") == text(port, "protocol")
                });
                let number = before.and_then(|before| int(before, "nodePort")).filter(|number| !used.contains(number));
                if let Some(number) = number.filter(|number| *number != 0) {
                    used.push(number);
                    set(port, "nodePort", number);
                }
            }
        }
    }
    if text(spec, "externalTrafficPolicy") == "Local"
        && kind == "LoadBalancer"
        && text(old, "externalTrafficPolicy") == "Local"
        && old_kind == "LoadBalancer"
        && int(spec, "healthCheckNodePort").unwrap_or(0) == 0
    {
        super::access::copy(spec, old, "healthCheckNodePort");
    }
}

/// Fields that the type no longer allows go, if the client did not change them.
fn drop_type_dependent(new: &mut Value, old: &Value) {
    let spec = ensure_object(new, "spec");
    let (kind, old_kind) = (text(spec, "type").to_owned(), text(old, "type"));
    let needs_address = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    let needs_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if needs_address(old_kind) && !needs_address(&kind) && same_field(spec, old, "clusterIP") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            remove(spec, field);
        }
    }
    if needs_ports(old_kind) && !needs_ports(&kind) {
        let same = list(spec, "ports").len() == list(old, "ports").len()
            && list(spec, "ports")
                .iter()
                .zip(list(old, "ports"))
                .all(|(a, b)| int(a, "nodePort") == int(b, "nodePort"));
        if same {
            for port in items_mut(spec, "ports") {
                remove(port, "nodePort");
            }
        }
    }
    if text(old, "externalTrafficPolicy") == "Local"
        && old_kind == "LoadBalancer"
        && !(kind == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local")
        && same_field(spec, old, "healthCheckNodePort")
    {
        remove(spec, "healthCheckNodePort");
    }
    if old_kind == "LoadBalancer" && kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same_field(spec, old, field) {
                remove(spec, field);
            }
        }
    }
    if needs_ports(old_kind)
        && !needs_ports(&kind)
        && is_empty(spec, "externalIPs")
        && same_field(spec, old, "externalTrafficPolicy")
    {
        remove(spec, "externalTrafficPolicy");
    }
    if kind == "ExternalName" && same_field(spec, old, "internalTrafficPolicy") {
        remove(spec, "internalTrafficPolicy");
    }
}

/// `clusterIP` and `clusterIPs` say the same; the families follow.
fn normalize_addresses(object: &mut Value, old: Option<&Value>) {
    let spec = ensure_object(object, "spec");
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let address = text(spec, "clusterIP").to_owned();
    match old {
        None => {
            if !address.is_empty() && is_empty(spec, "clusterIPs") {
                set(spec, "clusterIPs", json!([address]));
            }
        }
        Some(old) => {
            let old_address = text(old, "clusterIP");
            if address != old_address && same_field(spec, old, "clusterIPs") {
                if address.is_empty() {
                    remove(spec, "clusterIPs");
                } else {
                    set(spec, "clusterIPs", json!([address]));
                }
            }
        }
    }
    if let Some(old) = old {
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if is_empty(spec, field) {
                super::access::copy(spec, old, field);
            }
        }
    }
    if text(spec, "clusterIP") == "None" && is_empty(spec, "selector") {
        // It may point anywhere: the API server gives it all families.
        return;
    }
    fill_text(spec, "ipFamilyPolicy", "SingleStack");
    if is_empty(spec, "ipFamilies") {
        let family = if text(spec, "clusterIP").contains(':') { "IPv6" } else { "IPv4" };
        set(spec, "ipFamilies", json!([family]));
    }
}
