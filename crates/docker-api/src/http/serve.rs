//! Accepting connections and finding the handler of each request.

use std::convert::Infallible;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::{Method, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use super::call::drain;
use super::{API_VERSION, Call, Response, Socket, Version};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::routes;

/// Serves until the listener fails.
pub(crate) async fn serve(daemon: Arc<Daemon>, listener: UnixListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let daemon = daemon.clone();
        tokio::spawn(async move {
            let socket = Socket(stream.as_raw_fd());
            let service = service_fn(move |mut request: http::Request<Incoming>| {
                let daemon = daemon.clone();
                request.extensions_mut().insert(socket);
                async move { Ok::<_, Infallible>(answer(daemon, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that goes away in the middle is no news.
            let _ = connection.with_upgrades().await;
        });
    }
}

tokio::task_local! {
    static ANSWERING: ();
}

/// Whether the code that runs now answers a request, so that a panic in it is caught here and told to the client;
/// the program's panic hook asks.
#[must_use]
pub fn is_answering() -> bool {
    ANSWERING.try_with(|()| ()).is_ok()
}

async fn answer(daemon: Arc<Daemon>, request: http::Request<Incoming>) -> Response {
    let head = request.method() == Method::HEAD;
    let server = format!("Hythe/{} (linux)", daemon.config.version);
    let mut response = dispatch(daemon, request).await.unwrap_or_else(|error| {
        if error.status.is_server_error() {
            tracing::warn!(%error, "a request of the Docker API failed");
        }
        error.into()
    });
    let headers = response.headers_mut();
    for (name, value) in [("api-version", API_VERSION), ("docker-experimental", "false"), ("ostype", "linux")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(server) = HeaderValue::from_str(&server) {
        headers.insert(header::SERVER, server);
    }
    if head {
        *response.body_mut() = super::empty(http::StatusCode::OK).into_body();
    }
    response
}

async fn dispatch(daemon: Arc<Daemon>, mut request: http::Request<Incoming>) -> Result<Response> {
    let wants_upgrade = request.headers().contains_key(header::UPGRADE);
    let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let query = request.uri().query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let socket = request.extensions().get::<Socket>().copied();
    let (parts, body) = request.into_parts();
    let found = Version::split(parts.uri.path())
        .and_then(|(version, path)| routes::find(&parts.method, path).map(|(route, params)| (version, route, params)));
    let (version, route, params) = match found {
        Ok(found) => found,
        Err(error) => {
            drain(body);
            return Err(error);
        }
    };
    let call = Call { version, params, query, headers: parts.headers, body: Some(body), upgrade, socket };
    // A handler that panics must not take the connection's answer with it; a client that leaves must not leave
    // a container half made.
    match tokio::spawn(ANSWERING.scope((), (route.handler)(daemon, call))).await {
        Ok(result) => result,
        Err(panic) => Err(ApiError::internal(format!("defect: {panic}"))),
    }
}
