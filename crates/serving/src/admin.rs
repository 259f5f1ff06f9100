//! The admin port: what operators and Prometheus ask of a container.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::net::TcpListener;

use crate::{Activity, ConfigError, process};

/// What an endpoint of the admin port answers.
pub type Answer = Response<Full<Bytes>>;

type Handler = Arc<dyn Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;
type Reload = Box<dyn Fn() -> Result<bool, ConfigError> + Send + Sync>;

/// The most that a request to the admin port may carry, in bytes.
const BODY: usize = 1 << 20;

/// The admin port of a container: built in endpoints, metrics, and what the container adds.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    ready: AtomicBool,
    registry: Mutex<Registry>,
    routes: RwLock<Vec<(Method, &'static str, Handler)>>,
    reloads: Mutex<Vec<Reload>>,
    reloaded: Counter,
    refused: Counter,
}

impl Admin {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let (reloaded, refused) = (Counter::default(), Counter::default());
        registry.register("hythe_config_reloads", "Configurations taken up after the first", reloaded.clone());
        registry.register("hythe_config_reload_failures", "Configurations refused", refused.clone());
        registry.register_collector(Box::new(process::ProcessCollector));
        let inner = Inner {
            ready: AtomicBool::new(false),
            registry: Mutex::new(registry),
            routes: RwLock::default(),
            reloads: Mutex::default(),
            reloaded,
            refused,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds metrics.
    pub fn metrics(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.inner.registry.lock());
    }

    /// Adds an endpoint. A path that ends with `/*` stands for all below it. Bodies are read whole, up to 1 MiB.
    pub fn route<F>(
        &self,
        method: Method,
        path: &'static str,
        handler: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Answer> + Send + 'static,
    {
        self.inner.routes.write().push((method, path, Arc::new(move |request| Box::pin(handler(request)))));
    }

    /// Adds something that is read anew on SIGHUP and on `POST /-/reload`. It returns whether it changed.
    pub fn on_reload(&self, reload: impl Fn() -> Result<bool, ConfigError> + Send + Sync + 'static) {
        self.inner.reloads.lock().push(Box::new(reload));
    }

    /// Reads everything anew, and says in the log and in the metrics how it went.
    pub fn reload(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        for reload in self.inner.reloads.lock().iter() {
            match reload() {
                Ok(true) => {
                    self.inner.reloaded.inc();
                    tracing::info!("the new configuration is in force");
                }
                Ok(false) => {}
                Err(error) => {
                    self.inner.refused.inc();
                    tracing::error!(%error, "the new configuration is refused, the old one goes on");
                    errors.push(error);
                }
            }
        }
        errors
    }

    /// Sets what `/readyz` answers.
    pub fn set_ready(&self, ready: bool) {
        self.inner.ready.store(ready, Ordering::Release);
    }

    /// The metrics in OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.inner.registry.lock()) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Bytes>) -> Answer {
        let path = request.uri().path().to_owned();
        let added = self
            .inner
            .routes
            .read()
            .iter()
            .find(|(method, route, _)| method == request.method() && matches(route, &path))
            .map(|(_, _, handler)| handler.clone());
        if let Some(handler) = added {
            return handler(request).await;
        }
        match (request.method(), path.as_str()) {
            (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") if self.inner.ready.load(Ordering::Acquire) => {
                text(StatusCode::OK, "ok\n")
            }
            (&Method::GET | &Method::HEAD, "/readyz") => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            (&Method::GET, "/metrics") => {
                let mut answer = text(StatusCode::OK, self.encode());
                let kind =
                    header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            (&Method::POST, "/-/reload") => match self.reload().as_slice() {
                [] => text(StatusCode::OK, "ok\n"),
                errors => {
                    text(StatusCode::BAD_REQUEST, errors.iter().map(|error| format!("{error}\n")).collect::<String>())
                }
            },
            (_, "/healthz" | "/readyz" | "/metrics" | "/-/reload") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "the method does not fit this path\n")
            }
            _ if self.inner.routes.read().iter().any(|(_, route, _)| matches(route, &path)) => {
                text(StatusCode::METHOD_NOT_ALLOWED, "the method does not fit this path\n")
            }
            _ => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }

    /// Serves the port until the process ends.
    pub(crate) async fn serve(self, listener: TcpListener, activity: Activity) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: give the others a moment to close theirs.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            activity.note();
            let admin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let admin = admin.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        Ok::<_, Infallible>(match Limited::new(body, BODY).collect().await {
                            Ok(body) => admin.answer(Request::from_parts(head, body.to_bytes())).await,
                            Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "a body may have 1 MiB here\n"),
                        })
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(hyper_util::rt::TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                let _ = connection.await;
            });
        }
    }
}

/// Opens the admin port.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// A plain answer.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn matches(route: &str, path: &str) -> bool {
    match route.strip_suffix("/*") {
        Some(prefix) => path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')),
        None => route == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(admin: &Admin, method: Method, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        let answer = admin.answer(request).await;
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_is_told_apart_from_health() {
        let admin = Admin::new();
        assert_eq!(ask(&admin, Method::GET, "/healthz").await.0, 200);
        assert_eq!(ask(&admin, Method::GET, "/readyz").await.0, 503);
        admin.set_ready(true);
        assert_eq!(ask(&admin, Method::GET, "/readyz").await.0, 200);
    }

    #[tokio::test]
    async fn a_refused_configuration_is_told_to_who_asked_and_counted() {
        let admin = Admin::new();
        admin.on_reload(|| Err(ConfigError::field("size", "must be a number")));
        let (status, body) = ask(&admin, Method::POST, "/-/reload").await;
        assert_eq!((status, body.as_str()), (400, "size: must be a number\n"));
        let (_, metrics) = ask(&admin, Method::GET, "/metrics").await;
        assert!(metrics.contains("hythe_config_reload_failures_total 1\n"), "{metrics}");
        assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    }

    #[tokio::test]
    async fn a_container_adds_endpoints_of_its_own() {
        let admin = Admin::new();
        admin.route(Method::GET, "/api/v1/items/*", |request| async move {
            text(StatusCode::OK, request.uri().path().to_owned())
        });
        assert_eq!(ask(&admin, Method::GET, "/api/v1/items/a").await, (200, "/api/v1/items/a".to_owned()));
        assert_eq!(ask(&admin, Method::PUT, "/api/v1/items/a").await.0, 405);
        assert_eq!(ask(&admin, Method::GET, "/api/v1/itemsandmore").await.0, 404);
    }
}
