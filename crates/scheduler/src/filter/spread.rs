//! Topology spread constraints that must hold (`DoNotSchedule`).

use std::collections::HashMap;

use super::{Refusal, node_affinity_holds, taints};
use crate::{
    node::NodeInfo,
    pod::{PodInfo, Spread},
    snapshot::Snapshot,
};

pub(super) struct HardSpread<'a> {
    constraints: Vec<Counted<'a>>,
}

struct Counted<'a> {
    constraint: &'a Spread,
    /// Matching pods in each domain.
    domains: HashMap<&'a str, i64>,
    /// In the emptiest domain.
    least: i64,
    /// 1 if the pod itself will be counted.
    itself: i64,
}

impl<'a> HardSpread<'a> {
    /// `None` if the pod has no such constraint.
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Self> {
        let hard: Vec<_> = pod.spread.iter().filter(|c| c.hard).collect();
        if hard.is_empty() {
            return None;
        }
        // With nothing to tell nodes apart by, the domains are known without looking at each.
        let unselective = hard.len() == 1 && pod.node_selector.is_empty() && pod.node_required.is_none();
        let all_keys = |node: &NodeInfo| hard.iter().all(|c| node.labels.contains_key(&c.topology_key));
        let count = |constraint: &'a Spread| {
            let eligible = |node: &NodeInfo| all_keys(node) && counts_for(constraint, pod, node);
            let mut domains = HashMap::new();
            if unselective && !constraint.honor_taints {
                domains.extend(snapshot.values_of(&constraint.topology_key).map(|domain| (domain, 0)));
            } else {
                for node in snapshot.nodes().iter().filter(|n| eligible(n)) {
                    domains.entry(node.label(&constraint.topology_key).unwrap_or_default()).or_insert(0);
                }
            }
            for (other, node) in snapshot.pods_in(&pod.namespace) {
                if !other.terminating && constraint.selector.matches(&other.labels) && eligible(node) {
                    *domains.entry(node.label(&constraint.topology_key).unwrap_or_default()).or_insert(0) += 1;
                }
            }
            let enough = domains.len() as i64 >= constraint.min_domains;
            let least = if enough { domains.values().copied().min().unwrap_or(0) } else { 0 };
            Counted { constraint, domains, least, itself: constraint.selector.matches(&pod.labels).into() }
        };
        Some(Self { constraints: hard.iter().map(|c| count(c)).collect() })
    }

    pub fn refusal(&self, node: &NodeInfo) -> Option<Refusal> {
        for counted in &self.constraints {
            let Some(domain) = node.label(&counted.constraint.topology_key) else { return Some(Refusal::SpreadLabel) };
            let there = counted.domains.get(domain).copied().unwrap_or(0);
            if there + counted.itself - counted.least > counted.constraint.max_skew {
                return Some(Refusal::Spread);
            }
        }
        None
    }
}

/// Whether the constraint's policies count this node.
fn counts_for(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!constraint.honor_affinity || node_affinity_holds(pod, node))
        && (!constraint.honor_taints || taints::all_tolerated(&node.hard_taints, &pod.tolerations))
}
