//! Events as upstream's controllers and its kubelet write them: recorded without waiting, equal ones counted on one
//! object, and those that differ in their words alone become one when they are too many.
//!
//! They are `v1` Events with a source, times and a count, by which people sort and filter.

mod seen;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams, Request},
};
use parking_lot::Mutex;
use seen::{Seen, Verdict};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `Normal`
    Normal,
    /// `Warning`
    Warning,
}

/// Takes events in the name of one component. Cheap to clone. They are written in the background and dropped if the
/// API can't keep up.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
}

/// What is to be told.
struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    annotations: BTreeMap<String, String>,
    at: Timestamp,
}

/// Events that may wait to be written.
const QUEUE: usize = 4096;
/// Events written at the same time by a component beside the API.
const WRITERS: usize = 8;
/// Events written at the same time by each host: every one of them takes a connection, and there are many hosts.
const WRITERS_OF_HOST: usize = 2;

impl Recorder {
    /// Starts the writer; it ends with the last clone of the recorder. `component` is what `kubectl describe` shows as
    /// the source.
    pub fn start(client: Client, component: &str) -> Self {
        Self::of(client, EventSource { component: Some(component.to_owned()), host: None })
    }

    /// The same for a component of which each host has one.
    pub fn start_on(client: Client, component: &str, host: &str) -> Self {
        Self::of(client, EventSource { component: Some(component.to_owned()), host: Some(host.to_owned()) })
    }

    fn of(client: Client, source: EventSource) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        tokio::spawn(write(client, source, notes));
        Self { queue }
    }

    /// Something went as it should.
    pub fn normal(&self, object: &impl Resource<DynamicType = ()>, reason: &str, message: impl Into<String>) {
        self.record(object.object_ref(&()), Severity::Normal, reason, message);
    }

    /// Something did not.
    pub fn warning(&self, object: &impl Resource<DynamicType = ()>, reason: &str, message: impl Into<String>) {
        self.record(object.object_ref(&()), Severity::Warning, reason, message);
    }

    /// Records an event about something. About what has no namespace, it goes to `default`.
    pub fn record(&self, about: ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        self.record_annotated(about, BTreeMap::new(), severity, reason, message);
    }

    /// The same, with annotations on the event for programs that read it.
    pub fn record_annotated(
        &self,
        about: ObjectReference,
        annotations: BTreeMap<String, String>,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let (reason, message) = (reason.to_owned(), message.into());
        let note = Note { about, severity, reason, message, annotations, at: Timestamp::now() };
        if let Err(error) = self.queue.try_send(note) {
            tracing::debug!(%error, "an event was dropped: too many wait to be written");
        }
    }
}

async fn write(client: Client, source: EventSource, mut notes: mpsc::Receiver<Note>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let writers = if source.host.is_some() { WRITERS_OF_HOST } else { WRITERS };
    let permits = Arc::new(Semaphore::new(writers));
    while let Some(note) = notes.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        // Counted in the order in which they came.
        let verdict = seen.lock().count(&note);
        let (client, source, seen) = (client.clone(), source.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            if let Err(error) = put(&client, source, &seen, &note, verdict).await {
                // A namespace that is going refuses new events: as upstream, they are lost.
                tracing::debug!(%error, reason = note.reason, "an event could not be written");
            }
            drop(permit);
        });
    }
}

/// Writes one event, or counts it on the one that is there.
async fn put(
    client: &Client,
    source: EventSource,
    seen: &Mutex<Seen>,
    note: &Note,
    mut verdict: Verdict,
) -> Result<(), kube::Error> {
    let namespace = note.about.namespace.as_deref().unwrap_or("default");
    if let Verdict::Again { name, key, count, combined, written } = &verdict {
        let patch = serde_json::json!({
            "count": count, "lastTimestamp": Time(note.at), "message": message(note, *combined),
        });
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // Deleted, or kept for long enough: it begins anew.
            Err(kube::Error::Api(error)) if error.code == 404 && *written => {
                let mut seen = seen.lock();
                seen.forget(key);
                verdict = seen.count(note);
            }
            result => return result.map(drop),
        }
    }
    // Otherwise another writer has just begun it anew.
    let Verdict::New { name, key, combined } = verdict else { return Ok(()) };
    let created = create(client, namespace, &event(note, combined, name, namespace, source)).await;
    match created {
        Ok(()) => seen.lock().written(&key),
        Err(_) => seen.lock().forget(&key),
    }
    created
}

/// Creates an event of either API, and does not take the answer apart: nobody looks at it.
///
/// # Errors
/// The API's, or the connection's.
pub async fn create<E>(client: &Client, namespace: &str, event: &E) -> Result<(), kube::Error>
where
    E: Resource<DynamicType = ()> + Serialize,
{
    let body = serde_json::to_vec(event).map_err(kube::Error::SerdeError)?;
    let request = Request::new(E::url_path(&(), Some(namespace))).create(&PostParams::default(), body);
    client.request_text(request.map_err(kube::Error::BuildRequest)?).await.map(drop)
}

fn message(note: &Note, combined: bool) -> String {
    if combined { format!("(combined from similar events): {}", note.message) } else { note.message.clone() }
}

fn event(note: &Note, combined: bool, name: String, namespace: &str, source: EventSource) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            annotations: Some(note.annotations.clone()).filter(|a| !a.is_empty()),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.clone()),
        message: Some(message(note, combined)),
        type_: Some(if note.severity == Severity::Normal { "Normal" } else { "Warning" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        source: Some(source),
        ..Event::default()
    }
}
