//! The cluster as far as scheduling cares, kept true step by step.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;

use crate::{
    node::{NodeInfo, Placed},
    pod::PodInfo,
    selector::Labels,
    volumes::Volumes,
};

/// Nodes and the pods on them. Cheap to change: no update costs more than the pod or node it is about.
#[derive(Clone, Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<Arc<str>, usize>,
    /// Which nodes bear a label with a value.
    by_label: HashMap<String, HashMap<String, HashSet<usize>>>,
    /// By UID.
    pods: HashMap<Arc<str>, (Arc<PodInfo>, Arc<str>)>,
    /// How many of them have a priority.
    priorities: BTreeMap<i32, usize>,
    /// UIDs by namespace.
    by_namespace: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// UIDs by node, also of nodes that are not (yet, or any more) known.
    by_node: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// UIDs of pods with required anti-affinity by the namespace that it reaches, and of those whose reaches
    /// beyond their own.
    repelling: HashMap<Arc<str>, HashSet<Arc<str>>>,
    repelling_beyond: HashSet<Arc<str>>,
    /// UIDs of pods with preferences about other pods.
    preferring: HashSet<Arc<str>>,
    /// Pods of each controller in each zone.
    owners: HashMap<u64, HashMap<Option<Arc<str>>, i64>>,
    namespaces: HashMap<String, Labels>,
    /// How many nodes are in each zone.
    zones: HashMap<Option<Arc<str>>, usize>,
    /// Pods for which room is being made, by the node.
    nominated: HashMap<Arc<str>, Vec<Arc<PodInfo>>>,
    pub(crate) volumes: Volumes,
}

/// What about a node has changed, as far as a waiting pod may care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeChange {
    pub added: bool,
    pub allocatable: bool,
    pub labels: bool,
    pub taints: bool,
}

impl Snapshot {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a node as it is now.
    pub fn set_node(&mut self, node: &Node) {
        self.update_node(NodeInfo::new(node));
    }

    pub(crate) fn update_node(&mut self, mut new: NodeInfo) -> NodeChange {
        let Some(&at) = self.by_name.get(&new.name) else {
            self.add_node(new);
            return NodeChange { added: true, ..NodeChange::default() };
        };
        let old = &self.nodes[at];
        let change = NodeChange {
            added: false,
            allocatable: old.allocatable != new.allocatable || old.pods_allowed != new.pods_allowed,
            labels: old.labels != new.labels,
            taints: old.hard_taints != new.hard_taints || old.unschedulable != new.unschedulable,
        };
        if old.zone != new.zone {
            // Rare, and it moves all the node's pods to another zone's count.
            let name = new.name.clone();
            self.remove_node(&name);
            self.add_node(new);
            return change;
        }
        if change.labels {
            self.index_labels(at, false);
        }
        new.placed = std::mem::take(&mut self.nodes[at].placed);
        self.nodes[at] = new;
        if change.labels {
            self.index_labels(at, true);
        }
        change
    }

    /// Forgets a node; the pods on it are kept for its return until they go themselves.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.remove(name) else { return };
        for uid in self.by_node.get(name).cloned().unwrap_or_default() {
            let pod = self.pods[&uid].0.clone();
            self.count(&pod, at, -1);
        }
        self.index_labels(at, false);
        let zone = self.zones.entry(self.nodes[at].zone.clone()).or_default();
        *zone -= 1;
        if *zone == 0 {
            self.zones.remove(&self.nodes[at].zone);
        }
        let last = self.nodes.len() - 1;
        self.move_node(last, at);
        self.nodes.truncate(last);
    }

    /// Takes in a pod that is on a node, whether it was assumed there or not. A finished one counts no more.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        match &pod.node_name {
            Some(node) if !pod.finished => {
                let node = node.clone();
                self.assume(pod, &node);
            }
            _ => self.remove_pod(&pod.uid),
        }
    }

    /// Counts a pod as placed on a node, before the API server has confirmed it.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        self.forget_nomination(&pod.uid);
        let node = self.by_name.get_key_value(node).map_or_else(|| Arc::from(node), |(name, _)| name.clone());
        let uid = pod.uid.clone();
        self.by_namespace.entry(pod.namespace.clone()).or_default().insert(uid.clone());
        self.by_node.entry(node.clone()).or_default().insert(uid.clone());
        if pod.anti_affinity.iter().any(|t| t.reaches_beyond(&pod.namespace)) {
            self.repelling_beyond.insert(uid.clone());
        } else if !pod.anti_affinity.is_empty() {
            self.repelling.entry(pod.namespace.clone()).or_default().insert(uid.clone());
        }
        if !pod.preferred.is_empty() || !pod.affinity.is_empty() {
            self.preferring.insert(uid.clone());
        }
        if let Some(&at) = self.by_name.get(&node) {
            self.count(&pod, at, 1);
        }
        self.volumes.count(&pod, &node, 1);
        *self.priorities.entry(pod.priority).or_default() += 1;
        self.pods.insert(uid, (pod, node));
    }

    /// Takes a pod off its node: it was deleted, has finished, or was assumed there in vain.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some((pod, node)) = self.pods.remove(uid) else { return };
        self.volumes.count(&pod, &node, -1);
        if let Some(count) = self.priorities.get_mut(&pod.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&pod.priority);
            }
        }
        if let Some(&at) = self.by_name.get(&node) {
            self.count(&pod, at, -1);
        }
        for (map, key) in [
            (&mut self.by_namespace, &pod.namespace),
            (&mut self.repelling, &pod.namespace),
            (&mut self.by_node, &node),
        ] {
            if let Some(uids) = map.get_mut(key) {
                uids.remove(uid);
                if uids.is_empty() {
                    map.remove(key);
                }
            }
        }
        self.repelling_beyond.remove(uid);
        self.preferring.remove(uid);
    }

    /// The least important pod's priority.
    pub(crate) fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    /// Keeps room on a node for a pod that is not there yet, against pods that are less important.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.forget_nomination(&pod.uid);
        self.nominated.entry(node.into()).or_default().push(pod);
    }

    /// The pod has its place, or is gone, or looks elsewhere.
    pub fn forget_nomination(&mut self, uid: &str) {
        if self.nominated.is_empty() {
            return;
        }
        self.nominated.retain(|_, pods| {
            pods.retain(|pod| *pod.uid != *uid);
            !pods.is_empty()
        });
    }

    /// The pods for which room is kept on a node.
    pub(crate) fn nominated_on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        let pods = if self.nominated.is_empty() { None } else { self.nominated.get(node) };
        pods.into_iter().flatten()
    }

    /// The node on which room is kept for a pod.
    pub(crate) fn nomination(&self, uid: &str) -> Option<&Arc<str>> {
        self.nominated.iter().find(|(_, pods)| pods.iter().any(|pod| *pod.uid == *uid)).map(|(node, _)| node)
    }

    /// The pods placed on a node.
    pub(crate) fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.by_node.get(node).into_iter().flatten().filter_map(|uid| Some(&self.pods.get(uid)?.0))
    }

    /// Takes in a namespace's labels, which affinity terms may select by.
    pub fn set_namespace(&mut self, name: &str, labels: Labels) {
        self.namespaces.insert(name.to_owned(), labels);
    }

    /// Forgets a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node that a pod is placed on.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.pods.get(uid).map(|(_, node)| &**node)
    }

    /// Whether a pod is only assumed to be on its node: the API server has not shown it there.
    pub(crate) fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|(pod, _)| pod.node_name.is_none())
    }

    pub(crate) fn node_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }

    pub(crate) fn pod_uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.keys()
    }

    pub(crate) fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub(crate) fn index_of(&self, node: &str) -> Option<usize> {
        self.by_name.get(node).copied()
    }

    pub(crate) fn with_label(&self, key: &str, value: &str) -> Option<&HashSet<usize>> {
        self.by_label.get(key)?.get(value)
    }

    /// The values that nodes have for a label.
    pub(crate) fn values_of<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.by_label.get(key).into_iter().flat_map(|values| values.keys().map(String::as_str))
    }

    /// Pods of a namespace that are on known nodes.
    pub(crate) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = (&PodInfo, &NodeInfo)> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|uid| self.located(uid))
    }

    pub(crate) fn all_pods(&self) -> impl Iterator<Item = (&PodInfo, &NodeInfo)> {
        self.pods.keys().filter_map(|uid| self.located(uid))
    }

    pub(crate) fn occupied_namespaces(&self) -> impl Iterator<Item = &str> {
        self.by_namespace.keys().map(|n| &**n)
    }

    /// Pods whose required anti-affinity may mean pods of this namespace.
    pub(crate) fn repelling(&self, namespace: &str) -> impl Iterator<Item = (&PodInfo, &NodeInfo)> {
        let own = self.repelling.get(namespace).into_iter().flatten();
        own.chain(&self.repelling_beyond).filter_map(|uid| self.located(uid))
    }

    pub(crate) fn preferring(&self) -> impl Iterator<Item = (&PodInfo, &NodeInfo)> {
        self.preferring.iter().filter_map(|uid| self.located(uid))
    }

    pub(crate) fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    pub(crate) fn owner_zones(&self, owner: u64) -> Option<&HashMap<Option<Arc<str>>, i64>> {
        self.owners.get(&owner)
    }

    pub(crate) fn zones(&self) -> usize {
        self.zones.len()
    }

    fn located(&self, uid: &str) -> Option<(&PodInfo, &NodeInfo)> {
        let (pod, node) = self.pods.get(uid)?;
        Some((&**pod, &self.nodes[*self.by_name.get(node)?]))
    }

    /// Puts a node at a place that depends on its name, so that neighbours in the list, of which a sample
    /// is taken, are not neighbours in the cluster.
    fn add_node(&mut self, node: NodeInfo) {
        let name = node.name.clone();
        *self.zones.entry(node.zone.clone()).or_default() += 1;
        let end = self.nodes.len();
        self.nodes.push(NodeInfo { placed: Placed::default(), ..node });
        self.by_name.insert(name.clone(), end);
        self.index_labels(end, true);
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let at = (hasher.finish() % (end as u64 + 1)) as usize;
        self.swap_nodes(at, end);
        for uid in self.by_node.get(&name).cloned().unwrap_or_default() {
            let pod = self.pods[&uid].0.clone();
            let at = self.by_name[&name];
            self.count(&pod, at, 1);
        }
    }

    fn swap_nodes(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        for at in [a, b] {
            self.index_labels(at, false);
        }
        self.nodes.swap(a, b);
        for at in [a, b] {
            self.index_labels(at, true);
            self.by_name.insert(self.nodes[at].name.clone(), at);
        }
    }

    /// Moves the last node into a place whose own node is gone from all indexes.
    fn move_node(&mut self, last: usize, to: usize) {
        if last == to {
            return;
        }
        self.index_labels(last, false);
        self.nodes.swap(last, to);
        self.index_labels(to, true);
        self.by_name.insert(self.nodes[to].name.clone(), to);
    }

    fn index_labels(&mut self, at: usize, add: bool) {
        for (key, value) in &self.nodes[at].labels {
            if add {
                self.by_label.entry(key.clone()).or_default().entry(value.clone()).or_default().insert(at);
            } else if let Some(values) = self.by_label.get_mut(key)
                && let Some(nodes) = values.get_mut(value)
            {
                nodes.remove(&at);
                if nodes.is_empty() {
                    values.remove(value);
                }
            }
        }
    }

    fn count(&mut self, pod: &PodInfo, at: usize, by: i64) {
        let node = &mut self.nodes[at];
        if by > 0 {
            node.placed.add(pod);
        } else {
            node.placed.remove(pod);
        }
        if let Some(owner) = pod.owner {
            let zones = self.owners.entry(owner).or_default();
            let pods = zones.entry(node.zone.clone()).or_default();
            *pods += by;
            if *pods == 0 {
                zones.remove(&node.zone);
                if zones.is_empty() {
                    self.owners.remove(&owner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "name": name}},
            "status": {"allocatable": {"cpu": "4", "pods": "10"}}
        }))
        .expect("a node")
    }

    fn pod(uid: &str, node: &str) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(
            &serde_json::from_value(serde_json::json!({
                "metadata": {"name": uid, "namespace": "a", "uid": uid,
                    "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "o", "controller": true}]},
                "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 1}],
                    "resources": {"requests": {"cpu": "1", "x.io/y": "2"}}}]}
            }))
            .expect("a pod"),
        ))
    }

    /// Everything that is derived, worked out afresh.
    fn check(snapshot: &Snapshot) {
        for (name, &at) in &snapshot.by_name {
            let node = &snapshot.nodes[at];
            assert_eq!(node.name, *name);
            assert!(snapshot.with_label("name", name).is_some_and(|s| s.len() == 1 && s.contains(&at)), "{name}");
            let on_it: Vec<_> = snapshot.pods.values().filter(|(_, n)| n == name).collect();
            let mut want = Placed::default();
            for (pod, _) in &on_it {
                want.add(pod);
            }
            assert_eq!(node.placed.pods, want.pods, "{name}");
            assert_eq!(node.placed.requested.milli_cpu, want.requested.milli_cpu);
            assert_eq!(node.placed.ports.len(), want.ports.len());
            assert_eq!(node.placed.owners, want.owners);
        }
        assert_eq!(snapshot.nodes.len(), snapshot.by_name.len());
        let counted: i64 = snapshot.owners.values().flat_map(HashMap::values).sum();
        assert_eq!(counted, snapshot.all_pods().count() as i64);
        assert_eq!(snapshot.zones.values().sum::<usize>(), snapshot.nodes.len());
    }

    #[test]
    fn whatever_comes_and_goes_the_sums_stay_right() {
        let mut snapshot = Snapshot::new();
        let mut state = 7u64;
        for step in 0..3000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (a, b) = ((state >> 33) % 12, (state >> 45) % 30);
            let (name, uid) = (format!("n{a}"), format!("p{b}"));
            match (state >> 55) % 6 {
                0 => snapshot.set_node(&node(&name, "z1")),
                1 => snapshot.set_node(&node(&name, ["z1", "z2"][(b % 2) as usize])),
                2 if step % 3 == 0 => snapshot.remove_node(&name),
                3 => snapshot.remove_pod(&uid),
                _ => snapshot.set_pod(pod(&uid, &name)),
            }
            check(&snapshot);
        }
        assert!(!snapshot.is_empty() && !snapshot.pods.is_empty());
    }

    #[test]
    fn a_pod_that_arrives_before_its_node_counts_once_the_node_is_there() {
        let mut snapshot = Snapshot::new();
        snapshot.set_pod(pod("p", "late"));
        snapshot.set_node(&node("late", "z"));
        assert_eq!(snapshot.nodes[0].placed.pods, 1);
        check(&snapshot);
    }

    #[test]
    fn an_update_says_what_has_changed() {
        let mut snapshot = Snapshot::new();
        assert!(snapshot.update_node(NodeInfo::new(&node("n", "z"))).added);
        let mut changed = node("n", "z");
        assert_eq!(snapshot.update_node(NodeInfo::new(&changed)), NodeChange::default());
        changed.spec.get_or_insert_default().unschedulable = Some(true);
        let change = snapshot.update_node(NodeInfo::new(&changed));
        assert_eq!(change, NodeChange { taints: true, ..NodeChange::default() });
    }
}
