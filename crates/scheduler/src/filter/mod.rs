//! Which nodes a pod can go to. The filters run in the order of upstream's default profile, and the first
//! that refuses a node speaks for it.

pub(crate) mod fit;
mod inter_pod;
mod spread;
mod taints;

use self::{inter_pod::InterPod, spread::HardSpread};
use std::borrow::Cow;

use crate::{
    node::{NodeInfo, Placed},
    pod::PodInfo,
    selector::Labels,
    snapshot::Snapshot,
    volumes::{Demand, Obstacle},
};

pub(crate) use taints::tolerates;

/// Why a node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    Unschedulable,
    NodeName,
    Taint,
    NodeAffinity,
    Ports,
    /// One or more resources; [`fit::lacking`] says which.
    Fit,
    Volumes(Obstacle),
    SpreadLabel,
    Spread,
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
}

/// A pod made ready to be compared with many nodes.
pub(crate) struct Filters<'a> {
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    tolerates_unschedulable: bool,
    volumes: Result<Option<Demand<'a>>, String>,
    spread: Option<HardSpread<'a>>,
    inter_pod: Option<InterPod<'a>>,
}

impl<'a> Filters<'a> {
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Self {
        Self {
            pod,
            snapshot,
            tolerates_unschedulable: tolerates(&pod.tolerations, "node.kubernetes.io/unschedulable", "", "NoSchedule"),
            volumes: snapshot.volumes.demand(pod),
            spread: HardSpread::new(pod, snapshot),
            inter_pod: InterPod::new(pod, snapshot),
        }
    }

    /// Why it can go nowhere, whatever the nodes are like.
    pub fn nowhere(&self) -> Option<&str> {
        self.volumes.as_ref().err().map(String::as_str)
    }

    /// `None` if the pod can go there.
    pub fn refusal(&self, node: &NodeInfo) -> Option<Refusal> {
        let pod = self.pod;
        if node.unschedulable && !self.tolerates_unschedulable {
            return Some(Refusal::Unschedulable);
        }
        if pod.node_name.as_ref().is_some_and(|name| *name != node.name) {
            return Some(Refusal::NodeName);
        }
        if !node.hard_taints.is_empty() && !taints::all_tolerated(&node.hard_taints, &pod.tolerations) {
            return Some(Refusal::Taint);
        }
        if !node_affinity_holds(pod, node) {
            return Some(Refusal::NodeAffinity);
        }
        let placed = self.placed(node);
        if pod.host_ports.iter().any(|port| placed.ports.iter().any(|taken| taken.conflicts(port))) {
            return Some(Refusal::Ports);
        }
        if !fit::fits(pod, node, &placed) {
            return Some(Refusal::Fit);
        }
        if !pod.disks.is_empty() && self.has_its_disk(node) {
            return Some(Refusal::Volumes(Obstacle::Disk));
        }
        if let Ok(Some(volumes)) = &self.volumes
            && let Some(obstacle) = volumes.obstacle(node)
        {
            return Some(Refusal::Volumes(obstacle));
        }
        let spread = self.spread.as_ref().and_then(|s| s.refusal(node));
        spread.or_else(|| self.inter_pod.as_ref()?.refusal(node))
    }

    fn has_its_disk(&self, node: &NodeInfo) -> bool {
        let taken = |disk| self.pod.disks.iter().any(|own: &crate::volumes::Disk| own.conflicts(disk));
        self.snapshot.pods_on(&node.name).any(|other| other.disks.iter().any(taken))
    }

    /// What the node lacks when it is refused for [`Refusal::Fit`]; see [`fit::words`].
    pub fn lacking(&self, node: &NodeInfo) -> u64 {
        fit::lacking(self.pod, node, &self.placed(node))
    }

    /// What is on the node, with the pods for which room is being made there and that are no less important.
    fn placed<'n>(&self, node: &'n NodeInfo) -> Cow<'n, Placed> {
        let awaited = self.snapshot.nominated_on(&node.name);
        let mut awaited =
            awaited.filter(|other| other.uid != self.pod.uid && other.priority >= self.pod.priority).peekable();
        if awaited.peek().is_none() {
            return Cow::Borrowed(&node.placed);
        }
        let mut placed = node.placed.clone();
        awaited.for_each(|other| placed.add(other));
        Cow::Owned(placed)
    }
}

/// Node selector and required node affinity.
pub(crate) fn node_affinity_holds(pod: &PodInfo, node: &NodeInfo) -> bool {
    let has = |(key, value): (&String, &String)| node.label(key) == Some(value);
    (pod.node_selector.is_empty() || pod.node_selector.iter().all(has))
        && pod.node_required.as_ref().is_none_or(|terms| terms.matches(&node.name, &node.labels))
}

impl Refusal {
    /// Whether evicting pods could not help.
    pub fn is_unresolvable(self, pod: &PodInfo, node: &NodeInfo) -> bool {
        match self {
            Self::Unschedulable | Self::NodeName | Self::Taint | Self::NodeAffinity => true,
            Self::SpreadLabel | Self::Affinity => true,
            Self::Fit => fit::never_fits(pod, node),
            Self::Volumes(obstacle) => !matches!(obstacle, Obstacle::Disk | Obstacle::InUse | Obstacle::TooMany),
            Self::Ports | Self::Spread | Self::AntiAffinity | Self::ExistingAntiAffinity => false,
        }
    }

    /// Upstream's words; those of `Fit` depend on the node.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unschedulable => "node(s) were unschedulable",
            Self::NodeName => "node(s) didn't match the requested node name",
            Self::Taint => "node(s) had untolerated taint(s)",
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::Ports => "node(s) didn't have free ports for the requested pod ports",
            Self::Fit => "Insufficient resources",
            Self::Volumes(Obstacle::Disk) => "node(s) had no available disk",
            Self::Volumes(Obstacle::InUse) => {
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
            }
            Self::Volumes(Obstacle::TooMany) => "node(s) exceed max volume count",
            Self::Volumes(Obstacle::NoVolume) => {
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
            }
            Self::Volumes(Obstacle::NodeConflict) => "node(s) didn't match PersistentVolume's node affinity",
            Self::Volumes(Obstacle::NothingToBind) => "node(s) didn't find available persistent volumes to bind",
            Self::Volumes(Obstacle::Zone) => "node(s) had no available volume zone",
            Self::Volumes(Obstacle::NoSpace) => "node(s) did not have enough free storage",
            Self::SpreadLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
            Self::Spread => "node(s) didn't match pod topology spread constraints",
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
        }
    }
}

/// Labels of a pod's namespace, as affinity terms see them.
fn labels_of<'a>(snapshot: &'a Snapshot, namespace: &str) -> Option<&'a Labels> {
    snapshot.namespace_labels(namespace)
}
