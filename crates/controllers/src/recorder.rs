//! Events: written beside the work, never in its way; equal ones become one that counts, as those of upstream's
//! controllers do: what they say tells them apart, until too many say nearly the same.

use std::collections::VecDeque;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder as KubeRecorder, Reporter},
};
use tokio::sync::mpsc;

/// More than this under way at once and events are dropped: they are information, not state.
const BACKLOG: usize = 1_000;

/// Events that are remembered, for the next equal ones.
const REMEMBERED: usize = 256;
/// So many events of one reason about one object may differ in their words; the rest become one.
const SIMILAR: usize = 10;

/// Records events in the name of one controller. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<(Event, ObjectReference)>);

impl Recorder {
    /// `component` is what `kubectl describe` shows as the source.
    pub fn new(client: Client, component: &str) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Event, ObjectReference)>(BACKLOG);
        let reporter = Reporter { controller: component.to_owned(), instance: None };
        tokio::spawn(async move {
            let mut recent = Recent::default();
            while let Some((mut event, object)) = receiver.recv().await {
                let key = (object.uid.clone().unwrap_or_default(), event.reason.clone());
                let note = event.note.take().unwrap_or_default();
                // A recorder counts by object and reason alone: each series has one of its own.
                let make = || KubeRecorder::new(client.clone(), reporter.clone());
                let (recorder, combined) = recent.find(key, &note, make);
                let recorder = recorder.clone();
                event.note = Some(if combined { format!("(combined from similar events): {note}") } else { note });
                if let Err(error) = recorder.publish(&event, &object).await {
                    tracing::debug!(%error, "an event was not recorded");
                }
            }
        });
        Self(sender)
    }

    /// Something went as it should.
    pub fn normal(&self, object: &impl Resource<DynamicType = ()>, reason: &str, action: &str, note: String) {
        self.record(EventType::Normal, object, reason, action, note);
    }

    /// Something did not.
    pub fn warning(&self, object: &impl Resource<DynamicType = ()>, reason: &str, action: &str, note: String) {
        self.record(EventType::Warning, object, reason, action, note);
    }

    fn record(
        &self,
        type_: EventType,
        object: &impl Resource<DynamicType = ()>,
        reason: &str,
        action: &str,
        note: String,
    ) {
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        let _ = self.0.try_send((event, object.object_ref(&())));
    }
}

/// The UID of an object, and a reason.
type Key = (String, String);

/// The series of late, the newest last; `None` stands for all words.
struct Recent<R>(VecDeque<(Key, Option<String>, R)>);

impl<R> Default for Recent<R> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<R> Recent<R> {
    /// The series of an event, and whether it is that of all that say nearly the same.
    fn find(&mut self, key: Key, note: &str, make: impl FnOnce() -> R) -> (&R, bool) {
        let same = self.0.iter().position(|(k, n, _)| *k == key && n.as_deref() == Some(note));
        let similar = || self.0.iter().filter(|(k, n, _)| *k == key && n.is_some()).count();
        let combined = same.is_none() && similar() >= SIMILAR;
        let known = if combined { self.0.iter().position(|(k, n, _)| *k == key && n.is_none()) } else { same };
        let entry = known.and_then(|at| self.0.remove(at));
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(entry.unwrap_or_else(|| (key, (!combined).then(|| note.to_owned()), make())));
        (&self.0[self.0.len() - 1].2, combined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_events_apart_until_there_are_too_many() {
        let mut recent = Recent::<usize>::default();
        let mut made = 0;
        let mut find = |object: &str, note: &str| {
            let make = || {
                made += 1;
                made
            };
            let (series, combined) = recent.find((object.to_owned(), "Scaled".to_owned()), note, make);
            (*series, combined)
        };
        assert_eq!((find("a", "up"), find("a", "down"), find("a", "up")), ((1, false), (2, false), (1, false)));
        assert_eq!(find("b", "up"), (3, false));
        for more in 2..SIMILAR {
            assert!(!find("a", &more.to_string()).1);
        }
        let combined = find("a", "one more");
        assert!(combined.1);
        assert_eq!(find("a", "and another"), combined);
        assert_eq!(find("a", "up"), (1, false), "what was there goes on");
        for other in 0..REMEMBERED {
            find(&format!("c{other}"), "up");
        }
        assert_ne!(find("a", "up").0, 1, "long ago");
    }
}
