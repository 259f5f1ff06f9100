//! Changes by the value of one field, for watchers of one value: an agent watches the pods of its node alone. It is
//! not woken for those of other nodes, and does not look through them.

use std::{collections::HashMap, sync::Arc};

use store::Revision;
use tokio::sync::watch;

use super::{
    object::{Cached, Change, Selectable},
    ring::{Limits, Ring},
};

/// The field whose watchers are told apart.
pub(crate) const FIELD: &str = "spec.nodeName";
/// What is kept of the changes of one value.
const KEPT: Limits = Limits { changes: 1024, bytes: 1 << 20 };

/// The watched values of a kind.
#[derive(Default)]
pub(super) struct Routes {
    by_value: HashMap<Box<str>, Route>,
}

/// One value's.
struct Route {
    ring: Ring,
    woken: bool,
    changed: watch::Sender<Revision>,
}

impl Routes {
    /// Whether a kind with these field selectors has the field.
    pub fn apply_to(selectable: Selectable) -> bool {
        selectable.iter().any(|(label, _)| *label == FIELD)
    }

    /// Changes of a value from now on, and of what `past` holds.
    pub fn subscribe(&mut self, value: &str, selectable: Selectable, past: &Ring) -> watch::Receiver<Revision> {
        if let Some(route) = self.by_value.get(value) {
            return route.changed.subscribe();
        }
        let mut route = Route { ring: Ring::after(past.from()), woken: false, changed: watch::Sender::new(0) };
        for change in past.iter().filter(|change| concerned(change, selectable).contains(&value)) {
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
                route.changed.send_replace(route.ring.last());
            }
            route.changed.receiver_count() > 0
        });
    }

    /// Lets go of the changes up to `revision`.
    pub fn forget(&mut self, revision: Revision) {
        for route in self.by_value.values_mut() {
            route.ring.forget(revision);
        }
    }

    /// Whether any value is watched.
    pub fn any(&self) -> bool {
        !self.by_value.is_empty()
    }

    /// The changes of a value that is watched.
    pub fn ring(&self, value: &str) -> Option<&Ring> {
        self.by_value.get(value).map(|route| &route.ring)
    }
}

impl Route {
    fn push(&mut self, change: Arc<Change>) {
        self.woken = true;
        self.ring.push(change, KEPT);
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
    let mut names = pointer.split('/').skip(1);
    let value = names.try_fold(object.facts(selectable), |fields, name| fields.get(name));
    value.and_then(serde_json::Value::as_str).unwrap_or("")
}
