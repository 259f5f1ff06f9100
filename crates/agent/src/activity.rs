//! What the agent has done since its start, in numbers, for `/metrics`.

use std::collections::BTreeMap;

use metrics::Family;
use parking_lot::Mutex;

use crate::pods::Role;

/// Something that is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A pod's sandbox was to be made.
    StartPod,
    /// It could not be.
    FailPod,
    /// A container was to be started.
    StartContainer(Role),
    /// It could not be; the reason that its status gives.
    FailContainer(Role, &'static str),
    /// A pod was refused for that reason.
    Refuse(&'static str),
    /// A pod was evicted for want of what this signal measures.
    Evict(&'static str),
    /// An image that nobody uses was removed: `space` or `age`.
    RemoveImage(&'static str),
}

/// How often each was done.
pub struct Activity {
    deeds: Mutex<BTreeMap<Deed, u64>>,
    /// Seconds from a look at the machine until a pod was evicted for what was seen, by the signal.
    pub evicted_after: Family,
}

impl Default for Activity {
    fn default() -> Self {
        let help = "[ALPHA] Time between when stats are collected, and when pod is evicted based on those stats by eviction signal";
        let name = "kubelet_eviction_stats_age_seconds";
        let evicted_after = Family::histogram(name, help, &["eviction_signal"], metrics::USUAL);
        Self { deeds: Mutex::default(), evicted_after }
    }
}

impl Activity {
    /// Counts one.
    pub fn add(&self, deed: Deed) {
        *self.deeds.lock().entry(deed).or_default() += 1;
    }

    /// All that were done.
    pub fn counted(&self) -> BTreeMap<Deed, u64> {
        self.deeds.lock().clone()
    }
}
