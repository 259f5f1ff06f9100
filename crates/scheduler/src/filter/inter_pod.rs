//! Required affinity and anti-affinity between pods.

use std::collections::{HashMap, HashSet};

use super::{Refusal, labels_of};
use crate::{node::NodeInfo, pod::PodInfo, snapshot::Snapshot};

/// A topology key and one of its values.
type Domain<'a> = (&'a str, &'a str);

pub(super) struct InterPod<'a> {
    pod: &'a PodInfo,
    /// Where pods are that all affinity terms mean.
    near: HashSet<Domain<'a>>,
    /// Whether the pod itself is one of those: then the first of its kind may go anywhere.
    near_itself: bool,
    /// Where pods are that an anti-affinity term means.
    far: HashSet<Domain<'a>>,
    /// Where pods are whose own anti-affinity means this one: values by topology key.
    repelled: HashMap<&'a str, HashSet<&'a str>>,
}

impl<'a> InterPod<'a> {
    /// `None` if no such rule is in play.
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Self> {
        let namespace = labels_of(snapshot, &pod.namespace);
        let mut repelled: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (other, node) in snapshot.repelling(&pod.namespace) {
            for term in other.anti_affinity.iter().filter(|t| t.means(&pod.namespace, namespace, &pod.labels)) {
                if let Some(value) = node.label(&term.topology_key) {
                    repelled.entry(&term.topology_key).or_default().insert(value);
                }
            }
        }
        if repelled.is_empty() && pod.affinity.is_empty() && pod.anti_affinity.is_empty() {
            return None;
        }
        let mut this = Self { pod, near: HashSet::new(), near_itself: false, far: HashSet::new(), repelled };
        this.near_itself = pod.affinity.iter().all(|t| t.means(&pod.namespace, namespace, &pod.labels));
        if !pod.affinity.is_empty() || !pod.anti_affinity.is_empty() {
            for name in snapshot.occupied_namespaces() {
                this.look_at_namespace(name, snapshot);
            }
        }
        Some(this)
    }

    fn look_at_namespace(&mut self, name: &str, snapshot: &'a Snapshot) {
        let (pod, labels) = (self.pod, labels_of(snapshot, name));
        let near = !pod.affinity.is_empty() && pod.affinity.iter().all(|t| t.means_namespace(name, labels));
        let far = pod.anti_affinity.iter().any(|t| t.means_namespace(name, labels));
        if !near && !far {
            return;
        }
        for (other, node) in snapshot.pods_in(name) {
            if near && pod.affinity.iter().all(|t| t.means(name, labels, &other.labels)) {
                let keys = pod.affinity.iter().map(|t| t.topology_key.as_str());
                self.near.extend(keys.filter_map(|key| Some((key, node.label(key)?))));
            }
            let terms = pod.anti_affinity.iter().filter(|t| far && t.means(name, labels, &other.labels));
            self.far.extend(terms.filter_map(|t| Some((t.topology_key.as_str(), node.label(&t.topology_key)?))));
        }
    }

    pub fn refusal(&self, node: &NodeInfo) -> Option<Refusal> {
        let first_of_its_kind = self.near.is_empty() && self.near_itself;
        for term in &self.pod.affinity {
            let Some(value) = node.label(&term.topology_key) else { return Some(Refusal::Affinity) };
            if !first_of_its_kind && !self.near.contains(&(term.topology_key.as_str(), value)) {
                return Some(Refusal::Affinity);
            }
        }
        let there = |key: &str, domains: &HashSet<Domain<'_>>| {
            node.label(key).is_some_and(|value| domains.contains(&(key, value)))
        };
        if self.pod.anti_affinity.iter().any(|t| there(&t.topology_key, &self.far)) {
            return Some(Refusal::AntiAffinity);
        }
        if self.repelled.iter().any(|(key, values)| node.label(key).is_some_and(|value| values.contains(value))) {
            return Some(Refusal::ExistingAntiAffinity);
        }
        None
    }
}
