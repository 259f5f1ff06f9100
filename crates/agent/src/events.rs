//! Events about pods and the node: recorded without waiting, repeated ones counted on one object.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `Normal`
    Normal,
    /// `Warning`
    Warning,
}

/// Takes events; cheap to clone. They are written in the background and dropped if the API can't keep up.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
}

struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Events that may wait to be written.
const QUEUE: usize = 4096;
/// Events written at the same time.
const WRITERS: usize = 8;
/// Distinct events remembered for counting.
const REMEMBERED: usize = 1024;
/// Distinct events of one reason about one object before they count as one.
const SIMILAR: u32 = 10;

impl Recorder {
    /// Starts the writer; it ends with the last clone of the recorder.
    pub fn start(client: Client, node_name: &str) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        tokio::spawn(write(client, node_name.to_owned(), notes));
        Self { queue }
    }

    /// Records an event about a pod.
    pub fn pod(&self, pod: &Pod, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.record(pod_reference(pod, None), severity, reason, message.into());
    }

    /// Records an event about one container of a pod.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.record(pod_reference(pod, Some(container)), severity, reason, message.into());
    }

    /// Records an event about the node.
    pub fn node(&self, node: &Node, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.record(about, severity, reason, message.into());
    }

    fn record(&self, about: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        let note = Note { about, severity, reason, message, at: Timestamp::now() };
        if self.queue.try_send(note).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait to be written");
        }
    }
}

fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|name| {
        let init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).any(|c| c.name == name);
        let ephemeral = pod.spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten()).any(|c| c.name == name);
        let list = match (init, ephemeral) {
            (true, _) => "initContainers",
            (_, true) => "ephemeralContainers",
            _ => "containers",
        };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

async fn write(client: Client, host: String, mut notes: mpsc::Receiver<Note>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let permits = Arc::new(Semaphore::new(WRITERS));
    while let Some(note) = notes.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let verdict = seen.lock().count(&note);
        let (client, host, seen) = (client.clone(), host.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
            let api: Api<Event> = Api::namespaced(client, &namespace);
            let result = match &verdict {
                Verdict::New { name, key } => {
                    let created = api.create(&PostParams::default(), &event(&note, name, &namespace, &host)).await;
                    if created.is_err() {
                        seen.lock().forget(key);
                    }
                    created
                }
                Verdict::Again { name, count } => {
                    let patch = serde_json::json!({
                        "count": count, "lastTimestamp": Time(note.at), "message": note.message,
                    });
                    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
                }
            };
            if let Err(error) = result {
                // A namespace that is going refuses new events: as upstream, they are lost.
                tracing::debug!(%error, reason = note.reason, "an event could not be written");
            }
            drop(permit);
        });
    }
}

fn event(note: &Note, name: &str, namespace: &str, host: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        type_: Some(if note.severity == Severity::Normal { "Normal" } else { "Warning" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(host.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(host.to_owned()),
        ..Event::default()
    }
}

enum Verdict {
    New { name: String, key: Key },
    Again { name: String, count: i32 },
}

type Key = (Option<String>, Option<String>, &'static str, String);

/// Which events were written lately.
#[derive(Default)]
struct Seen {
    events: HashMap<Key, (String, i32)>,
    order: VecDeque<Key>,
    similar: HashMap<(Option<String>, &'static str), u32>,
}

impl Seen {
    fn count(&mut self, note: &Note) -> Verdict {
        let about = note.about.uid.clone();
        let similar = self.similar.entry((about.clone(), note.reason)).or_default();
        // Many that differ in their text alone become one, so that a failing probe can't fill the store.
        let message = if *similar >= SIMILAR { String::new() } else { note.message.clone() };
        let key: Key = (about.clone(), note.about.field_path.clone(), note.reason, message);
        if let Some((name, count)) = self.events.get_mut(&key) {
            *count += 1;
            return Verdict::Again { name: name.clone(), count: *count };
        }
        *similar += 1;
        let name = format!("{}.{:x}", note.about.name.as_deref().unwrap_or("unknown"), note.at.as_nanosecond());
        self.events.insert(key.clone(), (name.clone(), 1));
        self.order.push_back(key.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
        Verdict::New { name, key }
    }

    fn forget(&mut self, key: &Key) {
        self.events.remove(key);
        let group = (key.0.clone(), key.2);
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
    use super::*;

    fn note(message: &str) -> Note {
        let about = ObjectReference { name: Some("p".into()), uid: Some("u".into()), ..ObjectReference::default() };
        Note {
            about,
            severity: Severity::Normal,
            reason: "Unhealthy",
            message: message.into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn repeated_events_are_counted_and_similar_ones_become_one() {
        let mut seen = Seen::default();
        assert!(matches!(seen.count(&note("a")), Verdict::New { .. }));
        assert!(matches!(seen.count(&note("a")), Verdict::Again { count: 2, .. }));
        for i in 1..SIMILAR {
            assert!(matches!(seen.count(&note(&i.to_string())), Verdict::New { .. }));
        }
        assert!(matches!(seen.count(&note("x")), Verdict::New { .. }), "the collective one");
        assert!(matches!(seen.count(&note("y")), Verdict::Again { count: 2, .. }));
    }
}
