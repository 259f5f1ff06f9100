//! What the edge is made of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{EdgeSettings, NAME};
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

/// The proxies.
pub fn deployment(settings: &EdgeSettings, image: &str, ports: &BTreeSet<i32>) -> Value {
    let mut open = vec![json!({"name": "admin", "containerPort": ADMIN, "protocol": "TCP"})];
    for &port in ports {
        let mut one = json!({"name": format!("port-{port}"), "containerPort": port, "protocol": "TCP"});
        let host = match port {
            80 => i32::from(settings.http_port),
            443 => i32::from(settings.https_port),
            other => other,
        };
        if settings.host_network {
            one["hostPort"] = port.into();
        } else if host != 0 {
            one["hostPort"] = host.into();
        }
        open.push(one);
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": settings.namespace, "labels": labels()},
        "spec": {
            "replicas": settings.replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/instance": NAME}},
            // A node's port is one pod's at a time.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
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
                        "env": [{"name": "HYTHE_DRAIN", "value": "20"}],
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
