//! The last changes, kept for watches to start from.

use std::{collections::VecDeque, sync::Arc};

use store::Revision;

use super::object::Change;

/// However large they are, so many changes are kept.
const FEW: usize = 16;

/// How much is kept.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Changes at most.
    pub changes: usize,
    /// Bytes that they may hold alive.
    pub bytes: usize,
}

/// Changes in the order of their revisions; the oldest give way.
#[derive(Default)]
pub(super) struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change after this revision is in it.
    from: Revision,
}

impl Ring {
    /// An empty one, for the changes after a revision.
    pub fn after(from: Revision) -> Ring {
        Ring { from, ..Ring::default() }
    }

    /// Takes the next change in.
    pub fn push(&mut self, change: Arc<Change>, limits: Limits) {
        self.bytes += change.weight();
        self.changes.push_back(change);
        while self.changes.len() > limits.changes || (self.bytes > limits.bytes && self.changes.len() > FEW) {
            self.forget_one();
        }
    }

    /// Lets go of the changes up to `revision`.
    pub fn forget(&mut self, revision: Revision) {
        while self.changes.front().is_some_and(|oldest| oldest.revision <= revision) {
            self.forget_one();
        }
        if self.changes.len() * 4 < self.changes.capacity() {
            self.changes.shrink_to_fit();
        }
    }

    fn forget_one(&mut self) {
        let Some(oldest) = self.changes.pop_front() else { return };
        self.bytes -= oldest.weight();
        self.from = oldest.revision;
    }

    /// Every change after this revision is in it.
    pub fn from(&self) -> Revision {
        self.from
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Change>> {
        self.changes.iter()
    }

    /// Whether [`Ring::tail`] can start from there.
    pub fn covers(&self, position: Revision) -> bool {
        position >= self.from
    }

    /// Changes after `position` in order; `None` if some are no longer kept.
    pub fn tail(&self, position: Revision) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let first = self.changes.partition_point(|change| change.revision <= position);
        self.covers(position).then(|| self.changes.iter().skip(first))
    }

    /// Revision of the last change.
    pub fn last(&self) -> Revision {
        self.changes.back().map_or(self.from, |change| change.revision)
    }
}
