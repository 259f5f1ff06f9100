//! Whether the node can take a pod that was given to it: the kubelet's own look, after the scheduler's (or without
//! one, when a pod names its node). Reasons and messages are upstream's. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};

use super::phase::is_over;
use crate::node::eviction;
use crate::spec::{
    qos::{self, QosClass},
    quantity,
    resource_reference::Allocatable,
    resources::{Side, amount},
};

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `status.reason`, and the reason of the event.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What the node is.
pub struct Offer<'a> {
    /// Its name.
    pub name: &'a str,
    /// What pods may have of it.
    pub allocatable: Allocatable,
    /// How many pods it takes.
    pub pods: i64,
    /// The object, if the pod selects nodes.
    pub node: Option<&'a Node>,
    /// Sysctls that are allowed beside the safe ones.
    pub unsafe_sysctls: &'a [String],
}

/// Sysctls that are the pod's own and safe to set.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Whether the pod says on which nodes it may run.
pub fn selects_node(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_selector.as_ref().is_some_and(|s| !s.is_empty()) || required(spec).is_some()
}

/// Whether a pod that is on the node may have other resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resize {
    /// It may.
    Granted,
    /// Not before other pods take less; why.
    Deferred(String),
    /// The node will never have as much; why.
    Infeasible(String),
}

/// Decides it for the pod as it asks to be; `others` are the pods beside it.
pub fn resize(spec: &PodSpec, others: &[Arc<Pod>], offer: &Offer<'_>) -> Resize {
    let node = offer.allocatable;
    for (resource, capacity) in [("cpu", node.cpu_milli), ("memory", node.memory)] {
        let requested = requested(spec, resource);
        if requested > capacity {
            return Resize::Infeasible(format!(
                "Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}"
            ));
        }
    }
    let live: Vec<&Pod> = others.iter().map(Arc::as_ref).filter(|p| !is_over(p)).collect();
    match resources(spec, &live, offer) {
        Some(refusal) => Resize::Deferred(refusal.message),
        None => Resize::Granted,
    }
}

/// Looks at all of it; `others` are the pods that are on the node already.
pub fn check(pod: &Pod, others: &[Arc<Pod>], offer: &Offer<'_>) -> Option<Refusal> {
    let spec = pod.spec.as_ref()?;
    let live: Vec<&Pod> = others.iter().map(Arc::as_ref).filter(|p| !is_over(p)).collect();
    sysctls(spec, offer.unsafe_sysctls)
        .or_else(|| operating_system(spec))
        .or_else(|| apparmor(spec))
        .or_else(|| resources(spec, &live, offer))
        .or_else(|| node_affinity(spec, offer))
        .or_else(|| node_ports(spec, &live))
}

/// The pods that go so that a critical one fits: as few as do, those of the lowest quality of service first (their
/// places in `others`); `None` if it would not fit without all of them either.
pub fn victims(pod: &Pod, others: &[Arc<Pod>], offer: &Offer<'_>) -> Option<Vec<usize>> {
    let spec = pod.spec.as_ref()?;
    let fits = |gone: &[usize]| {
        let left = others.iter().enumerate().filter(|(i, p)| !gone.contains(i) && !is_over(p));
        resources(spec, &left.map(|(_, p)| p.as_ref()).collect::<Vec<_>>(), offer).is_none()
    };
    let preemptable = |p: &Pod| !eviction::is_critical(p) && !is_over(p);
    let mut gone: Vec<usize> = (0..others.len()).filter(|i| preemptable(&others[*i])).collect();
    if !fits(&gone) {
        return None;
    }
    // Those that matter most are spared first.
    let rank = |i: &usize| {
        let pod = &others[*i];
        let class = match qos::of(pod) {
            QosClass::Guaranteed => 0,
            QosClass::Burstable => 1,
            QosClass::BestEffort => 2,
        };
        (class, std::cmp::Reverse(pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)))
    };
    let mut spared = gone.clone();
    spared.sort_by_key(rank);
    for one in spared {
        let without: Vec<usize> = gone.iter().copied().filter(|i| *i != one).collect();
        if fits(&without) {
            gone = without;
        }
    }
    Some(gone)
}

/// Whether the refusal is for want of resources.
pub fn lacks_resources(refusal: &Refusal) -> bool {
    refusal.reason.starts_with("OutOf")
}

fn predicate(name: &'static str, why: &str) -> Option<Refusal> {
    Some(Refusal { reason: name, message: format!("Predicate {name} failed: {why}") })
}

fn sysctls(spec: &PodSpec, unsafe_ones: &[String]) -> Option<Refusal> {
    let allowed = |name: &str| {
        unsafe_ones.iter().map(|p| p.replace('/', ".")).any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    };
    let forbidden = |why: String| Refusal { reason: "SysctlForbidden", message: format!("forbidden sysctl: {why}") };
    for sysctl in spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
        let name = sysctl.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !allowed(&name) {
            return Some(forbidden(format!("{:?} not allowlisted", sysctl.name)));
        }
        let host = match name.split('.').next() {
            Some("net") if spec.host_network == Some(true) => "net",
            Some("kernel") if spec.host_ipc == Some(true) => "ipc",
            _ => continue,
        };
        return Some(forbidden(format!("{:?} not allowed with host {host} enabled", sysctl.name)));
    }
    None
}

fn operating_system(spec: &PodSpec) -> Option<Refusal> {
    let other = spec.os.as_ref().is_some_and(|os| os.name != "linux");
    other.then(|| Refusal {
        reason: "PodOSNotSupported",
        message: "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
    })
}

/// No AppArmor profile is ever applied: a pod that asks to be confined must not run as if it was.
fn apparmor(spec: &PodSpec) -> Option<Refusal> {
    let pod = spec.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref());
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let of_containers = containers.filter_map(|c| c.security_context.as_ref()?.app_armor_profile.as_ref());
    let confined = pod.into_iter().chain(of_containers).any(|profile| profile.type_ != "Unconfined");
    confined.then(|| Refusal {
        reason: "AppArmor",
        message: "Cannot enforce AppArmor: this node's runtime applies no AppArmor profiles".to_owned(),
    })
}

fn resources(spec: &PodSpec, live: &[&Pod], offer: &Offer<'_>) -> Option<Refusal> {
    let lacks = |resource: &str, requested: i64, used: i64, capacity: i64| {
        (requested > 0 && used + requested > capacity).then(|| Refusal {
            reason: match resource {
                "pods" => "OutOfpods",
                "cpu" => "OutOfcpu",
                "memory" => "OutOfmemory",
                "ephemeral-storage" => "OutOfephemeral-storage",
                "hugepages-2Mi" => "OutOfhugepages-2Mi",
                _ => "OutOfhugepages-1Gi",
            },
            message: format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        })
    };
    let count = i64::try_from(live.len()).unwrap_or(i64::MAX);
    let node = offer.allocatable;
    lacks("pods", 1, count, offer.pods).or_else(|| {
        // No node has huge pages to give (see its registration).
        let capacities = [node.cpu_milli, node.memory, node.ephemeral_storage, 0, 0];
        RESOURCES.into_iter().zip(capacities).find_map(|(resource, capacity)| {
            let wanted = requested(spec, resource);
            if wanted == 0 {
                return None;
            }
            let used = live.iter().filter_map(|p| p.spec.as_ref()).map(|s| requested(s, resource)).sum();
            lacks(resource, wanted, used, capacity)
        })
    })
}

const RESOURCES: [&str; 5] = ["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi"];

/// Whether the pod asks for anything that the node has only so much of, beside its place.
pub fn asks(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| RESOURCES.iter().any(|resource| requested(spec, resource) != 0))
}

/// What a pod asks for: its containers together with its sidecars, or the most that an init container needs beside the
/// sidecars that run by then.
pub fn requested(spec: &PodSpec, resource: &str) -> i64 {
    together(spec, Side::Requests, resource)
}

/// What a pod may take of a resource at most, where all its containers have a limit.
pub fn limited(spec: &PodSpec, resource: &str) -> i64 {
    together(spec, Side::Limits, resource)
}

fn together(spec: &PodSpec, side: Side, resource: &str) -> i64 {
    let read = if resource == "cpu" { quantity::milli } else { quantity::whole };
    let of = |c: &Container| amount(c.resources.as_ref(), side, resource, read).unwrap_or(0);
    let (mut sidecars, mut most) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars += of(container);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars + of(container));
        }
    }
    let apps: i64 = spec.containers.iter().map(of).sum();
    let own = amount(spec.resources.as_ref(), side, resource, read);
    let overhead = spec.overhead.as_ref().and_then(|o| o.get(resource)).and_then(read).unwrap_or(0);
    own.unwrap_or_else(|| most.max(apps + sidecars)) + overhead
}

fn required(spec: &PodSpec) -> Option<&Vec<NodeSelectorTerm>> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
}

fn node_affinity(spec: &PodSpec, offer: &Offer<'_>) -> Option<Refusal> {
    let node = offer.node?;
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let matches = |term: &NodeSelectorTerm| {
        let labelled = term.match_expressions.iter().flatten();
        let fields = term.match_fields.iter().flatten();
        let something = labelled.clone().next().is_some() || fields.clone().next().is_some();
        let name = |r: &NodeSelectorRequirement| (r.key == "metadata.name").then(|| offer.name.to_owned());
        something
            && labelled.into_iter().all(|r| fulfils(labels.get(&r.key).map(String::as_str), r))
            && fields.into_iter().all(|r| fulfils(name(r).as_deref(), r))
    };
    let wanted = required(spec).is_none_or(|terms| terms.iter().any(matches));
    if selected && wanted {
        return None;
    }
    predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
}

fn fulfils(value: Option<&str>, requirement: &NodeSelectorRequirement) -> bool {
    let listed = |v: &str| requirement.values.iter().flatten().any(|w| w == v);
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let bound = number(requirement.values.as_ref().and_then(|v| v.first()).map(String::as_str));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(v, b)| v > b),
        "Lt" => number(value).zip(bound).is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

fn node_ports(spec: &PodSpec, live: &[&Pod]) -> Option<Refusal> {
    let wanted = host_ports(spec);
    if wanted.is_empty() {
        return None;
    }
    let taken: Vec<_> = live.iter().filter_map(|p| p.spec.as_ref()).flat_map(host_ports).collect();
    let all = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    let conflict = wanted.iter().any(|(ip, port, protocol)| {
        taken.iter().any(|(other, p, q)| p == port && q == protocol && (ip == other || all(ip) || all(other)))
    });
    if conflict { predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports") } else { None }
}

fn host_ports(spec: &PodSpec) -> Vec<(&str, i32, &str)> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|n| *n > 0)?;
            Some((p.host_ip.as_deref().unwrap_or(""), port, p.protocol.as_deref().unwrap_or("TCP")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).expect("a pod")
    }

    fn container(requests: serde_json::Value) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": requests}})
    }

    fn verdict(spec: serde_json::Value, others: &[serde_json::Value]) -> Option<(String, String)> {
        let others: Vec<_> = others.iter().map(|s| Arc::new(pod(s.clone()))).collect();
        let node: Node =
            serde_json::from_value(json!({"metadata": {"labels": {"disk": "ssd", "cores": "4"}}})).expect("a node");
        let offer = Offer {
            name: "n",
            allocatable: Allocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30 },
            pods: 3,
            node: Some(&node),
            unsafe_sysctls: &["kernel.shm*".to_owned()],
        };
        check(&pod(spec), &others, &offer).map(|r| (r.reason.to_owned(), r.message))
    }

    #[test]
    fn a_node_takes_what_fits() {
        let one = json!({"containers": [container(json!({"cpu": "1500m"}))]});
        assert_eq!(verdict(one.clone(), &[]), None);
        let (reason, message) = verdict(one.clone(), std::slice::from_ref(&one)).expect("refused");
        assert_eq!(reason, "OutOfcpu");
        assert_eq!(message, "Node didn't have enough resource: cpu, requested: 1500, used: 1500, capacity: 2000");
        let idle = json!({"containers": [container(json!({}))]});
        let full = [idle.clone(), idle.clone(), idle.clone()];
        assert_eq!(verdict(idle.clone(), &full).expect("refused").0, "OutOfpods");
        assert_eq!(
            verdict(json!({"containers": [container(json!({"memory": "2Gi"}))]}), &[]).expect("refused").0,
            "OutOfmemory"
        );
        let huge = json!({"containers": [container(json!({"hugepages-2Mi": "2Mi"}))]});
        let (reason, message) = verdict(huge, &[]).expect("refused");
        assert_eq!(reason, "OutOfhugepages-2Mi");
        assert_eq!(
            message,
            "Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0"
        );
        let init = json!({"initContainers": [container(json!({"cpu": "1"})), container(json!({"cpu": "2500m"}))], "containers": [{"name": "c"}]});
        assert_eq!(verdict(init, &[]).expect("refused").0, "OutOfcpu");
    }

    #[test]
    fn a_resize_waits_for_room_or_is_never_possible() {
        let asks = |cpu: &str| pod(json!({"containers": [container(json!({"cpu": cpu}))]}));
        let offer = Offer {
            name: "n",
            allocatable: Allocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30 },
            pods: 3,
            node: None,
            unsafe_sysctls: &[],
        };
        let other = [Arc::new(asks("1500m"))];
        let verdict = |cpu: &str| resize(asks(cpu).spec.as_ref().expect("a spec"), &other, &offer);
        assert_eq!(verdict("500m"), Resize::Granted);
        let message = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000";
        assert_eq!(verdict("600m"), Resize::Deferred(message.into()));
        let message = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000";
        assert_eq!(verdict("3"), Resize::Infeasible(message.into()));
    }

    #[test]
    fn a_critical_pod_takes_the_place_of_as_few_as_possible() {
        let offer = Offer {
            name: "n",
            allocatable: Allocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30 },
            pods: 10,
            node: None,
            unsafe_sysctls: &[],
        };
        let full = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}, "limits": {"cpu": cpu, "memory": "1Mi"}}});
        let others = [
            Arc::new(pod(json!({"containers": [full("900m")]}))),
            Arc::new(pod(json!({"containers": [container(json!({"cpu": "300m"}))]}))),
            Arc::new(pod(json!({"containers": [container(json!({"cpu": "300m"}))], "priority": 5}))),
            Arc::new(pod(json!({"containers": [container(json!({"cpu": "400m"}))], "priority": 2_000_000_000}))),
            Arc::new(pod(json!({"containers": [{"name": "c"}]}))),
        ];
        let victims =
            |cpu: &str| victims(&pod(json!({"containers": [container(json!({"cpu": cpu}))]})), &others, &offer);
        assert_eq!(victims("400m"), Some(vec![1]), "the one that matters less");
        assert_eq!(victims("700m"), Some(vec![1, 2]));
        assert_eq!(victims("1600m"), Some(vec![0, 1, 2]));
        assert_eq!(victims("1700m"), None, "what is critical stays");
    }

    #[test]
    fn selectors_ports_and_sysctls_have_their_reasons() {
        let with = |more: serde_json::Value| {
            let mut spec = json!({"containers": [{"name": "c"}]});
            spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            spec
        };
        let reason = |more| verdict(with(more), &[]).map(|r| r.0);
        assert_eq!(reason(json!({"nodeSelector": {"disk": "ssd"}})), None);
        let (why, message) = verdict(with(json!({"nodeSelector": {"disk": "hdd"}})), &[]).expect("refused");
        assert_eq!(
            (why.as_str(), message.as_str()),
            ("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
        );
        let affinity = |expression: serde_json::Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}})
        };
        assert_eq!(reason(affinity(json!({"key": "cores", "operator": "Gt", "values": ["3"]}))), None);
        assert_eq!(
            reason(affinity(json!({"key": "cores", "operator": "Lt", "values": ["3"]}))).as_deref(),
            Some("NodeAffinity")
        );
        let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080}]}]});
        assert_eq!(verdict(port.clone(), &[port]).expect("refused").0, "NodePorts");
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        assert_eq!(reason(sysctl("net.ipv4.tcp_syncookies")), None);
        assert_eq!(reason(sysctl("kernel.shmmax")), None, "allowed here");
        let refused = verdict(with(sysctl("kernel.msgmax")), &[]).expect("refused");
        assert_eq!(refused, ("SysctlForbidden".into(), "forbidden sysctl: \"kernel.msgmax\" not allowlisted".into()));
        assert_eq!(reason(json!({"os": {"name": "windows"}})).as_deref(), Some("PodOSNotSupported"));
        let profile = |kind: &str| json!({"securityContext": {"appArmorProfile": {"type": kind}}});
        assert_eq!(reason(profile("RuntimeDefault")).as_deref(), Some("AppArmor"));
        assert_eq!(reason(profile("Unconfined")), None);
        let mut container = json!({"name": "c", "securityContext": profile("Localhost")["securityContext"]});
        container["securityContext"]["appArmorProfile"]["localhostProfile"] = "p".into();
        assert_eq!(verdict(json!({"containers": [container]}), &[]).expect("refused").0, "AppArmor");
    }
}
