//! As much of an API server as controllers need: objects by their paths, lists, watches, applies, statuses.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The server. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By path, as `/api/v1/namespaces/default/services/web`.
    objects: BTreeMap<String, Value>,
    /// By collection, as `/api/v1/services`.
    watches: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
    /// How many lists there were, and how many starts of watches are still to be refused.
    lists: BTreeMap<String, usize>,
    refused_watches: BTreeMap<String, usize>,
    /// How many writes of a path are still to fail, and how many have.
    conflicts: BTreeMap<String, usize>,
    conflicted: usize,
    events: Vec<Value>,
}

/// What a path stands for.
struct Place {
    collection: String,
    object: Option<String>,
    is_status: bool,
}

impl Place {
    fn of(path: &str) -> Self {
        let all: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = all.split_at(if all[0] == "api" { 2 } else { 3 });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let group = format!("/{}", group.join("/"));
        let object = rest.get(1).map(|name| match namespace {
            Some(namespace) => format!("{group}/namespaces/{namespace}/{}/{name}", rest[0]),
            None => format!("{group}/{}/{name}", rest[0]),
        });
        Self { collection: format!("{group}/{}", rest[0]), object, is_status: rest.get(2) == Some(&"status") }
    }
}

impl Api {
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Writes an object as somebody else would; `heard` says whether watches tell of it.
    pub fn put(&self, path: &str, object: Value, heard: bool) {
        self.state.lock().put(path, object, heard);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes an object away, as somebody else would.
    pub fn remove(&self, path: &str, heard: bool) {
        self.state.lock().remove(path, heard);
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    /// How often a collection was listed.
    pub fn lists(&self, collection: &str) -> usize {
        self.state.lock().lists.get(collection).copied().unwrap_or(0)
    }

    /// Ends the watches of a collection; with the word that their version is too old, if so.
    pub fn end_watches(&self, collection: &str, expired: bool) {
        let mut state = self.state.lock();
        if expired {
            let status = json!({"type": "ERROR", "object": status(410, "Expired", "too old resource version")});
            state.tell(collection, &status);
        }
        state.watches.retain(|(of, _)| of != collection);
    }

    /// The next start of a watch is answered with 410 itself.
    pub fn refuse_watch(&self, collection: &str) {
        *self.state.lock().refused_watches.entry(collection.to_owned()).or_default() += 1;
    }

    /// The next so many writes of an object (or of its status: with `/status` behind it) lose against others.
    pub fn conflict(&self, path: &str, times: usize) {
        self.state.lock().conflicts.insert(path.to_owned(), times);
    }

    /// The events about an object, as `Warning Reason message`.
    pub fn events_of(&self, kind: &str, name: &str) -> Vec<String> {
        let about = |event: &&Value| event["involvedObject"]["kind"] == kind && event["involvedObject"]["name"] == name;
        let text =
            |event: &Value| ["type", "reason", "message"].map(|field| event[field].as_str().unwrap_or("").to_owned());
        self.state.lock().events.iter().filter(about).map(|event| text(event).join(" ")).collect()
    }

    pub fn conflicted(&self) -> usize {
        self.state.lock().conflicted
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let reached = async {
            while !so(self) {
                changed.changed().await.expect("the server is there");
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        assert!(reached.is_ok(), "{what}: {:#?}", self.state.lock().objects);
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let place = Place::of(head.uri.path());
        let answer = self.state.lock().answer(&head, &place, &body);
        self.changed.send_modify(|count| *count += 1);
        answer
    }
}

impl State {
    fn answer(&mut self, head: &http::request::Parts, place: &Place, body: &[u8]) -> Answer {
        let collection = &place.collection;
        let Some(path) = &place.object else {
            if head.method == Method::POST {
                // Only events are made so.
                let event: Value = serde_json::from_slice(body).unwrap_or_default();
                self.events.push(event.clone());
                return whole(201, &event);
            }
            let is_watch = head.uri.query().is_some_and(|query| query.split('&').any(|word| word == "watch=true"));
            return if is_watch { self.watch(collection) } else { self.list(collection) };
        };
        if head.method != Method::GET {
            let part = if place.is_status { format!("{path}/status") } else { path.clone() };
            if let Some(left @ 1..) = self.conflicts.get_mut(&part) {
                *left -= 1;
                self.conflicted += 1;
                return whole(409, &status(409, "Conflict", "the object has been modified"));
            }
        }
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        match (&head.method, self.objects.get(path).cloned()) {
            (&Method::PATCH, Some(mut object)) if place.is_status => {
                for (field, value) in said["status"].as_object().into_iter().flatten() {
                    object["status"][field] = value.clone();
                }
                self.put(path, object, true);
            }
            (&Method::PATCH, _) if !place.is_status => self.put(path, said, true),
            (&Method::PUT, Some(_)) => self.put(path, said, true),
            (_, None) => return whole(404, &status(404, "NotFound", "not found")),
            (&Method::DELETE, Some(_)) => {
                self.remove(path, true);
                return whole(200, &status(200, "", ""));
            }
            _ => {}
        }
        whole(200, &self.objects[path])
    }

    fn list(&mut self, collection: &str) -> Answer {
        *self.lists.entry(collection.to_owned()).or_default() += 1;
        let items: Vec<&Value> =
            self.objects.iter().filter(|(path, _)| Place::of(path).collection == collection).map(|(_, o)| o).collect();
        let version = self.version.to_string();
        whole(
            200,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
        )
    }

    fn watch(&mut self, collection: &str) -> Answer {
        if let Some(left @ 1..) = self.refused_watches.get_mut(collection) {
            *left -= 1;
            return whole(410, &status(410, "Expired", "too old resource version"));
        }
        let (sender, events) = mpsc::unbounded();
        self.watches.push((collection.to_owned(), sender));
        Response::new(BodyExt::boxed(StreamBody::new(events.map(|line| Ok(Frame::data(line))))))
    }

    fn put(&mut self, path: &str, mut object: Value, heard: bool) {
        let before = self.objects.get(path);
        let kept = |field: &str| before.and_then(|before| before.pointer(field)).cloned();
        object["metadata"]["uid"] = kept("/metadata/uid").unwrap_or_else(|| json!(format!("uid of {path}")));
        if let (Value::Null, Some(status)) = (&object["status"], kept("/status")) {
            object["status"] = status;
        }
        object["metadata"]["resourceVersion"] = kept("/metadata/resourceVersion").unwrap_or_default();
        if before == Some(&object) {
            return;
        }
        let of_type = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if heard {
            self.tell(&Place::of(path).collection, &json!({"type": of_type, "object": object}));
        }
        self.objects.insert(path.to_owned(), object);
    }

    fn remove(&mut self, path: &str, heard: bool) {
        let Some(mut object) = self.objects.remove(path) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if heard {
            self.tell(&Place::of(path).collection, &json!({"type": "DELETED", "object": object}));
        }
    }

    fn tell(&mut self, collection: &str, event: &Value) {
        let line = Bytes::from(format!("{event}\n"));
        self.watches.retain(|(of, watch)| of != collection || watch.unbounded_send(line.clone()).is_ok());
    }
}

fn whole(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    let answer = Response::builder().status(code).header("content-type", "application/json");
    answer.body(body).expect("a status and a field are all there is to it")
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    let said = if code < 400 { "Success" } else { "Failure" };
    json!({"kind": "Status", "apiVersion": "v1", "status": said, "code": code, "reason": reason, "message": message})
}
