//! gRPC over unix sockets: a server of one unary method, and calls with one answer or many.

use std::{convert::Infallible, io, path::Path, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};

use super::messages::Registration;

/// The largest message that is taken.
const LARGEST: usize = 4 << 20;

/// Serves registrations on a socket, which is made anew: plugins take that for the word to register again.
pub async fn serve(
    socket: &Path,
    method: &'static str,
    register: impl Fn(Registration) -> Result<(), String> + Send + Sync + 'static,
) -> io::Result<()> {
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir)?;
        // Sockets of plugins of another time would be taken for live ones.
        for entry in std::fs::read_dir(dir)?.flatten() {
            if std::os::unix::fs::FileTypeExt::is_socket(&entry.file_type()?) {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    let listener = UnixListener::bind(socket)?;
    let register = Arc::new(register);
    loop {
        let (stream, _) = listener.accept().await?;
        let register = Arc::clone(&register);
        let answer = service_fn(move |request: Request<Incoming>| {
            let register = Arc::clone(&register);
            async move { Ok::<_, Infallible>(answer(request, method, register.as_ref()).await) }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
    }
}

async fn answer(
    request: Request<Incoming>,
    method: &str,
    register: &(impl Fn(Registration) -> Result<(), String> + ?Sized),
) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    if request.uri().path() != method {
        return reply(12, "unknown method");
    }
    match Limited::new(request.into_body(), LARGEST).collect().await {
        Ok(body) => match Messages::default().take(&body.to_bytes()).first() {
            Some(message) => match register(Registration::decode(message)) {
                Ok(()) => reply(0, ""),
                Err(error) => reply(2, &error),
            },
            None => reply(13, "no message"),
        },
        Err(error) => reply(13, &error.to_string()),
    }
}

/// An empty message and a status.
fn reply(code: u32, message: &str) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(message) {
        trailers.insert("grpc-message", message);
    }
    let frames = [Ok(Frame::data(frame(Bytes::new()))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// One call, one answer; the error is as Go's gRPC says it.
pub async fn call(socket: &Path, method: &str, message: Bytes) -> Result<Bytes, String> {
    let mut found = None;
    exchange(socket, method, message, |message| {
        found = Some(Bytes::copy_from_slice(message));
        true
    })
    .await?;
    Ok(found.unwrap_or_default())
}

/// A call with an empty message and many answers, until the other side ends it or `each` says that it is enough.
pub async fn stream(socket: &Path, method: &str, each: impl Fn(&[u8]) -> bool) -> Result<(), String> {
    exchange(socket, method, Bytes::new(), each).await
}

async fn exchange(
    socket: &Path,
    method: &str,
    message: Bytes,
    mut each: impl FnMut(&[u8]) -> bool,
) -> Result<(), String> {
    let unavailable = |error: &dyn std::fmt::Display| {
        format!("rpc error: code = Unavailable desc = connection error: {}: {error}", socket.display())
    };
    let stream = UnixStream::connect(socket).await.map_err(|e| unavailable(&e))?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| unavailable(&e))?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::post(format!("http://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(frame(message)))
        .map_err(|e| unavailable(&e))?;
    let response = sender.send_request(request).await.map_err(|e| unavailable(&e))?;
    let mut status = status_of(response.headers());
    let mut body = response.into_body();
    let mut messages = Messages::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| unavailable(&e))?;
        if let Some(trailers) = frame.trailers_ref() {
            status = status.or_else(|| status_of(trailers));
        } else if let Ok(data) = frame.into_data() {
            for message in messages.take(&data) {
                if !each(&message) {
                    return Ok(());
                }
            }
            if messages.pending.len() > LARGEST {
                return Err(unavailable(&"a message is too large"));
            }
        }
    }
    drop(connection);
    match status {
        Some((0, _)) => Ok(()),
        Some((code, message)) => Err(format!("rpc error: code = Code({code}) desc = {message}")),
        None => Err(unavailable(&"the stream ended without a status")),
    }
}

fn status_of(headers: &HeaderMap) -> Option<(u32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").and_then(|m| m.to_str().ok()).unwrap_or_default();
    Some((code, message.to_owned()))
}

fn frame(message: Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put(message);
    out.freeze()
}

/// Puts messages together from what comes.
#[derive(Default)]
struct Messages {
    pending: BytesMut,
}

impl Messages {
    fn take(&mut self, data: &[u8]) -> Vec<Bytes> {
        self.pending.put_slice(data);
        let mut out = Vec::new();
        while let Some(head) = self.pending.get(1..5) {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if self.pending.len() < 5 + length {
                break;
            }
            self.pending.advance(5);
            out.push(self.pending.split_to(length).freeze());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let both = [frame(Bytes::from_static(b"one")), frame(Bytes::from_static(b"three"))].concat();
        let mut messages = Messages::default();
        let found: Vec<Bytes> = both.chunks(2).flat_map(|chunk| messages.take(chunk)).collect();
        assert_eq!(found, [&b"one"[..], &b"three"[..]]);
    }
}
