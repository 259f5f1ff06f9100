//! What the agent has done since its start, in numbers, for `/metrics`.

use std::collections::BTreeMap;

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
#[derive(Default)]
pub struct Activity(Mutex<BTreeMap<Deed, u64>>);

impl Activity {
    /// Counts one.
    pub fn add(&self, deed: Deed) {
        *self.0.lock().entry(deed).or_default() += 1;
    }

    /// All that were done.
    pub fn counted(&self) -> BTreeMap<Deed, u64> {
        self.0.lock().clone()
    }
}
