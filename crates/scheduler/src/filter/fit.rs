//! Whether a node has room.

use std::sync::Arc;

use crate::{
    node::{NodeInfo, Placed},
    pod::PodInfo,
    resources::Resources,
};

/// Whether the pod's requests fit beside what is placed on the node.
pub(super) fn fits(pod: &PodInfo, node: &NodeInfo, placed: &Placed) -> bool {
    let (asks, has, used) = (&pod.requests, &node.allocatable, &placed.requested);
    placed.pods < node.pods_allowed
        && (asks.milli_cpu == 0 || asks.milli_cpu + used.milli_cpu <= has.milli_cpu)
        && (asks.memory == 0 || asks.memory + used.memory <= has.memory)
        && (asks.ephemeral_storage == 0 || asks.ephemeral_storage + used.ephemeral_storage <= has.ephemeral_storage)
        && asks.scalars.iter().all(|(name, n)| *n == 0 || n + used.scalar(name) <= has.scalar(name))
}

/// What a node lacks, as bits: the pod count, CPU, memory, ephemeral storage, then the pod's other
/// resources in their order (which are never so many that 60 would not do; further ones share the last bit).
pub(super) fn lacking(pod: &PodInfo, node: &NodeInfo, placed: &Placed) -> u64 {
    u64::from(placed.pods >= node.pods_allowed) | lacking_beside(&pod.requests, &node.allocatable, &placed.requested)
}

/// Upstream's words for a bit of [`lacking`].
pub(crate) fn words(pod: &PodInfo, bit: usize) -> Arc<str> {
    match bit {
        0 => "Too many pods".into(),
        1 => "Insufficient cpu".into(),
        2 => "Insufficient memory".into(),
        3 => "Insufficient ephemeral-storage".into(),
        other => format!("Insufficient {}", pod.requests.scalars[other - FIRST].0).into(),
    }
}

/// Whether it would not fit even on the empty node.
pub(super) fn never_fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    lacking_beside(&pod.requests, &node.allocatable, &NOTHING) != 0
}

static NOTHING: Resources = Resources { milli_cpu: 0, memory: 0, ephemeral_storage: 0, scalars: Vec::new() };

/// The bits before those of scalar resources.
const FIRST: usize = 4;

fn lacking_beside(asks: &Resources, has: &Resources, used: &Resources) -> u64 {
    let lacks = |asks: i64, used: i64, has: i64| u64::from(asks > 0 && asks + used > has);
    let mut bits = lacks(asks.milli_cpu, used.milli_cpu, has.milli_cpu) << 1
        | lacks(asks.memory, used.memory, has.memory) << 2
        | lacks(asks.ephemeral_storage, used.ephemeral_storage, has.ephemeral_storage) << 3;
    for (n, (name, amount)) in asks.scalars.iter().enumerate() {
        bits |= lacks(*amount, used.scalar(name), has.scalar(name)) << (FIRST + n).min(63);
    }
    bits
}
