//! What the edge is made of.

use std::collections::{BTreeMap, BTreeSet};

use controllers::queue::Key;
use k8s_openapi::api::core::v1::Service;
use pattern_kinds::gateway::Gateway;
use serde_json::{Value, json};

use super::{EdgeSettings, NAME, OPEN_ON_NODES, OWN_DOMAIN, digest};
use crate::{
    MANAGER,
    plan::{ADMIN, CONFIG, liveness, readiness},
};

/// Which Gateway a Service is the address of: `NAMESPACE/NAME`.
const GATEWAY: &str = "hythe.dev/gateway";
/// What the Services of Gateways have in common.
pub const GATEWAY_ROLE: &str = "hythe.dev/edge=gateway-address";

fn labels() -> Value {
    json!({
        "app.kubernetes.io/name": "edge",
        "app.kubernetes.io/instance": NAME,
        "app.kubernetes.io/managed-by": MANAGER,
    })
}

/// Configuration and certificates.
pub fn secret(settings: &EdgeSettings, data: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": settings.namespace, "labels": labels()},
        "type": "Opaque",
        "data": data,
    })
}

/// Ports as clients see them, each with the listener's that it leads to.
fn published(settings: &EdgeSettings, ports: &BTreeSet<i32>) -> BTreeMap<i32, i32> {
    let mut all = BTreeMap::new();
    for &port in ports {
        if let Some(seen) = settings.node_port(port) {
            all.entry(seen).or_insert(port);
        }
    }
    all
}

/// What leads to the proxies, unless the ports of their nodes do. Ports come and go without any pod knowing.
pub fn service(settings: &EdgeSettings, ports: &BTreeSet<i32>) -> Option<Value> {
    let of_type = settings.service_type.as_deref()?;
    let ports: Vec<Value> = published(settings, ports)
        .into_iter()
        .map(
            |(seen, port)| json!({"name": format!("port-{port}"), "port": seen, "targetPort": port, "protocol": "TCP"}),
        )
        .collect();
    if ports.is_empty() {
        return None;
    }
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": settings.namespace, "labels": labels()},
        "spec": {"type": of_type, "selector": {"app.kubernetes.io/instance": NAME}, "ports": ports},
    });
    if of_type != "ClusterIP" {
        // The proxies see who asks.
        service["spec"]["externalTrafficPolicy"] = "Local".into();
    }
    if settings.open_on_nodes {
        service["metadata"]["annotations"] = json!({OPEN_ON_NODES: "true"});
        service["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    }
    Some(service)
}

/// The name of the Service that is a Gateway's address.
pub fn gateway_service_name(gateway: &Key) -> String {
    // With a digest, since the two names together may be longer than a Service's, and a dash may be in both.
    let shown: String = gateway.name.chars().take(30).map(|c| if c == '.' { '-' } else { c }).collect();
    format!("gateway-{shown}-{}", digest(gateway.to_string().as_bytes()))
}

/// The Gateway that a Service is the address of.
pub fn gateway_of(service: &Service) -> Option<Key> {
    let named = service.metadata.annotations.as_ref()?.get(GATEWAY)?;
    let (namespace, name) = named.split_once('/')?;
    let key = Key::new(namespace, name);
    (service.metadata.name.as_deref() == Some(gateway_service_name(&key).as_str())).then_some(key)
}

/// A Gateway's own address: each of its ports leads to one of the proxies' that is for it alone. `wanted` is the address
/// that it asks for, if any.
pub fn gateway_service(
    settings: &EdgeSettings,
    gateway: &Gateway,
    ports: &BTreeMap<i32, i32>,
    wanted: Option<&str>,
) -> Value {
    let key = Key::of(gateway);
    let of_type = settings.gateway_service_type();
    let infrastructure = gateway.spec.infrastructure.as_ref();
    let given = |map: Option<&BTreeMap<String, String>>| {
        // What is said in our own name is ours to say.
        let own = |name: &&String| !name.split('/').next().unwrap_or_default().ends_with(OWN_DOMAIN);
        let map = map.into_iter().flatten().filter(|(name, _)| own(name));
        map.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<serde_json::Map<_, _>>()
    };
    let mut annotations = given(infrastructure.and_then(|i| i.annotations.as_ref()));
    annotations.insert(GATEWAY.to_owned(), key.to_string().into());
    let mut labelled = given(infrastructure.and_then(|i| i.labels.as_ref()));
    labelled.extend(labels().as_object().cloned().into_iter().flatten());
    let (role, value) = GATEWAY_ROLE.split_once('=').unwrap_or_default();
    labelled.insert(role.to_owned(), value.into());
    if key.name.len() <= 63 {
        labelled.insert("gateway.networking.k8s.io/gateway-name".to_owned(), key.name.clone().into());
    }
    let ports: Vec<Value> = ports
        .iter()
        .map(|(port, own)| json!({"name": format!("port-{port}"), "port": port, "targetPort": own, "protocol": "TCP"}))
        .collect();
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": gateway_service_name(&key), "namespace": settings.namespace, "labels": labelled,
            "annotations": annotations,
        },
        "spec": {"type": of_type, "selector": {"app.kubernetes.io/instance": NAME}, "ports": ports},
    });
    if of_type != "ClusterIP" {
        service["spec"]["externalTrafficPolicy"] = "Local".into();
    }
    if let Some(wanted) = wanted {
        let field = if of_type == "LoadBalancer" { "loadBalancerIP" } else { "clusterIP" };
        service["spec"][field] = wanted.into();
    }
    service
}

/// The proxies.
pub fn deployment(settings: &EdgeSettings, image: &str, ports: &BTreeSet<i32>) -> Value {
    let mut open = vec![json!({"name": "admin", "containerPort": ADMIN, "protocol": "TCP"})];
    let by_service = settings.service_type.is_some();
    if !by_service && !settings.host_network {
        // Those of the web always, so that the first of either is no reason to begin anew.
        let ports: BTreeSet<i32> = ports.iter().copied().chain([80, 443]).collect();
        for (host, port) in published(settings, &ports) {
            open.push(json!({
                "name": format!("port-{port}"), "containerPort": port, "hostPort": host, "protocol": "TCP",
            }));
        }
    }
    // A node's port is one pod's at a time; behind a Service a new pod is ready before an old one goes.
    let (surge, unavailable) = if by_service { (1, 0) } else { (0, 1) };
    let mut environment = vec![json!({"name": "HYTHE_DRAIN", "value": "20"})];
    if by_service {
        environment.push(json!({"name": "HYTHE_LINGER", "value": "3"}));
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": settings.namespace, "labels": labels()},
        "spec": {
            "replicas": settings.replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/instance": NAME}},
            "strategy": {
                "type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "hostNetwork": settings.host_network,
                    "dnsPolicy": if settings.host_network { "ClusterFirstWithHostNet" } else { "ClusterFirst" },
                    "terminationGracePeriodSeconds": 30,
                    "priorityClassName": "system-cluster-critical",
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "hythe",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["proxy", "http", "--config", format!("{CONFIG}/config.yaml")],
                        "env": environment,
                        "ports": open,
                        "readinessProbe": readiness(),
                        "livenessProbe": liveness(),
                        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                        // The ports of the web are below 1024.
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                        },
                        "volumeMounts": [{"name": "config", "mountPath": CONFIG, "readOnly": true}],
                    }],
                    "volumes": [{"name": "config", "secret": {"secretName": NAME}}],
                },
            },
        },
    })
}
