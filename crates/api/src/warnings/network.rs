//! Ingresses, network policies and endpoints.

use serde_json::Value;

use super::address;
use crate::strategy::{
    access::{get, list, text},
    field::Path,
};

/// An Ingress that is made.
pub(super) fn ingress(found: &mut Vec<String>, ingress: &Value) {
    let class = "kubernetes.io/ingress.class";
    if !ingress["metadata"]["annotations"][class].is_null() && get(&ingress["spec"], "ingressClassName").is_none() {
        found.push(format!("annotation \"{class}\" is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

/// The ranges of a NetworkPolicy.
pub(super) fn policy(found: &mut Vec<String>, policy: &Value) {
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(&policy["spec"], direction).iter().enumerate() {
            for (j, peer) in list(rule, peers).iter().enumerate() {
                let Some(block) = get(peer, "ipBlock") else { continue };
                let at = Path::root("spec");
                let at = at.field(direction);
                let at = at.index(i);
                let at = at.field(peers);
                let at = at.index(j);
                let at = at.field("ipBlock");
                address::cidr(found, &at.field("cidr"), text(block, "cidr"));
                for (k, except) in list(block, "except").iter().filter_map(Value::as_str).enumerate() {
                    address::cidr(found, &at.field("except").index(k), except);
                }
            }
        }
    }
}

/// The addresses of Endpoints; the controller's own are sound.
pub(super) fn endpoints(found: &mut Vec<String>, endpoints: &Value) {
    if endpoints["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
        return;
    }
    for (i, subset) in list(endpoints, "subsets").iter().enumerate() {
        for field in ["addresses", "notReadyAddresses"] {
            let at = Path::root("subsets");
            let at = at.index(i);
            let at = at.field(field);
            for (j, one) in list(subset, field).iter().enumerate() {
                address::ip(found, &at.index(j).field("ip"), text(one, "ip"));
            }
        }
    }
}

/// An EndpointSlice; the same.
pub(super) fn slice(found: &mut Vec<String>, slice: &Value, is_new: bool) {
    if is_new && slice["addressType"] == "FQDN" {
        found.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let keeper = slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"].as_str();
    if matches!(keeper, Some("endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io")) {
        return;
    }
    for (i, endpoint) in list(slice, "endpoints").iter().enumerate() {
        let at = Path::root("endpoints");
        let at = at.index(i);
        for (j, one) in list(endpoint, "addresses").iter().filter_map(Value::as_str).enumerate() {
            address::ip(found, &at.field("addresses").index(j), one);
        }
    }
}
