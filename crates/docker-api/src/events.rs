//! What happened, for `docker events`.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::filters::Filters;

/// How many past events `--since` can reach, as in dockerd.
const REMEMBERED: usize = 256;

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// `container`, `image`, `volume`, `network`, `daemon`.
    pub kind: &'static str,
    pub action: String,
    /// The ID (or name, of volumes).
    pub actor: String,
    pub attributes: BTreeMap<String, String>,
    pub at: Timestamp,
}

/// The past and those who wait for the future.
#[derive(Default)]
pub(crate) struct EventLog(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    past: VecDeque<Event>,
    subscribers: Vec<mpsc::UnboundedSender<Event>>,
}

impl EventLog {
    /// Tells everybody.
    pub fn emit(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let event = Event { kind, action: action.into(), actor: actor.into(), attributes, at: Timestamp::now() };
        let mut inner = self.0.lock();
        if inner.past.len() == REMEMBERED {
            inner.past.pop_front();
        }
        inner.past.push_back(event.clone());
        inner.subscribers.retain(|subscriber| subscriber.send(event.clone()).is_ok());
    }

    /// The past, and what comes from now on, without a gap.
    pub fn subscribe(&self) -> (Vec<Event>, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.0.lock();
        inner.subscribers.push(sender);
        (inner.past.iter().cloned().collect(), receiver)
    }
}

impl Event {
    /// As it is sent.
    pub fn json(&self) -> Value {
        let mut value = json!({
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.actor, "Attributes": self.attributes},
            "scope": "local",
            "time": self.at.as_second(),
            "timeNano": i64::try_from(self.at.as_nanosecond()).unwrap_or(i64::MAX),
        });
        // What clients before the API's version 1.22 read, and some still do.
        if matches!(self.kind, "container" | "image") {
            value["status"] = self.action.clone().into();
            value["id"] = self.actor.clone().into();
            if let Some(image) = self.attributes.get("image") {
                value["from"] = image.clone().into();
            }
        }
        value
    }

    /// Whether the filters let it pass.
    pub fn passes(&self, filters: &Filters) -> bool {
        let name = self.attributes.get("name").map_or("", String::as_str);
        let of = |kind: &str, wanted: &str| {
            // The beginning of either will do, as for dockerd.
            self.kind == kind && (self.actor.starts_with(wanted) || name.starts_with(wanted.trim_start_matches('/')))
        };
        let action = self.action.split(':').next().unwrap_or_default();
        filters.any("type", |wanted| wanted == self.kind)
            && filters.any("event", |wanted| wanted == action || wanted == self.action)
            && filters.any("container", |wanted| of("container", wanted))
            && filters.any("image", |wanted| {
                let image = self.attributes.get("image").map_or("", String::as_str);
                of("image", wanted) || image == wanted || image.split(':').next() == Some(wanted)
            })
            && filters.any("volume", |wanted| of("volume", wanted))
            && filters.any("network", |wanted| of("network", wanted))
            && filters.any("daemon", |wanted| of("daemon", wanted))
            && filters.any("scope", |wanted| wanted == "local")
            && filters.labels(&self.attributes)
    }
}
