//! A log as WebSocket messages: binary ones, or base64 in text ones (upstream's apimachinery, `util/httpstream/wsstream`).

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    respond::{Body, Refusal},
    upgrade::{self, Kind, Upgrade},
};

const BASE64: &str = "base64.binary.k8s.io";
const PROTOCOLS: &[&str] = &["binary.k8s.io", BASE64];

/// The WebSocket that the client asks for, if it does. Other upgrades mean nothing for a log.
pub(super) fn wanted(headers: &HeaderMap) -> Result<Option<Upgrade>, Refusal> {
    if !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return Ok(None);
    }
    Ok(Some(upgrade::choose(headers, PROTOCOLS)?).filter(|upgrade| upgrade.kind == Kind::WebSocket))
}

/// Goes on as a WebSocket that carries the chunks.
pub(super) fn accept(
    upgrade: &Upgrade,
    request: Request<Incoming>,
    chunks: mpsc::Receiver<Bytes>,
) -> Result<Response<Body>, Refusal> {
    let base64 = upgrade.protocol == BASE64;
    upgrade::accept(upgrade, request, move |io| send(io, chunks, base64))
}

async fn send(io: TokioIo<Upgraded>, mut chunks: mpsc::Receiver<Bytes>, base64: bool) {
    let message = |bytes: Bytes| match base64 {
        true => Message::Text(STANDARD.encode(&bytes).into()),
        false => Message::Binary(bytes),
    };
    let (mut sink, mut source) = upgrade::socket(io).await.split();
    // Upstream begins with an empty message, so that clients see at once that it works.
    let mut next = Some(Bytes::new());
    while let Some(bytes) = next {
        if sink.send(message(bytes)).await.is_err() {
            return;
        }
        next = loop {
            tokio::select! {
                chunk = chunks.recv() => break chunk,
                heard = source.next() => match heard {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
            }
        };
    }
    let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    let _ = sink.send(Message::Close(Some(normal))).await;
    let _ = sink.close().await;
}
