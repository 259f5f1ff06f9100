//! The decision.

use std::{collections::HashSet, sync::Arc};

use crate::{
    filter::Filters, pod::PodInfo, score, selector::NodeTerms, snapshot::Snapshot, unschedulable::Unschedulable,
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
    if filters.nowhere().is_some() {
        return Err(Unschedulable::diagnose(pod, &filters, snapshot));
    }
    let random = scramble(turn);
    let nodes = snapshot.nodes();
    if let Some(at) = snapshot.nomination(&pod.uid).and_then(|node| snapshot.index_of(node))
        && filters.refusal(&nodes[at]).is_none()
    {
        // Room was made for it there.
        return Ok(Placement { node: nodes[at].name.clone(), evaluated: 1, feasible: 1 });
    }
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
    // A label that most nodes bear saves nothing.
    let few = snapshot.len() / 4;
    let mut options: Vec<Vec<&HashSet<usize>>> = Vec::new();
    for (key, value) in &pod.node_selector {
        options.push(snapshot.with_label(key, value).into_iter().collect());
    }
    options.extend(pod.node_required.as_ref().and_then(|terms| required(terms, snapshot)));
    let (count, best) = options.into_iter().map(|sets| (total(&sets), sets)).min_by_key(|(count, _)| *count)?;
    if count >= few {
        return None;
    }
    let mut some: Vec<_> = best.into_iter().flatten().copied().collect();
    some.sort_unstable();
    some.dedup();
    Some(some)
}

/// Sets of nodes that together hold all that can match; `None` if a term has nothing to look up.
fn required<'a>(terms: &NodeTerms, snapshot: &'a Snapshot) -> Option<Vec<&'a HashSet<usize>>> {
    let mut all = Vec::new();
    for demands in terms.demands() {
        let sets_of = |(key, values): (&str, &[String])| -> Vec<&'a HashSet<usize>> {
            values.iter().filter_map(|value| snapshot.with_label(key, value)).collect()
        };
        let fewest = demands.into_iter().map(sets_of).min_by_key(|sets| total(sets));
        all.extend(fewest?);
    }
    Some(all)
}

fn total(sets: &[&HashSet<usize>]) -> usize {
    sets.iter().map(|set| set.len()).sum()
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
        for (nodes, want) in
            [(1, 100), (99, 100), (100, 100), (200, 100), (1000, 420), (5000, 500), (6000, 300), (15000, 750)]
        {
            assert_eq!(nodes_to_find(nodes), want, "{nodes} nodes");
        }
    }
}
