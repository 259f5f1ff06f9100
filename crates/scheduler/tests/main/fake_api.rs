//! Just enough of an API server, in memory: lists and watches of pods, nodes, namespaces and disruption budgets,
//! bindings, status patches, deletions and events.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

type ResponseBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

#[derive(Clone, Default)]
pub struct FakeApi(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: Vec<Value>,
    /// Each change ever, for watches: (revision, plural, line).
    log: Vec<(u64, &'static str, Bytes)>,
    watches: Vec<(&'static str, mpsc::UnboundedSender<Bytes>)>,
    /// Refusals of the next bindings: code and message.
    refuse: Vec<(u16, String)>,
    bindings: usize,
    /// Bindings wait for it.
    gate: Option<Arc<Notify>>,
    events: Vec<Value>,
}

impl FakeApi {
    pub fn client(&self) -> kube::Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move { Ok::<_, std::convert::Infallible>(this.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Creates or replaces an object of kind `Pod`, `Node` or `Namespace`.
    pub fn put(&self, mut object: Value) {
        let mut state = self.0.state.lock();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        let same = |o: &Value| o["kind"] == object["kind"] && full_name(o) == full_name(&object);
        let change = match state.objects.iter().position(same) {
            Some(at) => {
                state.objects[at] = object.clone();
                "MODIFIED"
            }
            None => {
                state.objects.push(object.clone());
                "ADDED"
            }
        };
        state.tell(change, &object);
        self.0.changed.notify_waiters();
    }

    pub fn delete(&self, kind: &str, name: &str) {
        let mut state = self.0.state.lock();
        let at = state.objects.iter().position(|o| o["kind"] == kind && o["metadata"]["name"] == name).expect("exists");
        let mut object = state.objects.remove(at);
        state.revision += 1;
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        state.tell("DELETED", &object);
        self.0.changed.notify_waiters();
    }

    pub fn pod(&self, name: &str) -> Value {
        self.get("Pod", name)
    }

    pub fn get(&self, kind: &str, name: &str) -> Value {
        let state = self.0.state.lock();
        state.objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).expect("exists").clone()
    }

    /// Annotations and the spec's fields that a merge patch brings, unless the object has changed meanwhile.
    fn merge(&self, kind: &str, name: &str, patch: &Value) -> Response<ResponseBody> {
        let mut object = self.get(kind, name);
        let pinned = &patch["metadata"]["resourceVersion"];
        assert!(pinned.is_null() || *pinned == object["metadata"]["resourceVersion"]);
        for (key, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
            object["metadata"]["annotations"][key] = value.clone();
        }
        for (key, value) in patch["spec"].as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        self.put(object);
        json_response(StatusCode::OK, &self.get(kind, name))
    }

    pub fn events(&self, reason: &str) -> Vec<Value> {
        self.0.state.lock().events.iter().filter(|e| e["reason"] == reason).cloned().collect()
    }

    pub fn bindings(&self) -> usize {
        self.0.state.lock().bindings
    }

    /// Refuses the next binding.
    pub fn refuse_binding(&self, code: u16, message: &str) {
        self.0.state.lock().refuse.push((code, message.into()));
    }

    /// Holds all bindings until `open` is called.
    pub fn hold_bindings(&self) -> impl FnOnce() {
        let gate = Arc::new(Notify::new());
        self.0.state.lock().gate = Some(gate.clone());
        let this = self.clone();
        move || {
            this.0.state.lock().gate = None;
            gate.notify_one();
        }
    }

    /// Waits until something holds, looking again at each change.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("not within 20 s: {what}"));
    }

    pub async fn until_bound(&self, pod: &str) -> String {
        self.until(&format!("{pod} is bound"), |api| api.pod(pod)["spec"]["nodeName"].is_string()).await;
        self.pod(pod)["spec"]["nodeName"].as_str().expect("a string").to_owned()
    }

    async fn answer(&self, request: Request<Body>) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a body in memory").to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        let path: Vec<&str> = parts.uri.path().trim_start_matches('/').split('/').collect();
        let query = parts.uri.query().unwrap_or_default();
        match (&parts.method, &path[..]) {
            (&Method::GET, ["api", "v1", plural] | ["apis", "policy" | "storage.k8s.io", "v1", plural]) => {
                if query.contains("watch=true") { self.watch(plural, query) } else { self.list(plural) }
            }
            (&Method::PATCH, ["api", "v1", "namespaces", _, "persistentvolumeclaims", name]) => {
                self.merge("PersistentVolumeClaim", name, &body)
            }
            (&Method::PATCH, ["api", "v1", "persistentvolumes", name]) => self.merge("PersistentVolume", name, &body),
            (&Method::POST, ["api", "v1", "namespaces", _, "pods", name, "binding"]) => {
                let gate = {
                    let mut state = self.0.state.lock();
                    state.bindings += 1;
                    state.gate.clone()
                };
                self.0.changed.notify_waiters();
                if let Some(gate) = gate {
                    gate.notified().await;
                }
                self.bind(name, &body)
            }
            (&Method::PATCH, ["api", "v1", "namespaces", _, "pods", name, "status"]) => {
                assert_eq!(parts.headers["content-type"], "application/strategic-merge-patch+json");
                let mut pod = self.pod(name);
                assert_eq!(body["metadata"]["uid"], pod["metadata"]["uid"]);
                if let Value::Array(conditions) = &body["status"]["conditions"] {
                    for condition in conditions {
                        set_condition(&mut pod, condition);
                    }
                }
                if let Some(node) = body["status"].get("nominatedNodeName") {
                    pod["status"]["nominatedNodeName"] = node.clone();
                }
                self.put(pod.clone());
                json_response(StatusCode::OK, &pod)
            }
            // With grace, as pods on nodes have: a test's own `delete` is their end.
            (&Method::DELETE, ["api", "v1", "namespaces", _, "pods", name]) => {
                let mut pod = self.pod(name);
                assert_eq!(body["preconditions"]["uid"], pod["metadata"]["uid"]);
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                self.put(pod.clone());
                json_response(StatusCode::OK, &pod)
            }
            (&Method::POST, ["apis", "events.k8s.io", "v1", "namespaces", _, "events"]) => {
                self.0.state.lock().events.push(body.clone());
                self.0.changed.notify_waiters();
                json_response(StatusCode::CREATED, &body)
            }
            (&Method::PATCH, ["apis", "events.k8s.io", "v1", "namespaces", _, "events", name]) => {
                let mut state = self.0.state.lock();
                let event = state.events.iter_mut().find(|e| e["metadata"]["name"] == *name).expect("exists");
                event["series"] = body["series"].clone();
                let event = event.clone();
                drop(state);
                self.0.changed.notify_waiters();
                json_response(StatusCode::OK, &event)
            }
            other => panic!("the fake API server does not know {other:?}"),
        }
    }

    fn list(&self, plural: &str) -> Response<ResponseBody> {
        let state = self.0.state.lock();
        let items: Vec<_> = state.objects.iter().filter(|o| plural_of(o) == plural).collect();
        let revision = state.revision.to_string();
        json_response(
            StatusCode::OK,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": revision}, "items": items}),
        )
    }

    fn watch(&self, plural: &str, query: &str) -> Response<ResponseBody> {
        let from = query.split('&').find_map(|p| p.strip_prefix("resourceVersion=")).expect("a revision");
        let from: u64 = from.parse().expect("a number");
        let mut state = self.0.state.lock();
        let (sender, receiver) = mpsc::unbounded();
        for (_, _, line) in state.log.iter().filter(|(at, of, _)| *at > from && *of == plural) {
            sender.unbounded_send(line.clone()).expect("it is held here");
        }
        let kinds = [
            "pods",
            "nodes",
            "namespaces",
            "poddisruptionbudgets",
            "persistentvolumeclaims",
            "persistentvolumes",
            "storageclasses",
            "csinodes",
            "csidrivers",
            "csistoragecapacities",
        ];
        let plural = kinds.into_iter().find(|p| *p == plural).expect("known");
        state.watches.push((plural, sender));
        let body = StreamBody::new(receiver.map(|line| Ok(Frame::data(line))));
        Response::new(UnsyncBoxBody::new(body))
    }

    fn bind(&self, name: &str, binding: &Value) -> Response<ResponseBody> {
        let refusal = self.0.state.lock().refuse.pop();
        if let Some((code, message)) = refusal {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "message": message, "code": code});
            self.0.changed.notify_waiters();
            return json_response(StatusCode::from_u16(code).expect("a code"), &status);
        }
        let mut pod = self.pod(name);
        assert_eq!(binding["metadata"]["uid"], pod["metadata"]["uid"]);
        assert_eq!((&binding["kind"], &binding["target"]["kind"]), (&"Binding".into(), &"Node".into()));
        assert!(pod["spec"]["nodeName"].is_null(), "{name} is bound twice");
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.put(pod);
        json_response(
            StatusCode::CREATED,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}),
        )
    }
}

impl State {
    fn tell(&mut self, change: &str, object: &Value) {
        let line = Bytes::from(json!({"type": change, "object": object}).to_string() + "\n");
        let plural = plural_of(object);
        self.log.push((self.revision, plural, line.clone()));
        self.watches.retain(|(of, watch)| *of != plural || watch.unbounded_send(line.clone()).is_ok());
    }
}

fn plural_of(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("Pod") => "pods",
        Some("Node") => "nodes",
        Some("Namespace") => "namespaces",
        Some("PodDisruptionBudget") => "poddisruptionbudgets",
        Some("PersistentVolumeClaim") => "persistentvolumeclaims",
        Some("PersistentVolume") => "persistentvolumes",
        Some("StorageClass") => "storageclasses",
        Some("CSINode") => "csinodes",
        Some("CSIDriver") => "csidrivers",
        Some("CSIStorageCapacity") => "csistoragecapacities",
        other => panic!("no plural of {other:?}"),
    }
}

/// As a strategic merge patch does, whose key for conditions is the type.
fn set_condition(pod: &mut Value, condition: &Value) {
    if pod["status"]["conditions"].is_null() {
        pod["status"]["conditions"] = json!([]);
    }
    let conditions = pod["status"]["conditions"].as_array_mut().expect("a list");
    match conditions.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(old) => *old = condition.clone(),
        None => conditions.push(condition.clone()),
    }
}

fn full_name(object: &Value) -> (&Value, &Value) {
    (&object["metadata"]["namespace"], &object["metadata"]["name"])
}

fn json_response(status: StatusCode, body: &Value) -> Response<ResponseBody> {
    let mut response = Response::new(UnsyncBoxBody::new(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    response
}
