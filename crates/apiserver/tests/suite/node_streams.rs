//! Logs, exec and the rest, with an agent that answers on a pipe.

use std::{io, sync::Arc};

use apiserver::{Config, NodeConnector, NodeStream};
use async_trait::async_trait;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::client::Api;

/// Answers each request with its own method and path.
struct Echo;

#[async_trait]
impl NodeConnector for Echo {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn NodeStream>> {
        if node != "n" {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such node"));
        }
        let (near, far) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| async move {
                assert!(!request.headers().contains_key("authorization"), "credentials stay with the server");
                let text = format!("{} {}", request.method(), request.uri());
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(bytes::Bytes::from(text))))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
        });
        Ok(Box::new(near))
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn text(api: &Api, method: Method, path: &str) -> (StatusCode, String) {
    let response = api.send(method, path, &[("authorization", "Bearer secret")], "").await;
    let code = response.status();
    let bytes = response.into_body().collect_bytes().await.expect("bodies end well");
    (code, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_a_running_pod_reach_its_agent_at_the_kubelets_paths() {
    let api = Api::with(Config { nodes: Arc::new(Echo), ..Config::default() }).await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    for (name, node, containers) in [("one", "n", vec!["c"]), ("two", "n", vec!["a", "b"]), ("lost", "gone", vec!["c"])]
    {
        let containers: Vec<_> = containers.iter().map(|c| json!({"name": c, "image": "i"})).collect();
        api.made(PODS, &json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": containers}}))
            .await;
    }
    for (method, path, wanted) in [
        (
            Method::GET,
            "one/log?follow=true&tailLines=5&timestamps=false",
            "GET /containerLogs/default/one/c?follow=true&tailLines=5",
        ),
        (Method::GET, "two/log?container=b", "GET /containerLogs/default/two/b"),
        (
            Method::POST,
            "one/exec?command=ls&command=-l%20x&stdin=true&stdout=1&stderr=false&tty=true",
            "POST /exec/default/one/c?input=1&output=1&tty=1&command=ls&command=-l+x",
        ),
        (Method::GET, "one/attach?stdout=true&container=c", "GET /attach/default/one/c?output=1"),
        (Method::GET, "one/portforward?ports=80&ports=81", "GET /portForward/default/one?port=80&port=81"),
    ] {
        assert_eq!(text(&api, method, &format!("{PODS}/{path}")).await, (StatusCode::OK, wanted.to_owned()), "{path}");
    }
    for (method, path, code, wanted) in [
        (Method::GET, "two/log", 400, "a container name must be specified for pod two, choose one of: [a b]"),
        (Method::GET, "two/log?container=x", 400, "container x is not valid for pod two"),
        (Method::GET, "nope/log", 404, "pods \\\"nope\\\" not found"),
        (Method::GET, "one/exec?stdout=1", 400, "you must specify a command"),
        (Method::GET, "one/log?tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        (Method::GET, "lost/log", 500, "error dialing backend"),
        (Method::DELETE, "one/log", 405, "the server does not allow this method"),
    ] {
        let (got, body) = text(&api, method, &format!("{PODS}/{path}")).await;
        assert_eq!(got.as_u16(), code, "{path}: {body}");
        assert!(body.contains(wanted), "{path}: {body}");
    }
}
