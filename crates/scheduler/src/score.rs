//! Which of the feasible nodes is best: upstream's default scores, each 0 to 100, with their weights.

use std::collections::HashMap;

use crate::{
    filter::tolerates,
    node::NodeInfo,
    pod::{PodInfo, Spread},
    resources::Resources,
    schedule::scramble,
    snapshot::Snapshot,
};

const MAX: i64 = 100;

/// The best of `feasible`, which is not empty; `random` decides between equals.
pub(crate) fn best(pod: &PodInfo, snapshot: &Snapshot, feasible: &[usize], random: u64) -> usize {
    let [only] = feasible else {
        let nodes: Vec<&NodeInfo> = feasible.iter().map(|at| &snapshot.nodes()[*at]).collect();
        return feasible[highest(&totals(pod, snapshot, &nodes), random)];
    };
    *only
}

fn totals(pod: &PodInfo, snapshot: &Snapshot, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals: Vec<i64> = nodes.iter().map(|node| least_allocated(pod, node) + balanced(pod, node)).collect();
    let mut add = |weight: i64, scores: Vec<i64>| {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    if nodes.iter().any(|n| !n.soft_taints.is_empty()) {
        add(3, normalize(nodes.iter().map(|n| intolerable(pod, n)).collect(), true));
    }
    if !pod.node_preferred.is_empty() {
        add(2, normalize(nodes.iter().map(|n| node_preference(pod, n)).collect(), false));
    }
    if let Some(crowd) = crowding(pod, snapshot, nodes) {
        add(2, spread_scores(&crowd));
    }
    if let Some(liking) = liking(pod, snapshot, nodes) {
        add(2, between(&liking));
    }
    totals
}

fn highest(totals: &[i64], random: u64) -> usize {
    let top = totals.iter().copied().max().unwrap_or(0);
    let equals = totals.iter().filter(|t| **t == top).count() as u64;
    let chosen = (scramble(random) % equals.max(1)) as usize;
    totals.iter().enumerate().filter(|(_, t)| **t == top).nth(chosen).map_or(0, |(at, _)| at)
}

/// `NodeResourcesFit` with `LeastAllocated`: the share of CPU and memory that stays free, averaged.
fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (asks, used, has) = (&pod.scoring_requests, &node.placed.scoring_requested, &node.allocatable);
    let free = |asks: i64, used: i64, has: i64| {
        let wanted = asks + used;
        if wanted > has { 0 } else { (has - wanted) * MAX / has }
    };
    let mut sum = 0;
    let mut count = 0;
    for (asks, used, has) in [(asks.milli_cpu, used.milli_cpu, has.milli_cpu), (asks.memory, used.memory, has.memory)] {
        if has > 0 {
            sum += free(asks, used, has);
            count += 1;
        }
    }
    if count == 0 { 0 } else { sum / count }
}

/// `NodeResourcesBalancedAllocation`: CPU and memory should be used to a like degree, and more so with the pod than
/// without it (since 1.36).
fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    if pod.requests == Resources::default() {
        return 0;
    }
    let (asks, used, has) = (&pod.requests, &node.placed.requested, &node.allocatable);
    let share = |used: i64, has: i64| (has > 0).then(|| (used as f64 / has as f64).min(1.0));
    let balance = |cpu: i64, memory: i64| match (share(cpu, has.milli_cpu), share(memory, has.memory)) {
        (Some(cpu), Some(memory)) => ((1.0 - (cpu - memory).abs() / 2.0) * MAX as f64) as i64,
        _ => MAX,
    };
    let without = balance(used.milli_cpu, used.memory);
    let with = balance(used.milli_cpu + asks.milli_cpu, used.memory + asks.memory);
    MAX / 2 + (MAX / 2 + with - without) / 2
}

/// `TaintToleration`: taints of effect `PreferNoSchedule` that the pod does not tolerate.
fn intolerable(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let tolerated = |t: &&k8s_openapi::api::core::v1::Taint| {
        !tolerates(&pod.tolerations, &t.key, t.value.as_deref().unwrap_or_default(), &t.effect)
    };
    node.soft_taints.iter().filter(tolerated).count() as i64
}

/// `NodeAffinity`: the weights of the preferred terms that match.
fn node_preference(pod: &PodInfo, node: &NodeInfo) -> i64 {
    pod.node_preferred.iter().filter(|(_, term)| term.matches(&node.name, &node.labels)).map(|(weight, _)| weight).sum()
}

/// `PodTopologySpread`: how many like pods share each node's domains. Without constraints of its own a pod
/// keeps away from others of its controller: by node, and by zone.
fn crowding(pod: &PodInfo, snapshot: &Snapshot, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
    let soft: Vec<&Spread> = pod.spread.iter().filter(|c| !c.hard).collect();
    if soft.is_empty() {
        let owner = pod.owner.filter(|_| pod.spread.is_empty())?;
        let zones = snapshot.owner_zones(owner)?;
        let (by_node, by_zone) = (weight(nodes.len()), weight(snapshot.zones()));
        let crowd = |node: &&NodeInfo| {
            let here = node.placed.owners.get(&owner).copied().unwrap_or(0);
            let near = node.zone.as_ref().and_then(|_| zones.get(&node.zone)).copied().unwrap_or(0);
            (here as f64 * by_node + 2.0 + near as f64 * by_zone + 4.0).round() as i64
        };
        return Some(nodes.iter().map(crowd).collect());
    }
    let mut crowd = vec![0.0; nodes.len()];
    for constraint in soft {
        let key = constraint.topology_key.as_str();
        let mut domains: HashMap<&str, i64> = nodes.iter().filter_map(|n| Some((n.label(key)?, 0))).collect();
        for (other, node) in snapshot.pods_in(&pod.namespace) {
            if !other.terminating
                && let Some(count) = node.label(key).and_then(|domain| domains.get_mut(domain))
                && constraint.selector.matches(&other.labels)
            {
                *count += 1;
            }
        }
        let by_domain = weight(domains.len());
        for (crowd, node) in crowd.iter_mut().zip(nodes) {
            let there = node.label(key).and_then(|domain| domains.get(domain)).copied();
            // A node outside of the topology is the worst choice.
            let there = there.unwrap_or_else(|| domains.values().copied().max().unwrap_or(0) + constraint.max_skew);
            *crowd += there as f64 * by_domain + (constraint.max_skew - 1) as f64;
        }
    }
    Some(crowd.into_iter().map(|c| c.round() as i64).collect())
}

/// More domains make each one weigh more.
fn weight(domains: usize) -> f64 {
    (domains as f64 + 2.0).ln()
}

fn spread_scores(crowd: &[i64]) -> Vec<i64> {
    let (least, most) = (crowd.iter().min().copied().unwrap_or(0), crowd.iter().max().copied().unwrap_or(0));
    let score = |c: &i64| if most == 0 { MAX } else { MAX * (most + least - c) / most };
    crowd.iter().map(score).collect()
}

/// `InterPodAffinity`: what the pod prefers about others, and they about it.
fn liking(pod: &PodInfo, snapshot: &Snapshot, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
    let mut domains: HashMap<&str, HashMap<&str, i64>> = HashMap::new();
    if !pod.preferred.is_empty() {
        for (other, node) in snapshot.all_pods() {
            let namespace = snapshot.namespace_labels(&other.namespace);
            for (weight, term) in &pod.preferred {
                if let Some(value) = node.label(&term.topology_key)
                    && term.means(&other.namespace, namespace, &other.labels)
                {
                    *domains.entry(&term.topology_key).or_default().entry(value).or_default() += weight;
                }
            }
        }
    }
    let namespace = snapshot.namespace_labels(&pod.namespace);
    for (other, node) in snapshot.preferring() {
        // What a pod requires it also prefers, with upstream's default weight of 1.
        let required = other.affinity.iter().map(|term| (1, term));
        for (weight, term) in other.preferred.iter().map(|(w, t)| (*w, t)).chain(required) {
            if let Some(value) = node.label(&term.topology_key)
                && term.means(&pod.namespace, namespace, &pod.labels)
            {
                *domains.entry(&term.topology_key).or_default().entry(value).or_default() += weight;
            }
        }
    }
    if domains.is_empty() {
        return None;
    }
    let of = |node: &&NodeInfo| domains.iter().filter_map(|(key, values)| values.get(node.label(key)?)).sum();
    Some(nodes.iter().map(of).collect())
}

/// From the lowest, 0, to the highest, 100.
fn between(scores: &[i64]) -> Vec<i64> {
    let (low, high) = (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
    scores.iter().map(|s| if high == low { 0 } else { MAX * (s - low) / (high - low) }).collect()
}

/// From 0 to the highest, 100; or the other way round.
fn normalize(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let high = scores.iter().max().copied().unwrap_or(0);
    let scale = |s: i64| if high == 0 { 0 } else { MAX * s / high };
    scores.into_iter().map(|s| if reverse { MAX - scale(s) } else { scale(s) }).collect()
}
