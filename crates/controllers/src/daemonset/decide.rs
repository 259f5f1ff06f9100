//! Which daemon pods to make and which to delete: one a node, and during an update some fewer or some more. Pure
//! (upstream's `podsShouldBeOnNode` and `rollingUpdate`).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet},
    core::v1::{Node, Pod},
};
use kube::ResourceExt;

use super::pod::{Fit, HASH, fit, target};
use crate::{percent, pods};

/// A set, its pods and all nodes at a moment.
pub struct View<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    pub pods: &'a [Arc<Pod>],
    /// Of the present template.
    pub hash: &'a str,
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Decision {
    /// Nodes that are to get a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Those of them that ended by themselves.
    pub ended: Vec<Arc<Pod>>,
}

impl Decision {
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty() && self.ended.is_empty()
    }
}

impl View<'_> {
    fn by_node(&self) -> BTreeMap<&str, Vec<&Arc<Pod>>> {
        let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in self.pods {
            if let Some(node) = target(pod) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        for pods in by_node.values_mut() {
            pods.sort_by_key(|p| (p.creation_timestamp(), p.name_any()));
        }
        by_node
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.labels().get(HASH).is_some_and(|h| h == self.hash)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready_seconds(), self.now)
    }

    /// Pods above and below one a node during an update.
    fn bounds(&self, wanted: i32) -> (i32, i32) {
        let strategy = self.set.spec.as_ref().and_then(|s| s.update_strategy.clone()).unwrap_or_default();
        let RollingUpdateDaemonSet { max_surge, max_unavailable } = strategy.rolling_update.unwrap_or_default();
        let surge = max_surge.map_or(0, |m| percent::resolve(&m, wanted, true));
        let unavailable = max_unavailable.map_or(1, |m| percent::resolve(&m, wanted, true));
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    fn wanted(&self) -> i32 {
        self.nodes.iter().filter(|n| fit(self.set, n) == Fit::Wanted).count() as i32
    }

    /// When time alone makes a pod available.
    pub fn look_again(&self) -> Option<Duration> {
        pods::until_available(self.pods, self.min_ready_seconds(), self.now)
    }
}

/// One pod on each node that wants one, none elsewhere.
pub fn place(view: &View) -> Decision {
    let mut decision = Decision::default();
    let mut by_node = view.by_node();
    let surges = view.bounds(view.wanted()).0 > 0;
    for node in view.nodes {
        let name = node.name_any();
        let pods = by_node.remove(name.as_str()).unwrap_or_default();
        let alive = || pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        match fit(view.set, node) {
            Fit::Wanted if pods.is_empty() => decision.create.push(name),
            Fit::Unfit => decision.delete.extend(alive().map(|p| (*p).clone())),
            Fit::Wanted | Fit::Tolerated => {
                let (ended, running): (Vec<_>, Vec<_>) = alive().copied().partition(|p| pods::is_terminal(p));
                decision.ended.extend(ended.into_iter().cloned());
                decision.delete.extend(twins(view, &running, surges).into_iter().cloned());
            }
        }
    }
    // Those for nodes that are gone, and that no node agent will ever see.
    let lost = by_node
        .into_values()
        .flatten()
        .filter(|p| p.metadata.deletion_timestamp.is_none() && p.spec.as_ref().is_none_or(|s| s.node_name.is_none()));
    decision.delete.extend(lost.cloned());
    decision
}

/// The pods that are one too many on a node (`running` from the oldest).
fn twins<'a>(view: &View, running: &[&'a Arc<Pod>], surges: bool) -> Vec<&'a Arc<Pod>> {
    if running.len() <= 1 {
        return Vec::new();
    }
    if !surges {
        return running[1..].to_vec();
    }
    // An old pod that serves and a new one that does not yet may be side by side.
    let old = running.iter().find(|p| !view.is_updated(p));
    let new = running.iter().find(|p| view.is_updated(p));
    let keep: HashSet<Option<String>> = match (old, new) {
        (Some(old), Some(new)) if view.is_available(new) || !view.is_available(old) => HashSet::from([new.uid()]),
        (Some(old), Some(new)) => HashSet::from([old.uid(), new.uid()]),
        (one, other) => one.or(other).map(|p| p.uid()).into_iter().collect(),
    };
    running.iter().filter(|p| !keep.contains(&p.uid())).copied().collect()
}

/// What each node has during an update.
enum Stage<'a> {
    /// The old pod alone.
    Old(&'a Arc<Pod>),
    /// The new one alone.
    New(&'a Arc<Pod>),
    Both(&'a Arc<Pod>, &'a Arc<Pod>),
    None,
    /// More than that: to be cleaned up first.
    Unclear,
}

/// The next step of an update.
pub fn roll(view: &View) -> Decision {
    let (surge, unavailable) = view.bounds(view.wanted());
    let stages: Vec<(String, Stage)> = view
        .nodes
        .iter()
        .filter(|n| fit(view.set, n) != Fit::Unfit)
        .map(|n| n.name_any())
        .map(|name| {
            let pods = view.by_node().remove(name.as_str()).unwrap_or_default();
            let alive = pods.into_iter().filter(|p| p.metadata.deletion_timestamp.is_none());
            let (new, old): (Vec<_>, Vec<_>) = alive.partition(|p| view.is_updated(p));
            let stage = match (old.as_slice(), new.as_slice()) {
                ([], []) => Stage::None,
                ([old], []) => Stage::Old(old),
                ([], [new]) => Stage::New(new),
                ([old], [new]) => Stage::Both(old, new),
                _ => Stage::Unclear,
            };
            (name, stage)
        })
        .collect();
    if surge == 0 { roll_down_first(view, &stages, unavailable) } else { roll_up_first(view, &stages, surge) }
}

fn roll_down_first(view: &View, stages: &[(String, Stage)], unavailable: i32) -> Decision {
    let (mut missing, mut free, mut candidates) = (0, Vec::new(), Vec::new());
    for (_, stage) in stages {
        match stage {
            Stage::New(new) => missing += i32::from(!view.is_available(new)),
            Stage::Old(old) if !view.is_available(old) => {
                missing += 1;
                free.push((*old).clone());
            }
            Stage::Old(old) => candidates.push((*old).clone()),
            Stage::None | Stage::Both(..) | Stage::Unclear => missing += 1,
        }
    }
    candidates.truncate(usize::try_from(unavailable - missing).unwrap_or(0));
    free.extend(candidates);
    Decision { delete: free, ..Decision::default() }
}

fn roll_up_first(view: &View, stages: &[(String, Stage)], surge: i32) -> Decision {
    let mut decision = Decision::default();
    let (mut surging, mut candidates) = (0, Vec::new());
    for (node, stage) in stages {
        match stage {
            Stage::None | Stage::New(_) => {}
            Stage::Old(old) if !view.is_available(old) => decision.create.push(node.clone()),
            Stage::Old(_) => candidates.push(node.clone()),
            Stage::Both(_, new) if !view.is_available(new) => surging += 1,
            Stage::Both(old, _) => decision.delete.push((*old).clone()),
            Stage::Unclear => surging += 1,
        }
    }
    candidates.truncate(usize::try_from(surge - surging).unwrap_or(0));
    decision.create.extend(candidates);
    decision
}

/// The status that the pods and nodes call for.
pub fn status(view: &View, collisions: Option<i32>) -> DaemonSetStatus {
    let mut status = DaemonSetStatus {
        observed_generation: view.set.metadata.generation,
        collision_count: collisions,
        conditions: view.set.status.as_ref().and_then(|s| s.conditions.clone()),
        ..DaemonSetStatus::default()
    };
    let by_node = view.by_node();
    let (mut available, mut updated) = (0, 0);
    for node in view.nodes {
        let pods = by_node.get(node.name_any().as_str());
        if fit(view.set, node) != Fit::Wanted {
            status.number_misscheduled += i32::from(pods.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pods) = pods else { continue };
        status.current_number_scheduled += 1;
        let alive = || pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        status.number_ready += i32::from(alive().any(|p| pods::is_ready(p)));
        available += i32::from(alive().any(|p| view.is_available(p)));
        // The newest pod tells how far the update has got here.
        updated += i32::from(pods.last().is_some_and(|p| view.is_updated(p)));
    }
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    status.number_available = some(available);
    status.updated_number_scheduled = some(updated);
    status.number_unavailable = some(status.desired_number_scheduled - available);
    status
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(strategy: Value) -> DaemonSet {
        serde_json::from_value(
            json!({"metadata": {"name": "d"}, "spec": {"selector": {}, "template": {"spec": {"containers": []}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": strategy}}}),
        )
        .unwrap()
    }

    fn nodes(names: &str) -> Vec<Arc<Node>> {
        names
            .split_whitespace()
            .map(|n| Arc::new(serde_json::from_value(json!({"metadata": {"name": n}})).unwrap()))
            .collect()
    }

    /// `a:new`, `a:old!` (not ready), `a:old+` (failed); earlier ones are older.
    fn pods(text: &str) -> Vec<Arc<Pod>> {
        let one = |(i, word): (usize, &str)| {
            let (node, rest) = word.split_once(':').unwrap();
            let hash = rest.trim_end_matches(['!', '+']);
            let pod = json!({
                "metadata": {"name": word, "uid": format!("{i}"), "labels": {HASH: hash}, "creationTimestamp": format!("2026-01-01T00:00:0{i}Z")},
                "spec": {"containers": [], "nodeName": node},
                "status": {"phase": if rest.ends_with('+') { "Failed" } else { "Running" },
                    "conditions": [{"type": "Ready", "status": if rest.ends_with('!') { "False" } else { "True" }}]},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        text.split_whitespace().enumerate().map(one).collect()
    }

    fn words(decision: &Decision) -> String {
        let create = decision.create.iter().map(|n| format!("+{n}"));
        let delete = decision.delete.iter().map(|p| format!("-{}", p.name_any()));
        let ended = decision.ended.iter().map(|p| format!("*{}", p.name_any()));
        create.chain(delete).chain(ended).collect::<Vec<_>>().join(" ")
    }

    fn run(decide: fn(&View) -> Decision, set: &DaemonSet, names: &str, text: &str) -> String {
        let (nodes, pods) = (nodes(names), pods(text));
        words(&decide(&View { set, nodes: &nodes, pods: &pods, hash: "new", now: Timestamp::UNIX_EPOCH }))
    }

    #[test]
    fn each_node_gets_one_pod() {
        let plain = set(json!({"maxUnavailable": 1}));
        for (names, text, expected) in [
            ("a b", "", "+a +b"),
            ("a b", "a:new", "+b"),
            ("a", "a:new a:new!", "-a:new!"),
            ("a", "a:new+", "*a:new+"),
            ("a", "a:new b:new", ""),
        ] {
            assert_eq!(run(place, &plain, names, text), expected, "{names} / {text}");
        }
    }

    #[test]
    fn an_update_takes_down_no_more_than_may_be_missing() {
        for (most, text, expected) in [
            (json!(1), "a:old b:old c:old", "-a:old"),
            (json!(2), "a:old b:old c:old", "-a:old -b:old"),
            (json!("50%"), "a:old b:old c:old", "-a:old -b:old"),
            (json!(1), "a:new! b:old c:old", ""),
            (json!(1), "a:new b:old! c:old", "-b:old!"),
            (json!(2), "b:old c:old", "-b:old"),
            (json!(1), "a:new b:new c:new", ""),
        ] {
            assert_eq!(run(roll, &set(json!({"maxUnavailable": most})), "a b c", text), expected, "{most} / {text}");
        }
    }

    #[test]
    fn a_surging_update_brings_the_new_pod_up_first() {
        let surging = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
        for (text, expected) in [
            ("a:old b:old", "+a"),
            ("a:old b:old a:new!", ""),
            ("a:old b:old a:new", "+b -a:old"),
            ("a:old! b:old", "+a +b"),
        ] {
            assert_eq!(run(roll, &surging, "a b", text), expected, "{text}");
        }
        assert_eq!(run(place, &surging, "a b", "a:old b:old a:new!"), "");
        assert_eq!(run(place, &surging, "a b", "a:old b:old a:old"), "-a:old");
    }

    #[test]
    fn the_status_counts_nodes() {
        let (set, nodes) = (set(json!({})), nodes("a b c"));
        let pods = pods("a:new b:old!");
        let status =
            status(&View { set: &set, nodes: &nodes, pods: &pods, hash: "new", now: Timestamp::UNIX_EPOCH }, None);
        assert_eq!((status.desired_number_scheduled, status.current_number_scheduled, status.number_ready), (3, 2, 1));
        assert_eq!(
            (status.number_available, status.number_unavailable, status.updated_number_scheduled),
            (Some(1), Some(2), Some(1))
        );
    }
}
