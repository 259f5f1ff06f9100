//! Which events were written lately.

use std::collections::{HashMap, VecDeque};

use super::Note;

/// Distinct events remembered for counting.
const REMEMBERED: usize = 1024;
/// Distinct events of one reason about one object before they count as one.
const SIMILAR: u32 = 10;

/// What becomes of an event.
#[derive(Debug)]
pub(crate) enum Verdict {
    New {
        name: String,
        key: Key,
        combined: bool,
    },
    /// `written` tells that the first one is known to have been.
    Again {
        name: String,
        key: Key,
        count: i32,
        combined: bool,
        written: bool,
    },
}

struct Entry {
    name: String,
    count: i32,
    written: bool,
}

/// The UID and the part of an object, a reason, and the words: none for all that came after too many.
pub(crate) type Key = (Option<String>, Option<String>, String, Option<String>);

#[derive(Default)]
pub(crate) struct Seen {
    events: HashMap<Key, Entry>,
    order: VecDeque<Key>,
    similar: HashMap<(Option<String>, String), u32>,
}

impl Seen {
    pub fn count(&mut self, note: &Note) -> Verdict {
        let key = |message: Option<String>| -> Key {
            (note.about.uid.clone(), note.about.field_path.clone(), note.reason.clone(), message)
        };
        let group = (note.about.uid.clone(), note.reason.clone());
        let own = key(Some(note.message.clone()));
        // Many that differ in their text alone become one, so that a failing probe can't fill the store.
        let combined =
            !self.events.contains_key(&own) && self.similar.get(&group).is_some_and(|count| *count >= SIMILAR);
        let key = if combined { key(None) } else { own };
        if let Some(entry) = self.events.get_mut(&key) {
            entry.count += 1;
            let (name, count, written) = (entry.name.clone(), entry.count, entry.written);
            return Verdict::Again { name, key, count, combined, written };
        }
        *self.similar.entry(group).or_default() += 1;
        let name = format!("{}.{:x}", note.about.name.as_deref().unwrap_or("unknown"), note.at.as_nanosecond());
        self.events.insert(key.clone(), Entry { name: name.clone(), count: 1, written: false });
        self.order.push_back(key.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
        Verdict::New { name, key, combined }
    }

    /// The first event of these has been written.
    pub fn written(&mut self, key: &Key) {
        if let Some(entry) = self.events.get_mut(key) {
            entry.written = true;
        }
    }

    pub fn forget(&mut self, key: &Key) {
        if self.events.remove(key).is_none() {
            return;
        }
        let group = (key.0.clone(), key.2.clone());
        if let Some(count) = self.similar.get_mut(&group) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.similar.remove(&group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;
    use crate::Severity;

    fn note(about: &str, message: &str) -> Note {
        Note {
            about: ObjectReference { name: Some("p".into()), uid: Some(about.into()), ..ObjectReference::default() },
            severity: Severity::Normal,
            reason: "Unhealthy".into(),
            message: message.into(),
            annotations: Default::default(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn equal_events_are_counted_and_too_many_similar_ones_become_one() {
        let mut seen = Seen::default();
        assert!(matches!(seen.count(&note("u", "a")), Verdict::New { combined: false, .. }));
        assert!(matches!(seen.count(&note("u", "a")), Verdict::Again { count: 2, combined: false, .. }));
        for i in 1..SIMILAR {
            assert!(matches!(seen.count(&note("u", &i.to_string())), Verdict::New { .. }));
        }
        assert!(matches!(seen.count(&note("u", "x")), Verdict::New { combined: true, .. }));
        assert!(matches!(seen.count(&note("u", "y")), Verdict::Again { count: 2, combined: true, .. }));
        assert!(matches!(seen.count(&note("u", "a")), Verdict::Again { count: 3, combined: false, .. }));
        assert!(matches!(seen.count(&note("other", "a")), Verdict::New { combined: false, .. }));
    }

    #[test]
    fn what_was_long_ago_begins_anew() {
        let mut seen = Seen::default();
        for i in 0..=REMEMBERED {
            seen.count(&note(&i.to_string(), "a"));
        }
        assert!(matches!(seen.count(&note("0", "a")), Verdict::New { .. }));
        assert!(matches!(seen.count(&note(&REMEMBERED.to_string(), "a")), Verdict::Again { count: 2, .. }));
        assert!(seen.events.len() <= REMEMBERED && seen.similar.len() <= REMEMBERED);
    }

    #[test]
    fn what_could_not_be_written_is_new_the_next_time() {
        let mut seen = Seen::default();
        let Verdict::New { key, .. } = seen.count(&note("u", "a")) else { panic!("nothing was written yet") };
        seen.forget(&key);
        seen.forget(&key);
        assert!(matches!(seen.count(&note("u", "a")), Verdict::New { .. }));
    }
}
