//! Enough of the Kubernetes API, in memory, for one node's agent: any resource can be created, read, listed, watched,
//! patched and deleted; status patches merge conditions by type.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// The server. Cheap to clone.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<(u64, &'static str, String, Value)>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By path of the object, for instance `/api/v1/namespaces/default/pods/web`.
    objects: BTreeMap<String, Value>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl FakeApi {
    pub fn new() -> Self {
        Self { state: Arc::default(), events: broadcast::channel(65_536).0 }
    }

    pub fn client(&self) -> kube::Client {
        kube::Client::new(Service(self.clone()), "default")
    }

    /// Stores an object as a user would; its path is that of its collection.
    pub fn put(&self, collection: &str, mut object: Value) -> Value {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let path = format!("{collection}/{name}");
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{revision}"));
        }
        if let Some(namespace) = collection.split("/namespaces/").nth(1).and_then(|p| p.split('/').next()) {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let kind = if state.objects.contains_key(&path) { "MODIFIED" } else { "ADDED" };
        state.objects.insert(path.clone(), object.clone());
        let _ = self.events.send((revision, kind, path, object.clone()));
        object
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    pub fn all(&self, collection: &str) -> Vec<Value> {
        let prefix = format!("{collection}/");
        let state = self.state.lock();
        state.objects.iter().filter(|(p, _)| p.starts_with(&prefix)).map(|(_, o)| o.clone()).collect()
    }

    /// Changes an object in place.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        let object = state.objects.get_mut(path).expect("the object exists");
        change(object);
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let object = object.clone();
        let _ = self.events.send((revision, "MODIFIED", path.to_owned(), object));
    }

    pub fn remove(&self, path: &str) -> bool {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        let Some(mut object) = state.objects.remove(path) else { return false };
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let _ = self.events.send((revision, "DELETED", path.to_owned(), object));
        true
    }

    /// Waits until `check` holds for the object.
    pub async fn until<T>(&self, path: &str, mut check: impl FnMut(Option<&Value>) -> Option<T>) -> T {
        let mut events = self.events.subscribe();
        let deadline = tokio::time::sleep(std::time::Duration::from_secs(20));
        tokio::pin!(deadline);
        loop {
            if let Some(found) = check(self.get(path).as_ref()) {
                return found;
            }
            tokio::select! {
                event = events.recv() => drop(event.expect("the server lives")),
                () = &mut deadline => panic!("{path} did not come to what was expected: {:#?}", self.get(path)),
            }
        }
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|p| p.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.replace("%3D", "=")))
            .collect();
        let path = parts.uri.path().to_owned();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        match parts.method {
            Method::POST if path.ends_with("/token") => {
                reply(201, &json!({"status": {"token": "a-token", "expirationTimestamp": "2099-01-01T00:00:00Z"}}))
            }
            Method::POST => {
                let name = sent["metadata"]["name"].as_str().unwrap_or_default();
                if self.get(&format!("{path}/{name}")).is_some() {
                    return failure(409, "AlreadyExists");
                }
                reply(201, &self.put(&path, sent))
            }
            Method::PATCH => {
                let target = path.strip_suffix("/status").unwrap_or(&path);
                match self.get(target) {
                    None => failure(404, "NotFound"),
                    Some(old) => {
                        let uid = &sent["metadata"]["uid"];
                        if !uid.is_null() && *uid != old["metadata"]["uid"] {
                            return failure(409, "Conflict");
                        }
                        self.edit(target, |object| merge(object, &sent));
                        reply(200, &self.get(target).unwrap_or_default())
                    }
                }
            }
            Method::DELETE => {
                let uid = &sent["preconditions"]["uid"];
                match self.get(&path) {
                    Some(old) if uid.is_null() || *uid == old["metadata"]["uid"] => {
                        self.remove(&path);
                        reply(200, &json!({"kind": "Status", "status": "Success"}))
                    }
                    Some(_) => failure(409, "Conflict"),
                    None => failure(404, "NotFound"),
                }
            }
            Method::GET if query.get("watch").is_some_and(|w| w == "true") => self.watch(path, &query),
            Method::GET => match self.get(&path) {
                Some(object) => reply(200, &object),
                None if is_collection(&path) => {
                    let selector = query.get("fieldSelector").cloned().unwrap_or_default();
                    let state = self.state.lock();
                    let items: Vec<&Value> = state
                        .objects
                        .iter()
                        .filter(|(p, o)| below(p, &path) && selected(o, &selector))
                        .map(|(_, o)| o)
                        .collect();
                    reply(
                        200,
                        &json!({"kind": "List", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items}),
                    )
                }
                None => failure(404, "NotFound"),
            },
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn watch(&self, path: String, query: &BTreeMap<String, String>) -> Answer {
        let from: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let selector = query.get("fieldSelector").cloned().unwrap_or_default();
        let state = self.state.lock();
        let events = self.events.subscribe();
        // What changed between the list and this watch.
        let mut missed: Vec<Value> = state
            .objects
            .iter()
            .filter(|(p, o)| below(p, &path) && selected(o, &selector) && revision(o) > from)
            .map(|(_, o)| json!({"type": "MODIFIED", "object": o}))
            .collect();
        missed.sort_by_key(|e| revision(&e["object"]));
        drop(state);
        let later =
            futures::stream::unfold(events, |mut events| async move { Some((events.recv().await.ok()?, events)) });
        let later = futures::StreamExt::filter_map(later, move |(_, kind, p, object)| {
            let wanted = below(&p, &path) && selected(&object, &selector);
            futures::future::ready(wanted.then(|| json!({"type": kind, "object": object})))
        });
        let all = futures::StreamExt::chain(futures::stream::iter(missed), later);
        let frames =
            futures::StreamExt::map(all, |event| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(StreamBody::new(futures::StreamExt::boxed(frames)).boxed_unsync())
    }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// `/api/v1/pods` holds the pods of all namespaces.
fn below(object: &str, collection: &str) -> bool {
    if let Some(rest) = object.strip_prefix(collection) {
        return rest.starts_with('/') && !rest[1..].contains('/');
    }
    let Some((base, plural)) = collection.rsplit_once('/') else { return false };
    let Some(rest) = object.strip_prefix(base).and_then(|r| r.strip_prefix("/namespaces/")) else { return false };
    rest.split('/').nth(1) == Some(plural) && rest.split('/').count() == 3
}

fn is_collection(path: &str) -> bool {
    matches!(
        path.rsplit('/').next(),
        Some(
            "pods"
                | "services"
                | "nodes"
                | "namespaces"
                | "configmaps"
                | "secrets"
                | "events"
                | "endpointslices"
                | "leases"
        )
    )
}

fn selected(object: &Value, selector: &str) -> bool {
    selector.split(',').filter(|s| !s.is_empty()).all(|term| {
        let (path, value) = term.split_once('=').unwrap_or((term, ""));
        let pointer = format!("/{}", path.replace('.', "/"));
        object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default() == value
    })
}

fn merge(old: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *old = patch.clone();
        return;
    };
    if !old.is_object() {
        *old = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            old.as_object_mut().expect("an object").remove(name);
        } else if name == "conditions" {
            let list = old[name].as_array().cloned().unwrap_or_default();
            let mut list: Vec<Value> = list;
            for condition in value.as_array().into_iter().flatten() {
                if condition["$patch"] == "delete" {
                    list.retain(|c| c["type"] != condition["type"]);
                    continue;
                }
                match list.iter_mut().find(|c| c["type"] == condition["type"]) {
                    Some(same) => merge(same, condition),
                    None => list.push(condition.clone()),
                }
            }
            old[name] = Value::Array(list);
        } else if name == "podIPs" || name == "hostIPs" {
            let list = value.as_array().into_iter().flatten().filter(|e| e.get("$patch").is_none()).cloned().collect();
            old[name] = Value::Array(list);
        } else {
            merge(&mut old[name], value);
        }
    }
}

fn reply(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(code).header("content-type", "application/json").body(body).expect("a response")
}

fn failure(code: u16, reason: &str) -> Answer {
    let message = if reason == "Conflict" { "Precondition failed: UID in precondition" } else { reason };
    reply(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}

#[derive(Clone)]
struct Service(FakeApi);

impl tower::Service<Request<Body>> for Service {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.0.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}
