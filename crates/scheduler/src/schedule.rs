//! The decision.

use std::sync::Arc;

use crate::{
    filter::Filters, pod::PodInfo, score, snapshot::Snapshot, unschedulable::Unschedulable,
};

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node's name.
    pub node: Arc<str>,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them would have done.
    pub feasible: usize,
}

/// Chooses a node. `turn` decides where the search begins and which of equally good nodes is taken: pass
/// another number for each decision. The same arguments give the same answer.
///
/// In a large cluster, as upstream does, the best is chosen among the first so many that would do
/// (`numFeasibleNodesToFind`).
pub fn schedule(pod: &PodInfo, snapshot: &Snapshot, turn: u64) -> Result<Placement, Unschedulable> {
    let filters = Filters::new(pod, snapshot);
    let random = scramble(turn);
    let nodes = snapshot.nodes();
    let wanted = nodes_to_find(nodes.len());
    let mut feasible = Vec::with_capacity(wanted.min(nodes.len()));
    let mut evaluated = 0;
    let mut look = |at: usize| {
        evaluated += 1;
        if filters.refusal(&nodes[at]).is_none() {
            feasible.push(at);
        }
        feasible.len() >= wanted
    };
    match candidates(pod, snapshot) {
        Some(some) => {
            let start = (random % (some.len() as u64).max(1)) as usize;
            let _ = some[start..].iter().chain(&some[..start]).any(|at| look(*at));
        }
        None => {
            let start = (random % (nodes.len() as u64).max(1)) as usize;
            let _ = (start..nodes.len()).chain(0..start).any(look);
        }
    }
    if feasible.is_empty() {
        return Err(Unschedulable::diagnose(pod, &filters, snapshot));
    }
    let best = score::best(pod, snapshot, &feasible, random);
    Ok(Placement { node: nodes[best].name.clone(), evaluated, feasible: feasible.len() })
}

/// The only nodes that can pass the node affinity filter, where an index knows them; `None`: any may.
fn candidates(pod: &PodInfo, snapshot: &Snapshot) -> Option<Vec<usize>> {
    if let Some(name) = &pod.node_name {
        return Some(snapshot.index_of(name).into_iter().collect());
    }
    if let Some(names) = pod.node_required.as_ref().and_then(|terms| terms.names()) {
        let mut some: Vec<_> = names.into_iter().filter_map(|name| snapshot.index_of(name)).collect();
        some.sort_unstable();
        some.dedup();
        return Some(some);
    }
    let mut fewest = None;
    for (key, value) in &pod.node_selector {
        let Some(nodes) = snapshot.with_label(key, value) else { return Some(Vec::new()) };
        if fewest.is_none_or(|few: &std::collections::HashSet<usize>| nodes.len() < few.len()) {
            fewest = Some(nodes);
        }
    }
    // A label that most nodes bear saves nothing.
    let fewest = fewest.filter(|few| few.len() * 4 < snapshot.len())?;
    let mut some: Vec<_> = fewest.iter().copied().collect();
    some.sort_unstable();
    Some(some)
}

/// All of up to 100 nodes; of more a share that falls from 50 % to 5 % as the cluster grows, but at least 100.
fn nodes_to_find(nodes: usize) -> usize {
    const AT_LEAST: usize = 100;
    if nodes < AT_LEAST {
        return AT_LEAST;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(AT_LEAST)
}

/// SplitMix64's output function.
pub(crate) fn scramble(n: u64) -> u64 {
    let z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_nodes_to_find_is_upstreams() {
        for (nodes, want) in [(1, 100), (99, 100), (100, 100), (200, 100), (1000, 420), (5000, 500), (6000, 300), (15000, 750)] {
            assert_eq!(nodes_to_find(nodes), want, "{nodes} nodes");
        }
    }
}
