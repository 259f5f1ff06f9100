//! What an object needs: pods of the pattern containers with a configuration, a Service before them, and maybe more.

use controllers::ownership::controller_reference;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use pattern_kinds::patterns::Tier;
use serde_json::{Value, json};

use crate::{MANAGER, Settings};

/// The directory of a container's configuration.
pub const CONFIG: &str = "/etc/hythe";
/// The admin port of all pattern containers.
pub const ADMIN: i32 = 9901;
/// The user of pods that need no privilege at all.
const NOBODY: i64 = 65_532;

/// Where the configuration is.
pub enum Configuration {
    /// Written by the controller.
    Text(String),
    /// In a ConfigMap of the user's.
    Key {
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
}

/// A port of the tier.
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// At the Service.
    pub port: i32,
    /// At the pods.
    pub target: i32,
}

/// What an object needs.
pub struct Plan {
    /// For instance `["proxy", "http"]`.
    pub command: &'static [&'static str],
    /// What the containers read.
    pub configuration: Configuration,
    /// The port that clients use.
    pub port: Port,
    /// Ports that only the tier's own pods use, behind a headless Service `NAME-peers`.
    pub peers: Option<Port>,
    /// Pods, unless the object says otherwise.
    pub replicas: i32,
    /// How much memory a pod asks for beyond that of a bare proxy, in bytes.
    pub memory: u64,
    /// How much scratch space on disk a pod has at `/var/cache/hythe`, in bytes.
    pub disk: Option<u64>,
    /// How many servers are behind it.
    pub backends: i32,
    /// What is referred to but not there.
    pub missing: Vec<String>,
    /// Objects beside the tier, complete but for their metadata's namespace, labels and owner.
    pub more: Vec<Value>,
    /// What is still to be done, once something else has happened.
    pub waits: Option<Waits>,
}

/// Why not everything is as it is asked for yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For people.
    pub message: String,
    /// When to look again, if no event tells.
    pub until: Option<Timestamp>,
}

/// What can't be done until the object changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Plan {
    /// All objects, in the order in which they are written.
    pub fn objects<K: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        tier: Option<&Tier>,
        settings: &Settings,
    ) -> Vec<Value> {
        let mut objects = self.more.clone();
        objects.extend(self.config_map(owner));
        objects.push(self.service(owner, tier));
        objects.extend(self.peers_service(owner));
        objects.push(self.deployment(owner, tier, settings));
        for object in &mut objects {
            adopt(object, owner);
        }
        objects
    }

    /// How many pods there should be.
    pub fn replicas(&self, tier: Option<&Tier>) -> i32 {
        tier.and_then(|t| t.replicas).unwrap_or(self.replicas)
    }

    fn config_map(&self, owner: &impl ResourceExt) -> Option<Value> {
        let Configuration::Text(text) = &self.configuration else { return None };
        Some(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": format!("{}-config", owner.name_any())},
            "data": {"config.yaml": text},
        }))
    }

    fn service(&self, owner: &impl ResourceExt, tier: Option<&Tier>) -> Value {
        let name = owner.name_any();
        let mut port = json!({
            "name": self.port.name, "protocol": "TCP", "port": self.port.port, "targetPort": self.port.target,
        });
        if let Some(node_port) = tier.and_then(|t| t.node_port) {
            port["nodePort"] = node_port.into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "type": tier.and_then(|t| t.service_type.as_deref()).unwrap_or("ClusterIP"),
                "selector": selector(owner),
                "ports": [port],
            },
        })
    }

    fn peers_service(&self, owner: &impl ResourceExt) -> Option<Value> {
        let peers = self.peers.as_ref()?;
        Some(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": peers_name(owner)},
            "spec": {
                "clusterIP": "None",
                "selector": selector(owner),
                "ports": [{"name": peers.name, "protocol": "TCP", "port": peers.port, "targetPort": peers.target}],
            },
        }))
    }

    fn deployment<K: Resource<DynamicType = ()>>(&self, owner: &K, tier: Option<&Tier>, settings: &Settings) -> Value {
        let labels = labels(owner);
        let (config_map, key) = match &self.configuration {
            Configuration::Text(_) => (format!("{}-config", owner.name_any()), "config.yaml"),
            Configuration::Key { name, key } => (name.clone(), key.as_str()),
        };
        let mut arguments: Vec<String> = self.command.iter().map(|&part| part.to_owned()).collect();
        arguments.extend(["--config".to_owned(), format!("{CONFIG}/{key}")]);
        let mut ports = vec![
            json!({"name": self.port.name, "containerPort": self.port.target, "protocol": "TCP"}),
            json!({"name": "admin", "containerPort": ADMIN, "protocol": "TCP"}),
        ];
        if let Some(peers) = self.peers.as_ref().filter(|peers| peers.target != self.port.target) {
            ports.push(json!({"name": peers.name, "containerPort": peers.target, "protocol": "TCP"}));
        }
        let mut mounts = vec![json!({"name": "config", "mountPath": CONFIG, "readOnly": true})];
        let mut volumes = vec![json!({"name": "config", "configMap": {"name": config_map}})];
        if let Some(bytes) = self.disk {
            mounts.push(json!({"name": "scratch", "mountPath": "/var/cache/hythe"}));
            // What is stored keeps to its bytes; directories take some too, and who takes more than the limit is evicted.
            let limit = bytes.saturating_add(bytes / 8).saturating_add(4 << 20);
            volumes.push(json!({"name": "scratch", "emptyDir": {"sizeLimit": limit.to_string()}}));
        }
        let resources = match tier.and_then(|t| t.resources.as_ref()) {
            Some(resources) => json!(resources),
            None => json!({"requests": {"cpu": "10m", "memory": format!("{}Mi", 16 + self.memory.div_ceil(1 << 20))}}),
        };
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": owner.name_any()},
            "spec": {
                "replicas": self.replicas(tier),
                "selector": {"matchLabels": selector(owner)},
                // A new pod is ready before an old one goes.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "terminationGracePeriodSeconds": 30,
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [{
                            "name": "hythe",
                            "image": tier.and_then(|t| t.image.as_deref()).unwrap_or(&settings.image),
                            "imagePullPolicy": "IfNotPresent",
                            "args": arguments,
                            "env": [
                                {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                                // Listeners stay open until everybody has learnt that the pod goes.
                                {"name": "HYTHE_LINGER", "value": "3"},
                                {"name": "HYTHE_DRAIN", "value": "20"},
                            ],
                            "ports": ports,
                            "readinessProbe": readiness(),
                            "livenessProbe": liveness(),
                            "resources": resources,
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]},
                            },
                            "volumeMounts": mounts,
                        }],
                        "volumes": volumes,
                    },
                },
            },
        })
    }
}

/// The name of the headless Service by which a tier's own pods find each other.
pub fn peers_name(owner: &impl ResourceExt) -> String {
    format!("{}-peers", owner.name_any())
}

/// When a pattern container serves.
pub fn readiness() -> Value {
    json!({"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 2, "failureThreshold": 2})
}

/// When it has to be started anew.
pub fn liveness() -> Value {
    json!({"httpGet": {"path": "/healthz", "port": "admin"}, "periodSeconds": 10, "failureThreshold": 6})
}

/// The labels by which the tier's pods are selected.
pub fn selector(owner: &impl ResourceExt) -> Value {
    json!({"app.kubernetes.io/instance": owner.name_any(), "app.kubernetes.io/managed-by": MANAGER})
}

/// The same as text.
pub fn selector_text(owner: &impl ResourceExt) -> String {
    let selector = selector(owner);
    let all = selector.as_object().into_iter().flatten();
    let all: Vec<String> = all.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    all.join(",")
}

fn labels<K: Resource<DynamicType = ()>>(owner: &K) -> Value {
    let mut labels = selector(owner);
    labels["app.kubernetes.io/name"] = K::kind(&()).to_lowercase().into();
    labels["app.kubernetes.io/component"] = "tier".into();
    labels
}

/// Puts an object into its owner's namespace and hands.
fn adopt<K: Resource<DynamicType = ()>>(object: &mut Value, owner: &K) {
    let metadata = &mut object["metadata"];
    metadata["namespace"] = owner.namespace().unwrap_or_default().into();
    metadata["ownerReferences"] = json!([controller_reference(owner)]);
    for (key, value) in labels(owner).as_object().into_iter().flatten() {
        metadata["labels"][key] = value.clone();
    }
}
