//! Leaving HTTP: WebSocket (RFC 6455) and SPDY, with the subprotocol both sides know.

use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::respond::{Body, Refusal};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What is spoken after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// WebSocket messages.
    WebSocket,
    /// SPDY frames.
    Spdy,
}

/// An upgrade that both sides can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// What is spoken.
    pub kind: Kind,
    /// The subprotocol; empty if the client named none.
    pub protocol: String,
}

/// A WebSocket after the handshake.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Chooses by the request's headers; `supported` are subprotocols, the best one first.
pub fn choose(headers: &HeaderMap, supported: &[&str]) -> Result<Upgrade, Refusal> {
    let wants = |name: &HeaderName, word: &str| words(headers, name).any(|w| w.eq_ignore_ascii_case(word));
    let kind = if wants(&header::UPGRADE, "websocket") && headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        Kind::WebSocket
    } else if wants(&header::UPGRADE, "SPDY/3.1") {
        Kind::Spdy
    } else {
        return Err(Refusal::bad_request("you must specify an upgrade to WebSocket or SPDY/3.1"));
    };
    let name = if kind == Kind::WebSocket { header::SEC_WEBSOCKET_PROTOCOL } else { STREAM_PROTOCOL };
    let offered: Vec<&str> = words(headers, &name).collect();
    if offered.is_empty() {
        return Ok(Upgrade { kind, protocol: String::new() });
    }
    match supported.iter().find(|s| offered.contains(s)) {
        Some(protocol) => Ok(Upgrade { kind, protocol: (*protocol).to_owned() }),
        None => Err(Refusal {
            status: StatusCode::FORBIDDEN,
            message: format!(
                "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {supported:?}"
            ),
        }),
    }
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|w| !w.is_empty())
}

/// Answers with 101 and goes on with `session` on the raw stream.
pub fn accept<F>(
    upgrade: &Upgrade,
    request: Request<Incoming>,
    session: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|e| Refusal::bad_request(e.to_string()));
    match upgrade.kind {
        Kind::WebSocket => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, value(&derive_accept_key(key))?);
            if !upgrade.protocol.is_empty() {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(&upgrade.protocol)?);
            }
        }
        Kind::Spdy => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            if !upgrade.protocol.is_empty() {
                headers.insert(STREAM_PROTOCOL, value(&upgrade.protocol)?);
            }
        }
    }
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(io) => session(TokioIo::new(io)).await,
            Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
        }
    });
    Ok(response)
}

/// The server's side of a WebSocket whose handshake is done.
pub async fn socket(io: TokioIo<Upgraded>) -> Socket {
    WebSocketStream::from_raw_socket(io, Role::Server, None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).expect("a value"))).collect()
    }

    #[test]
    fn the_best_protocol_that_both_know_is_chosen() {
        let supported = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
        let socket = headers(&[
            ("upgrade", "websocket"),
            ("sec-websocket-key", "x"),
            ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
        ]);
        let got = choose(&socket, &supported).expect("an upgrade");
        assert_eq!((got.kind, got.protocol.as_str()), (Kind::WebSocket, "v5.channel.k8s.io"));
        let spdy = headers(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4.channel.k8s.io")]);
        assert_eq!(choose(&spdy, &supported).expect("an upgrade").kind, Kind::Spdy);
        let other = headers(&[("upgrade", "websocket"), ("sec-websocket-key", "x"), ("sec-websocket-protocol", "v9")]);
        assert_eq!(choose(&other, &supported).map_err(|r| r.status), Err(StatusCode::FORBIDDEN));
        assert!(choose(&HeaderMap::new(), &supported).is_err());
    }
}
