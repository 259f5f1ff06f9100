//! What objects take from a ResourceQuota, and which quotas are about them. Shared by the API server, which refuses
//! what would exceed a quota, and the controller, which counts anew.
//!
//! The rules are those of upstream's evaluators (`pkg/quota/v1/evaluator/core`).

mod pod;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    quantity::{Format, Quantity},
    strategy::pod::defaults::qos_class,
};
pub use pod::of_containers;

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Kinds that a quota may count without the prefix `count/`.
const PLAIN: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// Adds some amounts to others.
pub fn add(total: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        match total.get_mut(&name) {
            Some(sum) => sum.add(&amount),
            None => drop(total.insert(name, amount)),
        }
    }
}

/// Reads a map of quantities; what is malformed is left out.
pub fn read(amounts: &Value) -> Amounts {
    let all = amounts.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?))).collect()
}

/// Writes amounts as they stand in messages: `cpu=1,memory=64Mi`.
pub fn shown(amounts: &Amounts) -> String {
    let each: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    each.join(",")
}

/// The name under which a quota counts objects of a kind: `count/deployments.apps`.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// What an object takes at `now`, by all the names that a quota may have for it.
pub fn usage(group: &str, plural: &str, object: &Value, now: Timestamp) -> Amounts {
    let mut used = match (group, plural) {
        ("", "pods") => pod::usage(object, now),
        ("", "services") => of_service(object),
        ("", "persistentvolumeclaims") => of_claim(object),
        ("", plain) if PLAIN.contains(&plain) => Amounts::from([(plain.to_owned(), one())]),
        _ => Amounts::new(),
    };
    used.insert(count_name(group, plural), one());
    used
}

/// Whether the quota's scopes include the object. What no scope knows is in quotas without scopes only.
pub fn covers(spec: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let scopes = spec["scopes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let requirements = spec["scopeSelector"]["matchExpressions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let in_scope = |scope: &str, operator: &str, values: &[Value]| match (group, plural) {
        ("", "pods") => pod_in_scope(scope, operator, values, object),
        ("", "persistentvolumeclaims") => {
            let class = object["spec"]["volumeAttributesClassName"].as_str().unwrap_or("");
            scope == "VolumeAttributesClass" && named(class, operator, values)
        }
        _ => false,
    };
    scopes.iter().filter_map(Value::as_str).all(|scope| in_scope(scope, "Exists", &[]))
        && requirements.iter().all(|r| {
            let text = |field: &str| r[field].as_str().unwrap_or("");
            in_scope(text("scopeName"), text("operator"), r["values"].as_array().map(Vec::as_slice).unwrap_or_default())
        })
}

/// Whether a quota is about nothing but some objects of a kind.
pub fn is_scoped(spec: &Value) -> bool {
    let some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    some(&spec["scopes"]) || some(&spec["scopeSelector"]["matchExpressions"])
}

/// What a pod must say where a quota limits it: `cpu for: a,b; memory for: b`. `None`: it says all.
pub fn missing(hard: &Amounts, pod: &Value) -> Option<String> {
    const DEMANDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    if pod["spec"]["resources"].as_object().is_some_and(|own| !own.is_empty()) {
        return None;
    }
    let mut lacking: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for demanded in DEMANDED.into_iter().filter(|name| hard.contains_key(*name)) {
        let (field, name) = match demanded.split_once('.') {
            Some((field, name)) => (field, name),
            None => ("requests", demanded),
        };
        for container in containers(pod) {
            if container["resources"][field][name].is_null() {
                lacking.entry(demanded).or_default().insert(container["name"].as_str().unwrap_or(""));
            }
        }
    }
    let each: Vec<String> = lacking
        .into_iter()
        .map(|(name, of)| format!("{name} for: {}", of.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    (!each.is_empty()).then(|| each.join("; "))
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"].into_iter().flat_map(|f| pod["spec"][f].as_array().into_iter().flatten())
}

fn of_service(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kind = spec["type"].as_str().unwrap_or("ClusterIP");
    let node_ports = match kind {
        "NodePort" => ports.len(),
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => {
            ports.iter().filter(|p| p["nodePort"].as_i64().is_some_and(|n| n != 0)).count()
        }
        "LoadBalancer" => ports.len(),
        _ => 0,
    };
    let number = |n: i64| Quantity::new(n, Format::DecimalSi);
    Amounts::from([
        ("services".to_owned(), one()),
        ("services.nodeports".to_owned(), number(node_ports as i64)),
        ("services.loadbalancers".to_owned(), number((kind == "LoadBalancer").into())),
    ])
}

fn of_claim(claim: &Value) -> Amounts {
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), one())]);
    let beta = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = beta.or(claim["spec"]["storageClassName"].as_str()).filter(|class| !class.is_empty());
    if let Some(class) = class {
        used.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
    let asked = read(&claim["spec"]["resources"]["requests"]).remove("storage");
    let allocated = read(&claim["status"]["allocatedResources"]).remove("storage");
    if let Some(storage) = asked.max(allocated) {
        if let Some(class) = class {
            used.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage.clone());
        }
        used.insert("requests.storage".into(), storage);
    }
    used
}

fn pod_in_scope(scope: &str, operator: &str, values: &[Value], pod: &Value) -> bool {
    let ends = || pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => ends(),
        "NotTerminating" => !ends(),
        "BestEffort" => qos_class(pod) == "BestEffort",
        "NotBestEffort" => qos_class(pod) != "BestEffort",
        "PriorityClass" => named(pod["spec"]["priorityClassName"].as_str().unwrap_or(""), operator, values),
        "CrossNamespacePodAffinity" => reaches_other_namespaces(pod),
        _ => false,
    }
}

fn named(name: &str, operator: &str, values: &[Value]) -> bool {
    match operator {
        "In" => values.iter().any(|value| value == name),
        "NotIn" => !values.iter().any(|value| value == name),
        "DoesNotExist" => name.is_empty(),
        _ => !name.is_empty(),
    }
}

fn reaches_other_namespaces(pod: &Value) -> bool {
    let affinity = &pod["spec"]["affinity"];
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let list = |field: &str| affinity[kind][field].as_array().into_iter().flatten();
        let required = list("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = list("preferredDuringSchedulingIgnoredDuringExecution").map(|w| &w["podAffinityTerm"]);
        required.chain(preferred).any(|term| {
            term["namespaces"].as_array().is_some_and(|n| !n.is_empty()) || term["namespaceSelector"].is_object()
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().expect("a time")
    }

    pub(super) fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": spec})
    }

    pub(super) fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "example.com/gpu": "1"}, "limits": {"memory": "64Mi"}}})
    }

    pub(super) fn text(used: &Amounts, name: &str) -> Option<String> {
        used.get(name).map(ToString::to_string)
    }

    #[test]
    fn services_and_claims_take_what_they_are() {
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}});
        let used = usage("", "services", &service, now());
        assert_eq!(text(&used, "services.nodeports").as_deref(), Some("2"));
        assert_eq!(text(&used, "services.loadbalancers").as_deref(), Some("1"));
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}});
        let used = usage("", "persistentvolumeclaims", &claim, now());
        for (name, amount) in [
            ("requests.storage", "2Gi"),
            ("fast.storageclass.storage.k8s.io/requests.storage", "2Gi"),
            ("fast.storageclass.storage.k8s.io/persistentvolumeclaims", "1"),
            ("persistentvolumeclaims", "1"),
        ] {
            assert_eq!(text(&used, name).as_deref(), Some(amount), "{name}");
        }
    }

    #[test]
    fn scopes_choose_pods() {
        let plain = pod(json!({"containers": [{"name": "a"}]}));
        let big = pod(json!({"containers": [container("1")], "priorityClassName": "high", "activeDeadlineSeconds": 5}));
        for (spec, of_plain, of_big) in [
            (json!({}), true, true),
            (json!({"scopes": ["BestEffort"]}), true, false),
            (json!({"scopes": ["NotBestEffort", "Terminating"]}), false, true),
            (json!({"scopes": ["NotTerminating"]}), true, false),
            (json!({"scopes": ["PriorityClass"]}), false, true),
            (
                json!({"scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
                false,
                true,
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}}),
                true,
                false,
            ),
        ] {
            assert_eq!(covers(&spec, "", "pods", &plain), of_plain, "{spec}");
            assert_eq!(covers(&spec, "", "pods", &big), of_big, "{spec}");
        }
        assert!(!covers(&json!({"scopes": ["BestEffort"]}), "", "services", &json!({})));
    }

    #[test]
    fn affinity_to_other_namespaces_is_a_scope() {
        let term = json!({"topologyKey": "zone", "namespaces": ["other"]});
        let near = pod(json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": term}]}}}));
        let spec = json!({"scopes": ["CrossNamespacePodAffinity"]});
        assert!(covers(&spec, "", "pods", &near));
        assert!(!covers(&spec, "", "pods", &pod(json!({}))));
    }

    #[test]
    fn what_a_container_does_not_say_is_told_by_resource() {
        let hard = read(&json!({"limits.cpu": "1", "memory": "1Gi", "pods": "2"}));
        let silent = pod(json!({"containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"cpu": "1"}}}]}));
        assert_eq!(missing(&hard, &silent).as_deref(), Some("limits.cpu for: b; memory for: a,b"));
        assert_eq!(missing(&read(&json!({"pods": "2"})), &silent), None);
    }
}
