//! A connection that speaks WebSocket (RFC 6455), as a pair of streams: browsers can't take a connection over.

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::hijack::Pending;
use super::{Call, Hijacked, Response, empty};
use crate::error::{ApiError, Result};

/// Bytes on their way between a container and a client.
const BUFFER: usize = 32 << 10;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The answer that ends HTTP, and what becomes the connection when it was sent.
pub(crate) fn websocket(call: &mut Call) -> Result<(Response, Pending)> {
    let wanted =
        call.headers.get(header::UPGRADE).is_some_and(|kind| kind.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = call.headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| wanted);
    let (Some(key), Some(upgrade)) = (key, call.upgrade.take()) else {
        return Err(ApiError::bad("not websocket protocol"));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("the key is base64");
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    // Of those that are offered any will do: what is in the messages is the same.
    if let Some(offered) = call.headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|list| list.to_str().ok())
        && let Ok(first) = HeaderValue::from_str(offered.split(',').next().unwrap_or_default().trim())
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, first);
    }
    Ok((response, Pending::WebSocket(upgrade)))
}

/// The streams of a socket whose handshake is done: what is written becomes binary messages.
pub(super) async fn open(upgraded: Upgraded) -> Hijacked {
    let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let (sink, source) = socket.split();
    let (reader, input) = tokio::io::duplex(BUFFER);
    let (output, writer) = tokio::io::duplex(BUFFER);
    tokio::spawn(receive(source, input));
    tokio::spawn(send(sink, output));
    Hijacked { reader: Box::new(reader), writer: Box::new(writer) }
}

async fn receive(mut source: SplitStream<Socket>, mut input: DuplexStream) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => break,
            _ => continue,
        };
        // The socket is read to its end: the other side waits for its close to be answered.
        let _ = input.write_all(&bytes).await;
    }
    let _ = input.shutdown().await;
}

async fn send(mut sink: SplitSink<Socket, Message>, mut output: DuplexStream) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        if sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}
