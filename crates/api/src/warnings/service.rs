//! Fields of Services that do nothing, or will not for long (`pkg/api/service/warnings.go`).

use serde_json::Value;

use super::address;
use crate::strategy::{
    access::{list, text},
    field::Path,
};

pub(super) fn warn(found: &mut Vec<String>, service: &Value) {
    let spec = &service["spec"];
    let hints = "service.kubernetes.io/topology-aware-hints";
    if !service["metadata"]["annotations"][hints].is_null() {
        found.push(format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let kind = spec["type"].as_str().unwrap_or("ClusterIP");
    let headless = kind == "ClusterIP" && spec["clusterIP"] == "None";
    let (balancer, external) = (text(spec, "loadBalancerIP"), list(spec, "externalIPs"));
    let named = kind == "ExternalName";
    let path = Path::root("spec");
    let addresses = |found: &mut Vec<String>, field: &str| {
        for (index, one) in list(spec, field).iter().filter_map(Value::as_str).enumerate() {
            address::ip(found, &path.field(field).index(index), one);
        }
    };
    addresses(found, "clusterIPs");
    if headless {
        for (applies, words) in [
            (!balancer.is_empty(), "spec.loadBalancerIP is ignored for headless services"),
            (!external.is_empty(), "spec.externalIPs is ignored for headless services"),
        ] {
            found.extend(applies.then(|| words.to_owned()));
        }
    }
    addresses(found, "externalIPs");
    if !external.is_empty() && !headless && !named {
        found.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    if !balancer.is_empty() {
        address::ip(found, &path.field("loadBalancerIP"), balancer);
    }
    for (index, range) in list(spec, "loadBalancerSourceRanges").iter().filter_map(Value::as_str).enumerate() {
        address::cidr(found, &path.field("loadBalancerSourceRanges").index(index), range);
    }
    for (applies, words) in [
        (!external.is_empty() && named, "spec.externalIPs is ignored when spec.type is \"ExternalName\""),
        (
            !named && !text(spec, "externalName").is_empty(),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
        (
            spec["trafficDistribution"] == "PreferClose",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ),
    ] {
        found.extend(applies.then(|| words.to_owned()));
    }
}
