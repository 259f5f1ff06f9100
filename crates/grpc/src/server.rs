//! The answering end of a connection, and a server of one unary method on a unix socket.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::body::{Piece, Pieces};
use crate::frame::{Messages, frame};
use crate::{Message, Status};

/// Calls at a time on one connection.
const CALLS: u32 = 256;

/// A call that came.
pub struct Call {
    /// `package.Service/Method`
    pub method: String,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    messages: Messages,
    ready: VecDeque<Bytes>,
}

impl Call {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The message of a call that has one.
    ///
    /// # Errors
    /// A [`Status`] to answer with.
    pub async fn message(&mut self) -> Result<Bytes, Status> {
        self.next().await?.ok_or_else(|| Status::new(Status::INTERNAL, "no message"))
    }

    /// The next message of a call that may have many; `None` when the caller has said all.
    ///
    /// # Errors
    /// A [`Status`] to answer with.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let broken = |error: &dyn std::fmt::Display| Status::new(Status::INTERNAL, error.to_string());
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            let Some(part) = self.body.frame().await else { return Ok(None) };
            let Ok(data) = part.map_err(|e| broken(&e))?.into_data() else { continue };
            self.ready.extend(self.messages.take(&data).map_err(|e| broken(&e))?);
        }
    }
}

/// What is answered.
pub enum Reply {
    /// One message.
    One(Message),
    /// Messages as they come, until the sender goes.
    Many(mpsc::Receiver<Message>),
}

/// Answers the calls of a connection until the other side closes it. A call that the other side gives up is dropped
/// where it stands.
pub async fn connection<T, F, A>(io: T, answer: F)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Call) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Reply, Status>> + Send + 'static,
{
    let answer = Arc::new(answer);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let method = request.uri().path().trim_start_matches('/').to_owned();
            let (parts, body) = request.into_parts();
            let call =
                Call { method, headers: parts.headers, body, messages: Messages::default(), ready: VecDeque::new() };
            let result = answer(call).await;
            Ok::<_, Infallible>(respond(result))
        }
    });
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.max_concurrent_streams(CALLS);
    // A client that goes away in the middle is no news.
    let _ = server.serve_connection(TokioIo::new(io), service).await;
}

fn respond(result: Result<Reply, Status>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let ok = || Status::new(Status::OK, "");
    let body = match result {
        Ok(Reply::One(message)) => whole([Frame::data(frame(&message.0)), Frame::trailers(ok().trailers())]),
        Ok(Reply::Many(mut messages)) => {
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(async move {
                loop {
                    let message = tokio::select! {
                        message = messages.recv() => message,
                        () = sender.closed() => return,
                    };
                    let Some(message) = message else { break };
                    if sender.send(Piece::Message(message.0.into())).await.is_err() {
                        return;
                    }
                }
                let _ = sender.send(Piece::End(ok())).await;
            });
            Pieces(receiver).boxed_unsync()
        }
        Err(status) => whole([Frame::trailers(status.trailers())]),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn whole<const N: usize>(frames: [Frame<Bytes>; N]) -> UnsyncBoxBody<Bytes, Infallible> {
    StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed_unsync()
}

/// Serves `method` (`package.Service/Method`) on a new socket; `take` is given each request's message, and an empty one
/// answers it.
pub async fn serve(
    socket: &Path,
    method: &'static str,
    take: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static,
) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let take = Arc::new(take);
    loop {
        let (stream, _) = listener.accept().await?;
        let take = Arc::clone(&take);
        tokio::spawn(connection(stream, move |mut call: Call| {
            let take = Arc::clone(&take);
            async move {
                if call.method != method {
                    return Err(Status::new(Status::UNIMPLEMENTED, "unknown method"));
                }
                let message = call.message().await?;
                take(&message).map_err(|error| Status::new(Status::UNKNOWN, error))?;
                Ok(Reply::One(Message::default()))
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, Fields};

    #[tokio::test]
    async fn a_connection_carries_many_calls_and_each_has_its_own_end() {
        let (client, server) = tokio::io::duplex(1 << 16);
        tokio::spawn(connection(server, |mut call: Call| async move {
            let message = call.message().await?;
            match call.method.as_str() {
                "a.B/Echo" => Ok(Reply::One(Message(message.to_vec()))),
                "a.B/Count" => {
                    let (sender, receiver) = mpsc::channel(1);
                    tokio::spawn(async move {
                        for number in 1..=Fields::read(&message).number(1) {
                            let _ = sender.send(Message::default().number(1, number)).await;
                        }
                    });
                    Ok(Reply::Many(receiver))
                }
                other => Err(Status::new(Status::UNIMPLEMENTED, format!("unknown method {other}"))),
            }
        }));
        let channel = Channel::over(client, "localhost").await.unwrap();
        let three = Message::default().number(1, 3);
        let mut count = channel.open("a.B/Count", &[]).unwrap();
        count.sending.send(&three).await.unwrap();
        assert_eq!(channel.unary("a.B/Echo", &three).await.unwrap(), three.0);
        let mut found = Vec::new();
        while let Some(message) = count.receiving.next().await.unwrap() {
            found.push(Fields::read(&message).number(1));
        }
        assert_eq!(found, [1, 2, 3]);
        let refused = channel.unary("a.B/Other", &three).await.unwrap_err();
        assert_eq!(refused.to_string(), "rpc error: code = Unimplemented desc = unknown method a.B/Other");
    }
}
