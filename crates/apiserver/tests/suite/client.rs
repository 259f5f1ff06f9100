//! A server on a store of its own, and the shortest way to call it.

use std::{sync::Arc, time::Duration};

use apiserver::{ApiServer, Body, Config, InProcess, User};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, BodyStream, Full};
use serde_json::Value;
use store::{Embedded, EmbeddedConfig};
use tower::ServiceExt;

/// No answer takes longer than this, however busy the machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Api {
    pub server: Arc<ApiServer>,
    service: InProcess,
    _dir: tempfile::TempDir,
}

impl Api {
    pub async fn new() -> Api {
        Api::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Api {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let store = Embedded::open(EmbeddedConfig::new(dir.path())).expect("an empty store opens");
        let server = ApiServer::new(config, store).await.expect("an empty store is enough to start");
        Api { service: server.in_process(), server, _dir: dir }
    }

    pub fn as_user(&mut self, user: User) {
        self.service = self.server.in_process_as(user);
    }

    /// The raw response to a request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("tests write valid requests");
        let answer = tokio::time::timeout(DEADLINE, self.service.clone().oneshot(request)).await;
        match answer.expect("the server answers in time") {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn json(&self, method: Method, path: &str, content_type: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let response = self.send(method, path, &[("content-type", content_type), ("user-agent", "test/1")], body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("bodies end well").to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.json(Method::GET, path, "application/json", &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.json(Method::POST, path, "application/json", body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.json(Method::PUT, path, "application/json", body).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> (u16, Value) {
        self.json(Method::DELETE, path, "application/json", options).await
    }

    /// `kind` is `merge`, `strategic`, `json` or `apply`.
    pub async fn patch(&self, kind: &str, path: &str, body: &Value) -> (u16, Value) {
        let content_type = match kind {
            "merge" => "application/merge-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            "json" => "application/json-patch+json",
            "apply" => "application/apply-patch+yaml",
            other => panic!("no patch is called {other}"),
        };
        self.json(Method::PATCH, path, content_type, body).await
    }

    /// Creates, and expects that it works.
    pub async fn made(&self, path: &str, body: &Value) -> Value {
        let (code, object) = self.post(path, body).await;
        assert_eq!(code, 201, "POST {path}: {object}");
        object
    }

    /// A watch, to be read event by event.
    pub async fn watch(&self, path: &str) -> Events {
        let response = self.send(Method::GET, path, &[], Bytes::new()).await;
        assert_eq!(response.status(), 200, "GET {path}");
        Events { frames: BodyStream::new(response.into_body()), text: Vec::new() }
    }
}

pub struct Events {
    frames: BodyStream<Body>,
    text: Vec<u8>,
}

impl Events {
    /// The next event; `None` at the end of the watch.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event is JSON"));
            }
            let frame = tokio::time::timeout(DEADLINE, self.frames.next()).await.expect("an event comes in time")?;
            let data = frame.expect("a watch does not break").into_data().expect("a watch has no trailers");
            self.text.extend_from_slice(&data);
        }
    }

    /// Type and name of the next event.
    pub async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

pub fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).expect("it has a resourceVersion")
}

pub fn brief(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}
