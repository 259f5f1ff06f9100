//! Fields of Services that do nothing, or will not for long (`pkg/api/service/warnings.go`).

use serde_json::Value;

use crate::strategy::access::{list, text};

pub(super) fn warn(found: &mut Vec<String>, service: &Value) {
    let spec = &service["spec"];
    let hints = "service.kubernetes.io/topology-aware-hints";
    if !service["metadata"]["annotations"][hints].is_null() {
        found.push(format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let kind = spec["type"].as_str().unwrap_or("ClusterIP");
    let (external, headless) =
        (!list(spec, "externalIPs").is_empty(), kind == "ClusterIP" && spec["clusterIP"] == "None");
    let named = kind == "ExternalName";
    let affinity = spec["sessionAffinity"].as_str().is_some_and(|affinity| affinity != "None");
    for (applies, words) in [
        (headless && !text(spec, "loadBalancerIP").is_empty(), "spec.loadBalancerIP is ignored for headless services"),
        (headless && external, "spec.externalIPs is ignored for headless services"),
        (headless && affinity, "spec.SessionAffinity is ignored for headless services"),
        (
            external && !headless && !named,
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
        ),
        (external && named, "spec.externalIPs is ignored when spec.type is \"ExternalName\""),
        (
            !named && !text(spec, "externalName").is_empty(),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
        (
            spec["trafficDistribution"] == "PreferClose",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ),
    ] {
        if applies {
            found.push(words.to_owned());
        }
    }
}
