//! Changes by the value of one field, for watchers of one value: an agent watches the pods of its node alone. It is
//! not woken for those of other nodes, and does not look through them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use store::Revision;
use tokio::sync::watch;

use super::object::{Cached, Change, Selectable};

/// The field whose watchers are told apart.
pub(crate) const FIELD: &str = "spec.nodeName";
/// Changes kept for one value at most.
const RING_CHANGES: usize = 1024;
/// Bytes that the kept changes of one value may hold alive.
const RING_BYTES: usize = 1024 * 1024;

/// The watched values of a kind.
#[derive(Default)]
pub(super) struct Routes {
    by_value: HashMap<Box<str>, Route>,
}

/// One value's.
struct Route {
    ring: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change after this revision that concerns the value is in the ring.
    from: Revision,
    woken: bool,
    changed: watch::Sender<Revision>,
}

impl Routes {
    /// Whether a kind with these field selectors has the field.
    pub fn apply_to(selectable: Selectable) -> bool {
        selectable.iter().any(|(label, _)| *label == FIELD)
    }

    /// Changes of a value from now on, and of what `past` (complete after `from`) holds.
    pub fn subscribe<'c>(
        &mut self,
        value: &str,
        selectable: Selectable,
        past: impl Iterator<Item = &'c Arc<Change>>,
        from: Revision,
    ) -> watch::Receiver<Revision> {
        if let Some(route) = self.by_value.get(value) {
            return route.changed.subscribe();
        }
        let mut route = Route { ring: VecDeque::new(), bytes: 0, from, woken: false, changed: watch::Sender::new(0) };
        for change in past.filter(|change| concerned(change, selectable).contains(&value)) {
            route.push(change.clone());
        }
        let receiver = route.changed.subscribe();
        self.by_value.insert(value.into(), route);
        receiver
    }

    /// Takes a change in; wakes nobody yet.
    pub fn take(&mut self, change: &Arc<Change>, selectable: Selectable) {
        if self.by_value.is_empty() {
            return;
        }
        for value in concerned(change, selectable) {
            if let Some(route) = self.by_value.get_mut(value) {
                route.push(change.clone());
            }
        }
    }

    /// Tells those who wait, and forgets values that nobody watches any more.
    pub fn wake(&mut self) {
        self.by_value.retain(|_, route| {
            if std::mem::take(&mut route.woken) {
                route.changed.send_replace(route.last());
            }
            route.changed.receiver_count() > 0
        });
    }

    /// Lets go of the changes up to `revision`.
    pub fn forget(&mut self, revision: Revision) {
        for route in self.by_value.values_mut() {
            while route.ring.front().is_some_and(|oldest| oldest.revision <= revision) {
                route.forget_one();
            }
            if route.ring.len() * 4 < route.ring.capacity() {
                route.ring.shrink_to_fit();
            }
        }
    }

    /// Whether any value is watched.
    pub fn any(&self) -> bool {
        !self.by_value.is_empty()
    }

    /// Changes of the value after `position` in order; `None` if some are no longer kept.
    pub fn tail(&self, value: &str, position: Revision) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let route = self.by_value.get(value)?;
        let first = route.ring.partition_point(|change| change.revision <= position);
        (position >= route.from).then(|| route.ring.iter().skip(first))
    }

    /// Revision of the last change of the value.
    pub fn last(&self, value: &str) -> Revision {
        self.by_value.get(value).map_or(0, Route::last)
    }
}

impl Route {
    fn last(&self) -> Revision {
        self.ring.back().map_or(self.from, |change| change.revision)
    }

    fn push(&mut self, change: Arc<Change>) {
        self.woken = true;
        self.bytes += change.weight();
        self.ring.push_back(change);
        while self.ring.len() > RING_CHANGES || (self.bytes > RING_BYTES && self.ring.len() > 16) {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let Some(oldest) = self.ring.pop_front() else { return };
        self.bytes -= oldest.weight();
        self.from = oldest.revision;
    }
}

/// The values that the object had before the change and has after it.
fn concerned(change: &Change, selectable: Selectable) -> Vec<&str> {
    let after = value_of(&change.object, selectable);
    let before = change.previous.as_deref().map_or("", |previous| value_of(previous, selectable));
    let mut values = vec![after];
    if before != after {
        values.push(before);
    }
    values.retain(|value| !value.is_empty());
    values
}

fn value_of(object: &Cached, selectable: Selectable) -> &str {
    let pointer = selectable.iter().find(|(label, _)| *label == FIELD).map_or("", |(_, pointer)| *pointer);
    object.facts(selectable).pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or("")
}
