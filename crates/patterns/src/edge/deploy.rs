//! What the edge is made of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{EdgeSettings, NAME, OPEN_ON_NODES};
use crate::{
    MANAGER,
    plan::{ADMIN, CONFIG, liveness, readiness},
};

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
        let seen = match port {
            80 => i32::from(settings.http_port),
            443 => i32::from(settings.https_port),
            other => other,
        };
        if seen != 0 {
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
