//! `networking.k8s.io`: Ingress, IngressClass, NetworkPolicy, IPAddress, ServiceCIDR.

use serde_json::{Value, json};

use super::{
    access::{ensure_object, fill, is_empty, items_mut, set},
    prepare::{self, PLAIN, WITH_GENERATION},
};
use crate::resource::Strategy;

/// The strategy of Ingresses.
pub const INGRESS: Strategy = Strategy {
    prepare_create: |object| {
        prepare::first_generation(object);
        prepare::empty_status(object, json!({"loadBalancer": {}}));
    },
    ..WITH_GENERATION
};

/// The strategy of IngressClasses.
pub const INGRESS_CLASS: Strategy = Strategy {
    default: default_class,
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    ..PLAIN
};

/// The strategy of NetworkPolicies.
pub const NETWORK_POLICY: Strategy = Strategy {
    default: default_policy,
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
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
