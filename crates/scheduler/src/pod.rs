//! A pod as the scheduler sees it: read once, and nothing kept that no decision needs.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{
        Affinity, Pod, PodAffinityTerm, PodCondition, PodSpec, Toleration, TopologySpreadConstraint,
        WeightedPodAffinityTerm,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    resources::{Resources, pod_requests, pod_requests_for_scoring},
    selector::{Labels, NodeTerm, NodeTerms, Selector},
    volumes::{self, ClaimUse, Disk},
};

/// What scheduling needs to know of a pod.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.generation`, for the condition.
    pub generation: Option<i64>,
    /// `spec.nodeName`.
    pub node_name: Option<Arc<str>>,
    /// `spec.schedulerName`.
    pub scheduler_name: Arc<str>,
    /// `spec.priority`.
    pub priority: i32,
    /// Whether `spec.preemptionPolicy` is `Never`.
    pub never_preempts: bool,
    /// `status.nominatedNodeName`: where room is being made for it.
    pub nominated: Option<Arc<str>>,
    /// `status.startTime`.
    pub started: Option<jiff::Timestamp>,
    /// Whether it was told to make room for another (condition `DisruptionTarget`).
    pub preempted: bool,
    /// Whether `spec.schedulingGates` holds any.
    pub gated: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether its phase is `Succeeded` or `Failed`.
    pub finished: bool,
    /// The `PodScheduled` condition it bears.
    pub scheduled: Option<PodCondition>,
    pub(crate) labels: Labels,
    pub(crate) requests: Resources,
    /// CPU and memory with defaults for containers that ask for nothing.
    pub(crate) scoring_requests: Resources,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) node_selector: Labels,
    pub(crate) node_required: Option<NodeTerms>,
    pub(crate) node_preferred: Vec<(i64, NodeTerm)>,
    pub(crate) affinity: Vec<Term>,
    pub(crate) anti_affinity: Vec<Term>,
    /// With weights; negative ones repel.
    pub(crate) preferred: Vec<(i64, Term)>,
    pub(crate) spread: Vec<Spread>,
    pub(crate) claims: Vec<ClaimUse>,
    /// Disks that it names itself, which not every other pod of a node may have too.
    pub(crate) disks: Vec<Disk>,
    /// Names the controller, so that its pods can be told apart from others.
    pub(crate) owner: Option<u64>,
}

/// A port on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

/// One term of pod affinity or anti-affinity.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub topology_key: String,
    selector: Selector,
    namespaces: Vec<String>,
    namespace_selector: Selector,
}

/// One topology spread constraint.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: i64,
    pub selector: Selector,
    /// `DoNotSchedule`; else `ScheduleAnyway`.
    pub hard: bool,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

impl PodInfo {
    /// Reads a pod.
    pub fn new(pod: &Pod) -> Self {
        let (meta, empty) = (&pod.metadata, PodSpec::default());
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let status = pod.status.as_ref();
        let text = |s: &Option<String>| Arc::from(s.as_deref().unwrap_or_default());
        let labels: Labels = meta.labels.clone().unwrap_or_default();
        let affinity = spec.affinity.clone().unwrap_or_default();
        let phase = status.and_then(|s| s.phase.as_deref());
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let mut info = Self {
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            uid: text(&meta.uid),
            generation: meta.generation,
            node_name: spec.node_name.as_deref().filter(|n| !n.is_empty()).map(Arc::from),
            scheduler_name: text(&spec.scheduler_name),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            nominated: status.and_then(|s| s.nominated_node_name.as_deref()).filter(|n| !n.is_empty()).map(Arc::from),
            started: status.and_then(|s| s.start_time.as_ref()).map(|time| time.0),
            preempted: conditions.iter().any(|c| {
                c.type_ == "DisruptionTarget"
                    && c.status == "True"
                    && c.reason.as_deref() == Some("PreemptionByScheduler")
            }),
            gated: spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()),
            terminating: meta.deletion_timestamp.is_some(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            scheduled: conditions.iter().find(|c| c.type_ == "PodScheduled").cloned(),
            requests: pod_requests(spec, status),
            scoring_requests: pod_requests_for_scoring(spec, status),
            host_ports: host_ports(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            node_required: None,
            node_preferred: Vec::new(),
            affinity: Vec::new(),
            anti_affinity: Vec::new(),
            preferred: Vec::new(),
            spread: Vec::new(),
            claims: volumes::claims_of(meta, spec),
            disks: volumes::disks_of(spec),
            owner: owner(meta),
            labels,
        };
        info.read_affinity(&affinity);
        info.spread = spec.topology_spread_constraints.iter().flatten().map(Self::read_spread).collect();
        info
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether nothing has changed that bears on where the pod can go (its status does not).
    pub(crate) fn asks_the_same(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.labels == other.labels
            && self.tolerations == other.tolerations
            && self.requests == other.requests
    }

    fn read_affinity(&mut self, affinity: &Affinity) {
        if let Some(node) = &affinity.node_affinity {
            self.node_required = node.required_during_scheduling_ignored_during_execution.as_ref().map(NodeTerms::new);
            let preferred = node.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            self.node_preferred = preferred.map(|t| (t.weight.into(), NodeTerm::new(&t.preference))).collect();
        }
        let weighted = |terms: &Option<Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<(i64, Term)> {
            let terms = terms.iter().flatten();
            terms.map(|t| (sign * i64::from(t.weight), self.read_term(&t.pod_affinity_term))).collect()
        };
        let required = |terms: &Option<Vec<PodAffinityTerm>>| -> Vec<Term> {
            terms.iter().flatten().map(|t| self.read_term(t)).collect()
        };
        let (mut to, mut from, mut preferred) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(pods) = &affinity.pod_affinity {
            to = required(&pods.required_during_scheduling_ignored_during_execution);
            preferred.extend(weighted(&pods.preferred_during_scheduling_ignored_during_execution, 1));
        }
        if let Some(pods) = &affinity.pod_anti_affinity {
            from = required(&pods.required_during_scheduling_ignored_during_execution);
            preferred.extend(weighted(&pods.preferred_during_scheduling_ignored_during_execution, -1));
        }
        (self.affinity, self.anti_affinity, self.preferred) = (to, from, preferred);
    }

    fn read_term(&self, term: &PodAffinityTerm) -> Term {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(self.namespace.to_string());
        }
        Term {
            topology_key: term.topology_key.clone(),
            selector: Selector::of_labels(term.label_selector.as_ref()),
            namespaces,
            namespace_selector: Selector::of_labels(term.namespace_selector.as_ref()),
        }
    }

    fn read_spread(constraint: &TopologySpreadConstraint) -> Spread {
        Spread {
            topology_key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            selector: Selector::of_labels(constraint.label_selector.as_ref()),
            hard: constraint.when_unsatisfiable != "ScheduleAnyway",
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

impl Term {
    /// Whether the term means a pod with these labels in this namespace (which has those labels).
    pub fn means(&self, namespace: &str, namespace_labels: Option<&Labels>, labels: &Labels) -> bool {
        self.means_namespace(namespace, namespace_labels) && self.selector.matches(labels)
    }

    /// Whether the term can mean pods of other namespaces than this one.
    pub fn reaches_beyond(&self, namespace: &str) -> bool {
        !(self.namespaces.len() == 1 && self.namespaces[0] == namespace && self.namespace_selector.is_nothing())
    }

    /// Whether the term means the pods of this namespace.
    pub fn means_namespace(&self, namespace: &str, namespace_labels: Option<&Labels>) -> bool {
        self.namespaces.iter().any(|n| n == namespace)
            || self.namespace_selector.is_everything()
            || namespace_labels.is_some_and(|labels| self.namespace_selector.matches(labels))
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    // Sidecars hold theirs for the pod's life; init containers are gone by then.
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let taken = ports.filter(|p| p.host_port.is_some_and(|port| port > 0));
    taken
        .map(|p| HostPort {
            ip: p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into()),
            protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
            port: p.host_port.unwrap_or_default(),
        })
        .collect()
}

fn owner(meta: &ObjectMeta) -> Option<u64> {
    let controller = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))?;
    let mut hasher = DefaultHasher::new();
    controller.uid.hash(&mut hasher);
    Some(hasher.finish())
}

impl HostPort {
    /// Whether two pods with these ports can't share a node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}
