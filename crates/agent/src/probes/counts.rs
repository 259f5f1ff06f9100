//! How often probes have passed, failed or could not be asked, for `/metrics/probes`.

use std::{collections::BTreeMap, time::Duration};

use metrics::Spread;
use parking_lot::Mutex;

use super::{ProbeKind, state::Outcome};

/// Of all pods of the node, by uid.
#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<String, OfPod>>);

/// By container and probe.
pub type OfPod = BTreeMap<(String, ProbeKind), Tries>;

/// What became of the tries of one probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tries {
    /// It passed, or passed with a warning.
    pub successful: u64,
    /// It failed.
    pub failed: u64,
    /// It could not be asked.
    pub unknown: u64,
    /// How many seconds the answers took, but for failures.
    pub took: Spread,
}

impl Counts {
    pub(super) fn add(&self, uid: &str, container: &str, kind: ProbeKind, outcome: &Outcome, took: Duration) {
        let mut all = self.0.lock();
        let of_pod = all.entry(uid.to_owned()).or_default();
        let tries = of_pod.entry((container.to_owned(), kind)).or_default();
        match outcome {
            Outcome::Success | Outcome::Warning(_) => tries.successful += 1,
            Outcome::Failure(_) => tries.failed += 1,
            Outcome::Unknown(_) => tries.unknown += 1,
        }
        if !matches!(outcome, Outcome::Failure(_)) {
            tries.took.observe(metrics::USUAL, took.as_secs_f64());
        }
    }

    /// A pod has left the node.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// A pod's counts.
    pub fn of(&self, uid: &str) -> OfPod {
        self.0.lock().get(uid).cloned().unwrap_or_default()
    }
}
