//! A node as the scheduler sees it, with the sum of what is placed there.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::{
    pod::{HostPort, PodInfo},
    resources::Resources,
    selector::Labels,
};

/// What scheduling needs to know of a node.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// `metadata.name`.
    pub name: Arc<str>,
    pub(crate) labels: Labels,
    /// `NoSchedule` and `NoExecute`.
    pub(crate) hard_taints: Vec<Taint>,
    /// `PreferNoSchedule`.
    pub(crate) soft_taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Resources,
    pub(crate) pods_allowed: i64,
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) placed: Placed,
}

/// The sum of the pods on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placed {
    pub pods: i64,
    pub requested: Resources,
    pub scoring_requested: Resources,
    pub ports: Vec<HostPort>,
    pub owners: HashMap<u64, i64>,
}

impl NodeInfo {
    /// Reads a node; nothing is placed on it yet.
    pub fn new(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.clone()).unwrap_or_default();
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        let (soft, rest): (Vec<_>, Vec<_>) = taints.into_iter().partition(|t| t.effect == "PreferNoSchedule");
        Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            hard_taints: rest.into_iter().filter(|t| t.effect == "NoSchedule" || t.effect == "NoExecute").collect(),
            soft_taints: soft,
            unschedulable: spec.unschedulable.unwrap_or(false),
            pods_allowed: allocatable.get("pods").and_then(|q| q.0.parse().ok()).unwrap_or(0),
            allocatable: Resources::from_list(&allocatable),
            zone: labels.get("topology.kubernetes.io/zone").map(|z| z.as_str().into()),
            labels,
            placed: Placed::default(),
        }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

impl Placed {
    pub fn add(&mut self, pod: &PodInfo) {
        self.pods += 1;
        self.requested.add(&pod.requests);
        self.scoring_requested.add(&pod.scoring_requests);
        self.ports.extend(pod.host_ports.iter().cloned());
        if let Some(owner) = pod.owner {
            *self.owners.entry(owner).or_default() += 1;
        }
    }

    pub fn remove(&mut self, pod: &PodInfo) {
        self.pods -= 1;
        self.requested.sub(&pod.requests);
        self.scoring_requested.sub(&pod.scoring_requests);
        for port in &pod.host_ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        if let Some(owner) = pod.owner
            && let Some(count) = self.owners.get_mut(&owner)
        {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
    }
}
