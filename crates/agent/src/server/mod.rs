//! The agent's streaming server, at the kubelet's paths: logs, exec, attach, port-forward, and a little about the
//! node. HTTP/1.1 on any byte stream; upgrades to WebSocket and SPDY.

mod channels;
mod configz;
mod exec;
mod log_socket;
mod logs;
mod node_logs;
mod port_forward;
mod query;
mod remote;
mod respond;
mod stats;
mod tunnel;
mod upgrade;

use std::{convert::Infallible, sync::atomic::Ordering};

use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use self::stats::Rates;
use self::{
    query::Query,
    respond::{Body, text},
};
use crate::agent::Agent;

impl Agent {
    /// Serves one connection until the peer hangs up. Who may ask is decided by whoever accepted it.
    pub async fn serve_connection<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, io: T) {
        let agent = self.clone();
        let service = service_fn(move |request| {
            let agent = agent.clone();
            async move { Ok::<_, Infallible>(agent.answer(request).await) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the agent ended early");
        }
    }

    /// Serves one connection of which nobody is asked who they are: it hears whether the agent is well and no more.
    pub async fn serve_health<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, io: T) {
        let agent = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let asked = request.uri().path().starts_with("/healthz");
            let agent = agent.clone();
            async move {
                let answer =
                    if asked { agent.answer(request).await } else { text(StatusCode::NOT_FOUND, "404 page not found") };
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection that asked for the agent's health ended early");
        }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        let stream = matches!(*request.method(), Method::GET | Method::POST);
        let result = match parts.as_slice() {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] if read => {
                self.context.health_checks.fetch_add(1, Ordering::Relaxed);
                Ok(text(StatusCode::OK, "ok"))
            }
            ["pods" | "runningpods"] | ["pods" | "runningpods", ""] if read => {
                Ok(stats::pods(self, parts[0] == "runningpods"))
            }
            ["stats", "summary"] if read => Ok(stats::summary(self, query.flag(&["only_cpu_and_memory"])).await),
            ["metrics"] if read => Ok(stats::metrics(self).await),
            ["metrics", "cadvisor"] if read => Ok(stats::cadvisor(self).await),
            ["metrics", "resource"] if read => Ok(stats::resource(self).await),
            ["metrics", "probes"] if read => Ok(stats::probes(self)),
            ["metrics", "slis"] if read => Ok(stats::slis(self)),
            ["configz"] if read => Ok(configz::answer(self)),
            ["logs", path @ ..] if read => node_logs::answer(path).await,
            ["containerLogs", namespace, pod, container] if read => {
                logs::answer(self, namespace, pod, container, &query, request).await
            }
            ["exec", namespace, pod, container] if stream => {
                exec::exec(self, namespace, pod, container, &query, request).await
            }
            ["attach", namespace, pod, container] if stream => {
                exec::attach(self, namespace, pod, container, &query, request).await
            }
            ["portForward", namespace, pod] if stream => {
                port_forward::answer(self, namespace, pod, &query, request).await
            }
            [
                "healthz" | "pods" | "runningpods" | "stats" | "metrics" | "configz" | "logs" | "containerLogs"
                | "exec" | "attach" | "portForward",
                ..,
            ] => Ok(text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
            _ => Ok(text(StatusCode::NOT_FOUND, "404 page not found")),
        };
        result.unwrap_or_else(respond::Refusal::into_response)
    }
}
