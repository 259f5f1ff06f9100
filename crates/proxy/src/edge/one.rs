//! HTTP/1 with a client: one request after the other.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::connection::{Conn, Open};
use super::exchange::{self, Next};
use super::reply::Reply;
use super::{tunnel, two};
use crate::http1::{Broken, Request, parse_request};
use crate::io::{BodyIn, Deadline, Input, Stream, give, take};

/// What HTTP/2 with prior knowledge begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve(conn: Rc<Conn>, stream: Stream, open: Open) {
    let mut input = Input::default();
    let mut request = Request::default();
    let mut out = Vec::new();
    let Some((_, listener)) = conn.now() else { return };
    let deadline = Deadline::new(listener.config.limits.header_timeout.0);
    drop(listener);
    let stopping = conn.worker.shared.serving.stopping().clone();
    let mut count = 0usize;
    loop {
        let Some((site, listener)) = conn.now() else { return };
        let limits = &listener.config.limits;
        // An idle connection holds no buffers.
        if input.rest().is_empty() {
            input.rest_if_empty();
            if out.capacity() > 0 {
                give(std::mem::take(&mut out));
            }
            deadline.set(if count == 0 { limits.header_timeout.0 } else { limits.keep_alive.0 });
            let waited = tokio::select! {
                biased;
                waited = deadline.guard(stream.readable()) => waited,
                () = stopping.cancelled() => return,
            };
            if !matches!(waited, Ok(Ok(()))) {
                return;
            }
        }
        if out.capacity() == 0 {
            out = take();
        }
        deadline.set(limits.header_timeout.0);
        let read =
            deadline.guard(read_head(&stream, &mut input, &mut request, &listener.config.limits, count > 0)).await;
        let refused = match read {
            Ok(Head::Request) => None,
            Ok(Head::Two) => {
                input.put_back(&std::mem::take(&mut request.text));
                two::serve(conn, stream, input, open).await;
                return;
            }
            Ok(Head::Gone) => return,
            Ok(Head::Refused(broken)) => Some((broken.status(), broken.to_string())),
            Err(_) if request.text.is_empty() => return,
            Err(_) => Some((408, "the request's head took too long".to_owned())),
        };
        if let Some((status, why)) = refused {
            listener.metrics.bad_requests.fetch_add(1, Ordering::Relaxed);
            let mut reply = Reply::One {
                stream: &stream,
                out: &mut out,
                version: 11,
                keep_alive: false,
                head: false,
                started: false,
            };
            deadline.set(std::time::Duration::from_secs(5));
            let _ = deadline.guard(reply.error(status, &why, &[])).await;
            linger(&stream, &deadline).await;
            return;
        }
        // The connection may have been idle for long: what is in force now counts.
        let (site, listener) = conn.now().unwrap_or((site, listener));
        let limits = &listener.config.limits;
        count += 1;
        let last = limits.requests_per_connection > 0 && count >= limits.requests_per_connection;
        let keep_alive = request.keep_alive && !last && !conn.is_ending();
        let head = request.method() == b"HEAD";
        let reply =
            Reply::One { stream: &stream, out: &mut out, version: request.version, keep_alive, head, started: false };
        let body = BodyIn::one(request.framing, &stream, &mut input);
        let next = exchange::serve(&conn, &site, &listener, &deadline, &request, body, reply).await;
        drop((site, listener));
        match next {
            Next::KeepAlive => {}
            Next::Broken => return,
            Next::Close => {
                linger(&stream, &deadline).await;
                return;
            }
            Next::Tunnel(other, listener) => {
                give(std::mem::take(&mut request.text));
                // A small task of its own: a tunnel may stay for days and needs none of what is here.
                tokio::task::spawn_local(tunnel::serve(stream, input, other, listener, open));
                return;
            }
        }
    }
}

enum Head {
    Request,
    /// HTTP/2 with prior knowledge.
    Two,
    Gone,
    Refused(Broken),
}

async fn read_head(
    stream: &Stream,
    input: &mut Input,
    request: &mut Request,
    limits: &crate::config::Limits,
    later: bool,
) -> Head {
    request.clear();
    if input.rest().is_empty() {
        if request.text.capacity() == 0 {
            request.text = take();
        }
    } else {
        input.move_into(&mut request.text);
    }
    let limit = limits.header_bytes.0 as usize;
    loop {
        if !request.text.is_empty() {
            let same = request.text.len().min(PREFACE.len());
            if !later && request.text.len() >= 3 && request.text[..same] == PREFACE[..same] {
                return Head::Two;
            }
            match parse_request(request, limit, limits.headers) {
                Ok(Some(length)) => {
                    input.put_back(&request.text[length..]);
                    request.text.truncate(length);
                    return Head::Request;
                }
                Ok(None) => {}
                Err(broken) => return Head::Refused(broken),
            }
        }
        if request.text.len() == request.text.capacity() {
            request.text.reserve(8 << 10);
        }
        match stream.read(&mut request.text).await {
            Ok(0) | Err(_) => return Head::Gone,
            Ok(_) => {}
        }
    }
}

/// Ends in good order: a client that still sends would otherwise lose the answer to a reset.
async fn linger(stream: &Stream, deadline: &Deadline) {
    deadline.set(std::time::Duration::from_secs(1));
    let drain = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut sink = take();
        let mut left: usize = 256 << 10;
        while left > 0 {
            sink.clear();
            match stream.read(&mut sink).await {
                Ok(0) | Err(_) => break,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
        give(sink);
    };
    let _ = deadline.guard(drain).await;
}
