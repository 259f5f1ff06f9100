//! Whether a node has room.

use std::sync::Arc;

use crate::{node::NodeInfo, pod::PodInfo, resources::Resources};

/// Whether the pod's requests fit beside what is on the node.
pub(super) fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    let (asks, has, used) = (&pod.requests, &node.allocatable, &node.placed.requested);
    node.placed.pods < node.pods_allowed
        && (asks.milli_cpu == 0 || asks.milli_cpu + used.milli_cpu <= has.milli_cpu)
        && (asks.memory == 0 || asks.memory + used.memory <= has.memory)
        && (asks.ephemeral_storage == 0 || asks.ephemeral_storage + used.ephemeral_storage <= has.ephemeral_storage)
        && asks.scalars.iter().all(|(name, n)| *n == 0 || n + used.scalar(name) <= has.scalar(name))
}

/// Upstream's words for each thing that a node lacks.
pub(crate) fn lacking(pod: &PodInfo, node: &NodeInfo) -> Vec<Arc<str>> {
    let mut lacking: Vec<Arc<str>> = Vec::new();
    if node.placed.pods >= node.pods_allowed {
        lacking.push("Too many pods".into());
    }
    let names = lacking_beside(&pod.requests, &node.allocatable, &node.placed.requested);
    lacking.extend(names.iter().map(|name| format!("Insufficient {name}").into()));
    lacking
}

/// Whether it would not fit even on the empty node.
pub(super) fn never_fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    !lacking_beside(&pod.requests, &node.allocatable, &Resources::default()).is_empty()
}

fn lacking_beside<'a>(asks: &'a Resources, has: &Resources, used: &Resources) -> Vec<&'a str> {
    let first = [
        ("cpu", asks.milli_cpu, used.milli_cpu, has.milli_cpu),
        ("memory", asks.memory, used.memory, has.memory),
        ("ephemeral-storage", asks.ephemeral_storage, used.ephemeral_storage, has.ephemeral_storage),
    ];
    let scalars = asks.scalars.iter().map(|(name, n)| (&**name, *n, used.scalar(name), has.scalar(name)));
    let all = first.into_iter().chain(scalars);
    all.filter(|(_, asks, used, has)| *asks > 0 && asks + used > *has).map(|(name, ..)| name).collect()
}
