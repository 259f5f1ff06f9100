//! HTTP/2 with a client: each stream is a request of its own.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Conn, Open};
use super::exchange::{self, Next};
use super::reply::Reply;
use crate::http1::{Framing, Request};
use crate::io::{BodyIn, Deadline, Input, Stream, give, take};

/// Serves a connection to its end. `input`: what was read of it already.
pub(super) async fn serve(conn: Rc<Conn>, stream: Stream, input: Input, open: Open) {
    let Some((_, listener)) = conn.now() else { return };
    let limits = listener.config.limits.clone();
    drop(listener);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_concurrent_streams(256)
        .max_header_list_size(limits.header_bytes.0 as u32)
        .max_send_buffer_size(256 << 10);
    let handshake = builder.handshake::<_, Bytes>(Prefixed { input, stream });
    let Ok(Ok(mut connection)) = tokio::time::timeout(limits.header_timeout.0, handshake).await else { return };
    let serving = conn.worker.shared.serving.clone();
    let mut ending = false;
    let active = Rc::new(());
    let idle = Deadline::new(limits.keep_alive.0);
    loop {
        let accepted = tokio::select! {
            accepted = idle.guard(connection.accept()) => accepted,
            () = serving.leaving().cancelled(), if !ending => {
                ending = true;
                connection.graceful_shutdown();
                continue;
            }
            () = serving.stopping().cancelled(), if !ending => {
                ending = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        match accepted {
            Ok(Some(Ok((request, respond)))) => {
                idle.set(limits.keep_alive.0);
                let (conn, active) = (Rc::clone(&conn), Rc::clone(&active));
                tokio::task::spawn_local(async move {
                    stream_served(conn, request, respond).await;
                    drop(active);
                });
            }
            Ok(_) => break,
            Err(_) if Rc::strong_count(&active) > 1 => idle.set(limits.keep_alive.0),
            Err(_) if ending => break,
            Err(_) => {
                ending = true;
                connection.graceful_shutdown();
                idle.set(Duration::from_secs(5));
            }
        }
    }
    drop(open);
}

async fn stream_served(conn: Rc<Conn>, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let Some((site, listener)) = conn.now() else { return };
    let (head, mut incoming) = request.into_parts();
    let deadline = Deadline::new(listener.config.limits.header_timeout.0);
    let mut request = Request { text: take(), version: 20, ..Default::default() };
    let read = write_head(&mut request, &head, &incoming);
    let is_head = head.method == http::Method::HEAD;
    let mut reply = Reply::Two { respond: &mut respond, head: is_head, started: false };
    if let Err((status, why)) = read {
        listener.metrics.bad_requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _ = reply.error(status, why, &[]).await;
        return;
    }
    if request.fields.len() > listener.config.limits.headers {
        let _ = reply.error(431, "there are too many header fields", &[]).await;
        return;
    }
    let body = BodyIn::two(&mut incoming);
    let next = exchange::serve(&conn, &site, &listener, &deadline, &request, body, reply).await;
    // An answer that came before the request's end tells the client to stop sending: the library does, behind the answer,
    // as soon as nobody holds the stream. A reset of our own would overtake what is still to be sent.
    if matches!(next, Next::Broken) {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    }
    give(std::mem::take(&mut request.text));
}

/// Writes a head of HTTP/2 into the one shape that heads have here (RFC 9113 section 8.3).
fn write_head(
    request: &mut Request,
    head: &http::request::Parts,
    body: &RecvStream,
) -> Result<(), (u16, &'static str)> {
    if head.method == http::Method::CONNECT {
        return Err((501, "CONNECT is not implemented"));
    }
    request.method = request.push_text(head.method.as_str().as_bytes());
    let target = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let target = request.push_text(target.as_bytes());
    request.set_target(target);
    if let Some(authority) = head.uri.authority() {
        // Users and passwords have no place here.
        let authority = authority.as_str();
        request.host = request.push_text(authority.rsplit_once('@').map_or(authority, |(_, host)| host).as_bytes());
    }
    let mut length = None;
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &head.headers {
        match name.as_str() {
            "content-length" => length = value.to_str().ok().and_then(|v| v.parse::<u64>().ok()),
            // Cookies come apart and are put together again (RFC 9113 section 8.2.3).
            "cookie" => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
                continue;
            }
            "host" if !request.host.is_empty() => continue,
            "connection" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection" => {
                return Err((400, "a field of HTTP/1 connections has no place in HTTP/2"));
            }
            _ => {}
        }
        request.push_field(name.as_str().as_bytes(), value.as_bytes());
    }
    if !cookies.is_empty() {
        request.push_field(b"cookie", &cookies);
    }
    request.framing = match length {
        _ if body.is_end_stream() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    request.judge().map_err(|broken| (broken.status(), "the request's head is broken"))
}

/// A stream with what was read of it before.
struct Prefixed {
    input: Input,
    stream: Stream,
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.input.rest();
        if rest.is_empty() {
            return AsyncRead::poll_read(Pin::new(&mut self.stream), cx, buffer);
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.input.consume(length);
        self.input.rest_if_empty();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(Pin::new(&mut self.stream), cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}
