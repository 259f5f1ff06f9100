//! Defaults, preparation and validation of the built-in kinds, driven as the server drives them.

mod create_config;
mod create_network;
mod create_pods;
mod create_workloads;
mod defaults;
mod invalid;
mod metadata;
mod prepare;
mod update;

use api::{
    resource::Strategy,
    status::Cause,
    strategy::{self, metadata as meta},
};
use serde_json::{Value, json};

/// One change of a sound object, and the faults that it must give, in order.
pub struct Row {
    /// Which manifest of [`manifest`].
    pub of: &'static str,
    /// JSON pointer and JSON text of each field set; the text `-` removes the field.
    pub set: &'static [(&'static str, &'static str)],
    /// `Invalid spec.x: Invalid value: …`: the reason without `FieldValue`, the field, the message.
    pub faults: &'static [&'static str],
}

/// A row of a table.
pub const fn row(
    of: &'static str,
    set: &'static [(&'static str, &'static str)],
    faults: &'static [&'static str],
) -> Row {
    Row { of, set, faults }
}

/// Creates every row's object and compares its faults.
pub fn check_creates(rows: &[Row]) {
    for row in rows {
        let mut object = manifest(row.of);
        change(&mut object, row.set);
        let (_, faults) = create(object);
        assert_faults(row, &faults);
    }
}

/// Creates the manifest, updates it by every row, and compares the faults.
pub fn check_updates(rows: &[Row]) {
    for row in rows {
        let (old, faults) = create(manifest(row.of));
        assert!(faults.is_empty(), "the manifest {} is sound: {faults:?}", row.of);
        let mut new = old.clone();
        change(&mut new, row.set);
        let (_, faults) = update(new, &old);
        assert_faults(row, &faults);
    }
}

fn assert_faults(row: &Row, faults: &[Cause]) {
    let found: Vec<String> = faults
        .iter()
        .map(|cause| {
            let reason = cause.reason.strip_prefix("FieldValue").unwrap_or(&cause.reason);
            format!("{reason} {}: {}", cause.field, cause.message)
        })
        .collect();
    let wanted: Vec<String> = row.faults.iter().map(|fault| (*fault).to_owned()).collect();
    assert_eq!(found, wanted, "{} with {:?}", row.of, row.set);
}

/// The strategy of an object's kind.
pub fn strategy_of(object: &Value) -> (String, String, Strategy) {
    let group = object["apiVersion"].as_str().expect("an apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = object["kind"].as_str().expect("a kind");
    (group.to_owned(), kind.to_owned(), strategy::for_kind(group, kind))
}

/// What the server does on a create.
pub fn create(mut object: Value) -> (Value, Vec<Cause>) {
    let (group, kind, strategy) = strategy_of(&object);
    (strategy.default)(&mut object);
    meta::prepare_create(&mut object, "0b9e1a52-0000-4000-8000-000000000001", "2026-01-02T03:04:05Z");
    (strategy.prepare_create)(&mut object);
    strategy::after_identity(&group, &kind, &mut object);
    object["metadata"]["resourceVersion"] = "7".into();
    let namespaced = object["metadata"].get("namespace").is_some();
    let mut faults = meta::validate_create(&object, strategy.name, namespaced);
    faults.extend((strategy.validate)(&object));
    (object, faults)
}

/// What the server does on an update.
pub fn update(mut new: Value, old: &Value) -> (Value, Vec<Cause>) {
    let (_, _, strategy) = strategy_of(&new);
    (strategy.default)(&mut new);
    meta::prepare_update(&mut new, old);
    (strategy.prepare_update)(&mut new, old);
    let mut faults = meta::validate_update(&new, old);
    faults.extend((strategy.validate_update)(&new, old));
    (new, faults)
}

/// Sets (or removes) fields.
pub fn change(object: &mut Value, set: &[(&str, &str)]) {
    for (pointer, text) in set {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer starts with a slash");
        let key = key.replace("~1", "/");
        let parent = ensure(object, parent);
        if *text == "-" {
            match parent {
                Value::Object(map) => {
                    map.shift_remove(&key);
                }
                Value::Array(items) => {
                    items.remove(key.parse().expect("an index"));
                }
                _ => {}
            }
            continue;
        }
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text} is no JSON: {error}"));
        match parent {
            Value::Array(items) => match key.parse::<usize>() {
                Ok(index) if index < items.len() => items[index] = value,
                _ => items.push(value),
            },
            other => other[key.as_str()] = value,
        }
    }
}

fn ensure<'a>(object: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(object, |at, key| match at {
        Value::Array(items) => &mut items[key.parse::<usize>().expect("an index")],
        other => {
            if other.get(key).is_none() {
                other[key] = json!({});
            }
            &mut other[key.replace("~1", "/").as_str()]
        }
    })
}

/// A sound manifest of each kind, as small as it can be.
pub fn manifest(name: &str) -> Value {
    let pod_spec = json!({"containers": [{"name": "app", "image": "registry.example/app:1.2"}]});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod_spec});
    let once = json!({"metadata": {}, "spec": {"restartPolicy": "Never", "containers": pod_spec["containers"]}});
    let selector = json!({"matchLabels": {"app": "web"}});
    let meta = |name: &str| json!({"name": name, "namespace": "default"});
    match name {
        "pod" => json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta("web"), "spec": pod_spec}),
        "deployment" => json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("web"),
            "spec": {"selector": selector, "template": template},
        }),
        "replicaset" => json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta("web"),
            "spec": {"selector": selector, "template": template},
        }),
        "statefulset" => json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta("db"),
            "spec": {"serviceName": "db", "selector": selector, "template": template},
        }),
        "daemonset" => json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta("log"),
            "spec": {"selector": selector, "template": template},
        }),
        "controller" => json!({
            "apiVersion": "v1", "kind": "ReplicationController", "metadata": meta("web"),
            "spec": {"selector": {"app": "web"}, "template": template},
        }),
        "job" => json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": meta("pi"), "spec": {"template": once},
        }),
        "cronjob" => json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta("nightly"),
            "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": once}}},
        }),
        "service" => json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta("web"),
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.43.0.9", "ports": [{"port": 80}]},
        }),
        "configmap" => json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("conf"), "data": {"key": "value"},
        }),
        "secret" => json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": meta("token"), "stringData": {"key": "value"},
        }),
        "namespace" => json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}),
        "node" => json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {}}),
        "endpoints" => json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": meta("web"),
            "subsets": [{"addresses": [{"ip": "10.42.0.7"}], "ports": [{"port": 80}]}],
        }),
        "slice" => json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta("web-x"),
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.7"]}], "ports": [{"port": 80}],
        }),
        "csidriver" => json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "a.io"}, "spec": {},
        }),
        "csinode" => json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n"},
            "spec": {"drivers": [{"name": "a.io", "nodeID": "n"}]},
        }),
        "csicapacity" => json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "metadata": meta("room"),
            "storageClassName": "fast", "capacity": "1Gi",
        }),
        "attachment" => json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "a"},
            "spec": {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
        }),
        "quota" => json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta("quota"), "spec": {"hard": {"pods": "10"}},
        }),
        "limits" => json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": meta("limits"),
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m"}}]},
        }),
        "claim" => json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta("data"),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }),
        "volume" => json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv1"},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}},
        }),
        "driver" => json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver",
            "metadata": {"name": "disks.example.com"}, "spec": {},
        }),
        "class" => json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"},
            "provisioner": "example.com/fast",
        }),
        "budget" => json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta("web"),
            "spec": {"minAvailable": 1, "selector": selector},
        }),
        "autoscaler" => json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta("web"),
            "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
        }),
        "ingress" => json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("web"),
            "spec": {"rules": [{"host": "web.example", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]}}]},
        }),
        "policy" => json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta("deny"),
            "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        }),
        "role" => json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta("reader"),
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }),
        "binding" => json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta("readers"),
            "roleRef": {"kind": "Role", "name": "reader"}, "subjects": [{"kind": "User", "name": "ann"}],
        }),
        "lease" => json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta("lock"),
            "spec": {"leaseDurationSeconds": 15},
        }),
        "event" => json!({
            "apiVersion": "v1", "kind": "Event", "metadata": meta("web.1"),
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"},
        }),
        "event1" => json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": meta("web.2"), "type": "Normal",
            "regarding": {"kind": "Pod", "namespace": "default", "name": "web"}, "reason": "Started", "action": "Start",
            "eventTime": "2026-01-02T03:04:05.000000Z", "reportingController": "example.com/agent",
            "reportingInstance": "n1",
        }),
        "priority" => json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000,
        }),
        "runtime" => json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "fast"}, "handler": "fast",
        }),
        "webhooks" => json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "guard"},
            "webhooks": [{
                "name": "guard.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": "https://guard.example.com/"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            }],
        }),
        other => panic!("no manifest {other}"),
    }
}

#[test]
fn every_manifest_is_sound() {
    for name in [
        "pod",
        "deployment",
        "replicaset",
        "statefulset",
        "daemonset",
        "controller",
        "job",
        "cronjob",
        "service",
        "configmap",
        "secret",
        "namespace",
        "node",
        "endpoints",
        "slice",
        "csidriver",
        "csinode",
        "csicapacity",
        "attachment",
        "quota",
        "limits",
        "claim",
        "volume",
        "class",
        "budget",
        "autoscaler",
        "ingress",
        "policy",
        "role",
        "binding",
        "lease",
        "event",
        "event1",
        "priority",
        "runtime",
        "webhooks",
    ] {
        let (object, faults) = create(manifest(name));
        assert!(faults.is_empty(), "{name}: {faults:?}");
        let (_, faults) = update(object.clone(), &object);
        assert!(faults.is_empty(), "{name}, unchanged: {faults:?}");
    }
}
