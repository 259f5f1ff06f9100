//! The patterns of distributed systems, and the Gateway API, which their data plane serves.

use serde_json::Value;

use super::entry::{Entry, cluster, namespaced};
use crate::schema::types::*;

/// What `kubectl get patterns` lists.
const CATEGORIES: &[&str] = &["patterns"];

pub fn patterns() -> Vec<Entry> {
    let plain = |kind, plural, schema, short| {
        namespaced("patterns.hythe.dev", "v1", kind, plural, schema).short(short).category(CATEGORIES).status()
    };
    let kind = |name, plural, schema, short| plain(name, plural, schema, short).scale_at("/spec/tier/replicas");
    vec![
        kind("CacheTier", "cachetiers", &patterns_v1_CacheTier, &["ct"]),
        kind("RateLimit", "ratelimits", &patterns_v1_RateLimit, &["rl"]),
        kind("RequestSplit", "requestsplits", &patterns_v1_RequestSplit, &["rsplit"]),
        kind("ScatterGather", "scattergathers", &patterns_v1_ScatterGather, &["sg"]),
        kind("ShardedService", "shardedservices", &patterns_v1_ShardedService, &["shsvc"]),
        plain("Sidecar", "sidecars", &patterns_v1_Sidecar, &[]),
    ]
}

pub fn gateway() -> Vec<Entry> {
    const GROUP: &str = "gateway.networking.k8s.io";
    const CATEGORIES: &[&str] = &["gateway-api"];
    let grant = |version, schema| {
        namespaced(GROUP, version, "ReferenceGrant", "referencegrants", schema)
            .short(&["refgrant"])
            .category(CATEGORIES)
    };
    vec![
        cluster(GROUP, "v1", "GatewayClass", "gatewayclasses", &gateway_v1_GatewayClass)
            .short(&["gc"])
            .category(CATEGORIES)
            .status(),
        namespaced(GROUP, "v1", "Gateway", "gateways", &gateway_v1_Gateway)
            .short(&["gtw"])
            .category(CATEGORIES)
            .status(),
        namespaced(GROUP, "v1", "HTTPRoute", "httproutes", &gateway_v1_HTTPRoute).category(CATEGORIES).status(),
        grant("v1", &gateway_v1_ReferenceGrant),
        grant("v1beta1", &gateway_v1beta1_ReferenceGrant).stored_as(
            "referencegrants.gateway.networking.k8s.io",
            (GROUP, "v1"),
            |object| version(object, "v1"),
            |object| version(object, "v1beta1"),
        ),
    ]
}

/// The two versions differ in name only.
fn version(object: &mut Value, version: &str) {
    object["apiVersion"] = format!("gateway.networking.k8s.io/{version}").into();
}
