//! What objects take from a quota. Pure.

use std::collections::BTreeMap;

use api::quantity::{Format, Quantity};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, PersistentVolumeClaim, Pod, PodSpec, ResourceQuotaSpec, ScopedResourceSelectorRequirement, Service,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};

use crate::pods;

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Adds some amounts to others.
pub fn add(total: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        match total.get_mut(&name) {
            Some(sum) => sum.add(&amount),
            None => drop(total.insert(name, amount)),
        }
    }
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

fn read(amounts: &Option<BTreeMap<String, Text>>) -> Amounts {
    let all = amounts.iter().flatten();
    all.filter_map(|(name, text)| Some((name.clone(), text.0.parse().ok()?))).collect()
}

fn most(a: &mut Amounts, b: Amounts) {
    for (name, amount) in b {
        if a.get(&name).is_none_or(|have| *have < amount) {
            a.insert(name, amount);
        }
    }
}

/// What a pod asks for: its containers together, or the largest moment of its start, and its overhead.
fn asked(spec: &PodSpec, of: fn(&Container) -> Amounts) -> Amounts {
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut now = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, now);
            most(&mut peak, sidecars.clone());
        } else {
            add(&mut now, sidecars.clone());
            most(&mut peak, now);
        }
    }
    let mut total = sidecars;
    spec.containers.iter().for_each(|c| add(&mut total, of(c)));
    most(&mut total, peak);
    if let Some(overhead) = &spec.overhead {
        // Only what is asked for anyway grows.
        let mut overhead = read(&Some(overhead.clone()));
        overhead.retain(|name, _| total.contains_key(name));
        add(&mut total, overhead);
    }
    total
}

fn requests(container: &Container) -> Amounts {
    read(&container.resources.as_ref().and_then(|r| r.requests.clone()))
}

fn limits(container: &Container) -> Amounts {
    read(&container.resources.as_ref().and_then(|r| r.limits.clone()))
}

/// What a pod takes. One that has ended, or whose time to end is over, takes only its place among the objects.
pub fn of_pod(pod: &Pod, now: Timestamp) -> Amounts {
    let mut used = Amounts::from([("count/pods".to_owned(), one())]);
    let overdue = pod.metadata.deletion_timestamp.as_ref().is_some_and(|t| t.0 < now);
    let Some(spec) = pod.spec.as_ref().filter(|_| !pods::is_terminal(pod) && !overdue) else { return used };
    used.insert("pods".into(), one());
    for (name, amount) in asked(spec, requests) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            used.insert(name.clone(), amount.clone());
        }
        used.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in asked(spec, limits) {
        used.insert(format!("limits.{name}"), amount);
    }
    used
}

/// What a Service takes.
pub fn of_service(service: &Service) -> Amounts {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let node_ports = match kind {
        "NodePort" => ports.len(),
        "LoadBalancer" => ports.iter().filter(|p| p.node_port.is_some_and(|n| n != 0)).count(),
        _ => 0,
    };
    let mut used = Amounts::from([("services".to_owned(), one()), ("count/services".to_owned(), one())]);
    used.insert("services.nodeports".into(), Quantity::new(node_ports as i64, Format::DecimalSi));
    used.insert("services.loadbalancers".into(), Quantity::new((kind == "LoadBalancer").into(), Format::DecimalSi));
    used
}

/// What a claim takes.
pub fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let spec = claim.spec.clone().unwrap_or_default();
    let storage = read(&spec.resources.and_then(|r| r.requests)).remove("storage");
    let mut used = Amounts::from([
        ("persistentvolumeclaims".to_owned(), one()),
        ("count/persistentvolumeclaims".to_owned(), one()),
    ]);
    let class = spec.storage_class_name.filter(|c| !c.is_empty());
    if let Some(class) = &class {
        used.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
    if let Some(storage) = storage {
        if let Some(class) = class {
            used.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage.clone());
        }
        used.insert("requests.storage".into(), storage);
    }
    used
}

/// Whether a quota is about nothing but some pods.
pub fn is_scoped(spec: &ResourceQuotaSpec) -> bool {
    spec.scopes.as_ref().is_some_and(|s| !s.is_empty()) || requirements(spec).next().is_some()
}

fn requirements(spec: &ResourceQuotaSpec) -> impl Iterator<Item = &ScopedResourceSelectorRequirement> {
    spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten())
}

/// Whether the pod is one that the quota is about.
pub fn covers(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    spec.scopes.iter().flatten().all(|scope| in_scope(scope, "Exists", &[], pod))
        && requirements(spec)
            .all(|r| in_scope(&r.scope_name, &r.operator, r.values.as_deref().unwrap_or_default(), pod))
}

fn in_scope(scope: &str, operator: &str, values: &[String], pod: &Pod) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    let ends = spec.active_deadline_seconds.is_some();
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => is_best_effort(&spec),
        "NotBestEffort" => !is_best_effort(&spec),
        "PriorityClass" => {
            let class = spec.priority_class_name.unwrap_or_default();
            match operator {
                "In" => values.contains(&class),
                "NotIn" => !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => reaches_other_namespaces(&spec),
        _ => false,
    }
}

fn is_best_effort(spec: &PodSpec) -> bool {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let counts = |amounts: Amounts| amounts.iter().any(|(n, q)| matches!(n.as_str(), "cpu" | "memory") && !q.is_zero());
    !all.into_iter().any(|c| counts(requests(c)) || counts(limits(c)))
}

fn reaches_other_namespaces(spec: &PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else { return false };
    let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required = near
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()))
        .flatten();
    let preferred = near
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()))
        .flatten()
        .map(|weighted| &weighted.pod_affinity_term);
    required
        .chain(preferred)
        .any(|t| t.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || t.namespace_selector.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "example.com/gpu": "1"}, "limits": {"memory": "64Mi"}}})
    }

    fn text(used: &Amounts, name: &str) -> Option<String> {
        used.get(name).map(ToString::to_string)
    }

    #[test]
    fn a_pod_takes_what_its_containers_ask_for() {
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let whole =
            pod(json!({"containers": [container("500m"), container("1")], "initContainers": [sidecar, container("2")],
            "overhead": {"cpu": "10m"}}));
        let used = of_pod(&whole, Timestamp::UNIX_EPOCH);
        assert_eq!(text(&used, "cpu").as_deref(), Some("2110m"), "the start needs more than the run");
        assert_eq!(text(&used, "requests.cpu").as_deref(), Some("2110m"));
        assert_eq!(text(&used, "requests.example.com/gpu").as_deref(), Some("3"));
        assert_eq!(text(&used, "limits.memory").as_deref(), Some("192Mi"));
        assert_eq!(text(&used, "pods").as_deref(), Some("1"));
        let mut ended = whole;
        ended.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        let used = of_pod(&ended, Timestamp::UNIX_EPOCH);
        assert_eq!(used.keys().collect::<Vec<_>>(), ["count/pods"]);
    }

    #[test]
    fn services_and_claims_take_by_their_kind() {
        let service: Service =
            serde_json::from_value(json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}})).unwrap();
        let used = of_service(&service);
        assert_eq!(
            (text(&used, "services.nodeports").as_deref(), text(&used, "services.loadbalancers").as_deref()),
            (Some("2"), Some("0"))
        );
        let claim: PersistentVolumeClaim = serde_json::from_value(
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}}),
        )
        .unwrap();
        let used = of_claim(&claim);
        assert_eq!(text(&used, "requests.storage").as_deref(), Some("2Gi"));
        assert_eq!(text(&used, "fast.storageclass.storage.k8s.io/persistentvolumeclaims").as_deref(), Some("1"));
    }

    #[test]
    fn scopes_choose_pods() {
        let plain = json!({"containers": [{"name": "c"}]});
        let ending = json!({"containers": [container("1")], "activeDeadlineSeconds": 5, "priorityClassName": "high"});
        let class = |operator: &str, values: &[&str]| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
        for (quota, in_plain, in_ending) in [
            (json!({"scopes": ["Terminating"]}), false, true),
            (json!({"scopes": ["NotTerminating", "BestEffort"]}), true, false),
            (json!({"scopes": ["NotBestEffort"]}), false, true),
            (class("In", &["high"]), false, true),
            (class("NotIn", &["high"]), true, false),
            (class("Exists", &[]), false, true),
            (json!({}), true, true),
        ] {
            let spec: ResourceQuotaSpec = serde_json::from_value(quota.clone()).unwrap();
            assert_eq!(
                (covers(&spec, &pod(plain.clone())), covers(&spec, &pod(ending.clone()))),
                (in_plain, in_ending),
                "{quota}"
            );
        }
    }
}
