//! `RestartAllContainers` (KEP-5532): the end of one container starts all of its pod anew, in the same sandbox and on the
//! same volumes, init containers first.

use std::time::Duration;

use super::{Actor, slot::Stage};
use crate::pods::{
    backoff::Backoff,
    container::{Current, Role},
};

/// The reason of what ends for it, and of what waits.
pub(super) const REASON: &str = "RestartingAllContainers";
/// What is said of both.
pub(super) const MESSAGE: &str = "The container is removed because RestartAllContainers in place";

impl Actor {
    /// Ends what still runs, without hooks and without grace; whether that goes on.
    pub(super) fn end_for_restart(&mut self) -> bool {
        if !self.record.restarting {
            return false;
        }
        let counted = |role: Role| role != Role::Ephemeral;
        let running: Vec<usize> =
            (0..self.slots.len()).filter(|i| self.record.containers[*i].running() && counted(self.role(*i))).collect();
        let launching = self.slots.iter().any(|slot| matches!(slot.stage, Stage::Launching));
        if !running.is_empty() || launching {
            for slot in running {
                self.slots[slot].ends_for_restart = true;
                self.stop(slot, Duration::ZERO, "");
            }
            return true;
        }
        for record in self.record.containers.iter_mut().filter(|record| counted(record.role)) {
            let before = matches!(record.current, Current::Ended(_)) || record.last.is_some();
            if before {
                record.wait_for(REASON, Some(MESSAGE.to_owned()));
                record.backoff = Backoff::default();
                record.again = true;
            }
        }
        self.record.initialized = false;
        self.record.restarting = false;
        false
    }
}
