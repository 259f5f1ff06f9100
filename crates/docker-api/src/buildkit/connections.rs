//! Connections that become HTTP/2: a client's calls, and a client's session.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::of;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, empty};

/// Answers the calls of a client (`docker buildx …`) on its connection.
pub(crate) async fn control(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let buildkit = of(&daemon)?;
    let (response, upgrade) = switch(&mut call)?;
    tokio::spawn(async move {
        if let Some(io) = established(upgrade).await {
            buildkit.control(io).await;
        }
    });
    Ok(response)
}

/// Keeps a client's session, on which the client answers.
pub(crate) async fn session(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let buildkit = of(&daemon)?;
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let id = header("x-docker-expose-session-uuid").filter(|id| !id.is_empty());
    upgradable(&call)?;
    let id = id.ok_or_else(|| ApiError::bad("a session has an id: X-Docker-Expose-Session-Uuid"))?;
    let methods = call.headers.get_all("x-docker-expose-session-grpc-method").iter();
    let methods: Vec<String> = methods.filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect();
    let (response, upgrade) = switch(&mut call)?;
    tokio::spawn(async move {
        let Some(io) = established(upgrade).await else { return };
        if let Err(error) = buildkit.session(io, &id, methods).await {
            tracing::info!(%error, session = id, "a client's session ended");
        }
    });
    Ok(response)
}

/// The answer that ends HTTP/1, and what becomes the connection when it was sent.
fn switch(call: &mut Call) -> Result<(Response, OnUpgrade)> {
    upgradable(call)?;
    let upgrade = call.upgrade.take().ok_or_else(|| ApiError::bad("no upgrade proto in request"))?;
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("h2c"));
    Ok((response, upgrade))
}

/// Whether a request asks for the one protocol that is spoken here.
fn upgradable(call: &Call) -> Result<()> {
    let wanted = call.headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if wanted.is_empty() {
        return Err(ApiError::bad("no upgrade proto in request"));
    }
    if !wanted.eq_ignore_ascii_case("h2c") {
        return Err(ApiError::bad(format!("protocol {wanted} not supported")));
    }
    Ok(())
}

async fn established(upgrade: OnUpgrade) -> Option<TokioIo<Upgraded>> {
    // A client that has gone in between is no news.
    upgrade.await.ok().map(TokioIo::new)
}
