//! WATCH: changes as they happen, from any revision that is kept. All watchers of a kind share the frames;
//! what a watcher has not read yet is not buffered for it: one that falls behind the kept changes is cut off.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use api::{
    resource::Resource,
    status::Status,
    table::{self, Header, IncludeObject},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::Revision;
use tokio::{sync::watch, time::Instant};

use crate::{
    body::{Body, BoxError},
    cache::{Cached, Change, ChangeKind, KindCache, ROUTED_FIELD, Tail, frame},
    call::{Call, Reply},
    failure::Outcome,
    metrics::{GoingOn, Labels},
    negotiate::{Format, Shape},
    protobuf,
    query::ListOptions,
    respond,
    selection::Selection,
    server::ApiServer,
    version,
};

/// Upstream's `--min-request-timeout`: watches without a timeout last between this and twice as long.
const LASTS_SECONDS: u64 = 1800;
/// Changes handed to a connection at a time.
const BATCH: usize = 16;

/// Objects that a watch begins with are joined to pieces of about so many bytes.
const INITIAL_BYTES: usize = 32 * 1024;

/// Where a watcher gets its next changes.
enum Source {
    /// The store's past, until the cache takes over.
    Past(store::Watch),
    /// The cache's kept changes after this revision.
    Cache(Revision),
}

struct Watcher {
    server: Arc<ApiServer>,
    resource: &'static Resource,
    kind: Arc<KindCache>,
    prefix: String,
    /// The only value of the routed field that is watched.
    route: Option<String>,
    selection: Selection,
    shape: Shape,
    format: Format,
    /// Without managed fields.
    lean: bool,
    include: IncludeObject,
    /// A table's column definitions go out once.
    headed: bool,
    bookmarks: Option<watch::Receiver<Revision>>,
    changes: watch::Receiver<Revision>,
    source: Source,
    deadline: Instant,
    /// Objects that the watch begins with and that are not sent yet.
    initial: std::vec::IntoIter<Arc<Cached>>,
    /// Frames not sent yet; they come after `initial`.
    ready: VecDeque<Bytes>,
    ended: bool,
    _open: GoingOn,
}

/// Answers with a stream of events.
pub(crate) async fn watch(call: &Call<'_>, options: &ListOptions) -> Outcome<Reply> {
    let selection = Selection::parse(call.resource, &options.labels, &options.fields)?;
    let cache = &call.server.cache;
    let kind = call.kind.clone();
    // Before anything is read, so that no change is missed.
    let routed = kind.is_routed() && version::is_stored(call.resource);
    let route = selection.required(ROUTED_FIELD).filter(|value| routed && !value.is_empty()).map(str::to_owned);
    let changes = kind.changes(route.as_deref());
    let seconds = options.timeout_seconds.unwrap_or_else(|| LASTS_SECONDS + rand::random_range(0..LASTS_SECONDS));
    let mut watcher = Watcher {
        server: call.server.clone(),
        resource: call.resource,
        prefix: kind.prefix(&call.path.namespace),
        route,
        selection,
        shape: call.accept.shape,
        format: call.accept.format,
        lean: call.accept.lean,
        include: respond::include_object(call)?,
        headed: false,
        bookmarks: options.bookmarks.then(|| cache.bookmarks()),
        changes,
        source: Source::Cache(0),
        deadline: Instant::now() + Duration::from_secs(seconds),
        initial: Vec::new().into_iter(),
        ready: VecDeque::new(),
        ended: false,
        kind,
        _open: GoingOn::count(call.server, Labels::of(call, "watch")),
    };
    let asked = options.resource_version;
    match asked {
        None => cache.fresh().await,
        Some(0) => {}
        Some(asked) => {
            cache.reach(asked).await.map_err(|e| Status::too_large_resource_version(asked, e.current))?;
        }
    }
    // Without a version, or with 0, upstream begins with what is there unless told not to.
    let initial = options.initial_events.unwrap_or(asked.is_none_or(|v| v == 0));
    match asked {
        Some(from) if from > 0 && !initial => watcher.start_from(from).await?,
        _ if initial => watcher.start_with_all(&call.path.namespace, options.initial_events == Some(true)),
        _ => watcher.source = Source::Cache(cache.applied().max(watcher.last())),
    }
    let frames = stream::unfold(watcher, |mut watcher| async move { Some((watcher.next().await?, watcher)) });
    let frames = frames.map(Ok::<Bytes, BoxError>).boxed();
    Ok(Reply::Response(respond::streaming(call.accept, Body::Stream(frames))))
}

impl Watcher {
    /// Revision of the last change that it may have to look at.
    fn last(&self) -> Revision {
        self.kind.last(self.route.as_deref())
    }

    async fn start_from(&mut self, from: Revision) -> Outcome<()> {
        if self.kind.covers(self.route.as_deref(), from) {
            self.source = Source::Cache(from);
            return Ok(());
        }
        match self.server.store.watch(&self.kind.root, from + 1).await {
            Ok(past) => self.source = Source::Past(past),
            // As upstream: the stream begins, and its only event is the error.
            Err(store::Error::Compacted { oldest, .. }) => self.fail(&too_old(from, oldest)),
            Err(error) => return Err(crate::failure::of_store(error)),
        }
        Ok(())
    }

    /// What is there as ADDED events, then (if asked for) the bookmark that says so.
    fn start_with_all(&mut self, namespace: &str, mark_end: bool) {
        let applied = self.server.cache.applied();
        let (kind, selection) = (self.kind.clone(), self.selection.clone());
        let snapshot = kind.snapshot(namespace, None, 0, |object| selection.wants(&kind, object));
        let revision = applied.max(snapshot.last);
        self.initial = snapshot.objects.into_iter();
        if mark_end && self.bookmarks.is_some() {
            let frame = self.bookmark(revision, true);
            self.ready.push_back(frame);
        }
        self.source = Source::Cache(revision);
    }

    /// The next frames; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if self.initial.len() > 0 {
            let mut joined = Vec::new();
            while joined.len() < INITIAL_BYTES
                && let Some(object) = self.initial.next()
            {
                joined.extend_from_slice(&self.frame_of(ChangeKind::Added, &object));
            }
            return Some(Bytes::from(joined));
        }
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            self.fill().await;
        }
    }

    /// Waits until there is something to send, or the end.
    async fn fill(&mut self) {
        match &mut self.source {
            Source::Past(past) => {
                let batch = tokio::select! {
                    batch = past.next() => batch,
                    () = tokio::time::sleep_until(self.deadline) => { self.ended = true; return }
                };
                match batch {
                    Some(Ok(events)) => self.take_past(events),
                    Some(Err(store::Error::Compacted { asked, oldest })) => self.fail(&too_old(asked, oldest)),
                    Some(Err(_)) | None => self.ended = true,
                }
            }
            Source::Cache(position) => {
                let position = *position;
                self.changes.borrow_and_update();
                match self.kind.tail(self.route.as_deref(), position, BATCH) {
                    Tail::Gone => self.ended = true,
                    Tail::Changes(changes) if changes.is_empty() => self.wait(position).await,
                    Tail::Changes(changes) => {
                        if let Some(last) = changes.last() {
                            self.source = Source::Cache(last.revision);
                        }
                        for change in &changes {
                            self.take(change);
                        }
                    }
                }
            }
        }
    }

    async fn wait(&mut self, position: Revision) {
        let bookmark = async {
            match &mut self.bookmarks {
                Some(bookmarks) => bookmarks.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.changes.changed() => self.ended = changed.is_err(),
            raised = bookmark => {
                // What has been applied but not looked at yet must not be skipped: the bookmark names the
                // last revision that this kind's tail was known to be empty at.
                let applied = self.server.cache.applied();
                if raised && self.last() <= position {
                    self.source = Source::Cache(applied.max(position));
                    let frame = self.bookmark(applied.max(position), false);
                    self.ready.push_back(frame);
                }
            }
            () = tokio::time::sleep_until(self.deadline) => {
                self.ended = true;
                let applied = self.server.cache.applied();
                if self.bookmarks.is_some() && self.last() <= position {
                    let frame = self.bookmark(applied.max(position), false);
                    self.ready.push_back(frame);
                }
            }
        }
    }

    /// Events of the store's past; switches to the cache as soon as that reaches back far enough.
    fn take_past(&mut self, events: Vec<store::Event>) {
        let Some(revision) = events.last().map(|e| e.revision) else { return };
        let cached = |entry: store::Entry| Arc::new(Cached::new(entry.key, entry.value, entry.mod_revision));
        for event in events {
            let change = match (event.current, event.previous) {
                (Some(current), previous) => Change::put(cached(current), previous.map(cached)),
                (None, Some(previous)) => Change::delete(cached(previous), event.revision),
                (None, None) => continue,
            };
            self.take(&change);
        }
        if self.kind.covers(self.route.as_deref(), revision) {
            self.source = Source::Cache(revision);
        }
    }

    /// What this watcher sees of a change.
    fn take(&mut self, change: &Change) {
        if !change.object.key.starts_with(&self.prefix) {
            return;
        }
        let kind = if self.selection.is_everything() {
            change.kind
        } else {
            let before = change.previous.as_ref().is_some_and(|p| self.selection.wants(&self.kind, p));
            let after = change.kind != ChangeKind::Deleted && self.selection.wants(&self.kind, &change.object);
            match (before, after) {
                (false, false) => return,
                (false, true) => ChangeKind::Added,
                (true, true) => ChangeKind::Modified,
                (true, false) => ChangeKind::Deleted,
            }
        };
        let frame = if kind == change.kind && self.shape == Shape::Object && version::is_stored(self.resource) {
            match (self.format, self.lean) {
                (Format::Protobuf, false) => change.protobuf_frame(),
                (Format::Protobuf, true) => self.frame_of(kind, &change.object),
                (_, false) => change.frame(),
                (_, true) => change.lean_frame(),
            }
        } else if kind == ChangeKind::Deleted && change.kind == ChangeKind::Modified {
            // The object left the selection: its last state within it, at the revision of the change.
            match &change.previous {
                Some(previous) => {
                    let last = Change::delete(previous.clone(), change.revision);
                    self.frame_of(kind, &last.object)
                }
                None => return,
            }
        } else {
            self.frame_of(kind, &change.object)
        };
        self.ready.push_back(frame);
    }

    fn frame_of(&mut self, kind: ChangeKind, object: &Cached) -> Bytes {
        let bytes = version::served_bytes(self.resource, &object.bytes);
        match self.shape {
            Shape::Object if self.lean => self.framed(kind.word(), &respond::lean(bytes)),
            Shape::Object => self.framed(kind.word(), &bytes),
            Shape::Metadata => self.framed(kind.word(), &respond::metadata_only(&bytes, self.lean)),
            Shape::Table => {
                let bytes = if self.lean { respond::lean(bytes) } else { bytes };
                let tree: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let revision = object.revision.to_string();
                let header = Header { resource_version: &revision, without_columns: self.headed, ..Header::default() };
                let table = table::render(self.resource, [&tree], self.include, &header, Timestamp::now());
                self.headed = true;
                self.framed(kind.word(), table.to_string().as_bytes())
            }
        }
    }

    fn bookmark(&self, revision: Revision, end_of_initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if end_of_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = match self.shape {
            Shape::Object => (self.resource.kind, self.resource.api_version),
            Shape::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
            Shape::Table => ("Table", "meta.k8s.io/v1"),
        };
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if self.shape == Shape::Table {
            object["columnDefinitions"] = json!([]);
            let inner = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
            object["rows"] = json!([{"cells": [], "object": inner}]);
        }
        self.framed("BOOKMARK", object.to_string().as_bytes())
    }

    /// An event in the client's format.
    fn framed(&self, word: &str, object: &[u8]) -> Bytes {
        if self.format == Format::Protobuf { protobuf::event(word, object) } else { frame(word, object) }
    }

    fn fail(&mut self, status: &Status) {
        let frame = self.framed("ERROR", &status.to_json());
        self.ready.push_back(frame);
        self.ended = true;
    }
}

fn too_old(asked: Revision, oldest: Revision) -> Status {
    Status::expired(format!("too old resource version: {asked} ({oldest})"))
}
