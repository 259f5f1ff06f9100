//! Calls with one answer or many.

use std::fmt::Display;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Message, Status,
    frame::{Messages, TooLarge, frame},
};

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The connection does not stand or ended early, or what came is too much. A retry may help.
    #[error("{0}")]
    Transport(String),
    /// It answered without a status: it does not speak gRPC.
    #[error("the answer is not a gRPC one")]
    NoStatus,
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Status),
}

impl CallError {
    pub(crate) fn transport(error: impl Display) -> Self {
        Self::Transport(error.to_string())
    }
}

impl From<TooLarge> for CallError {
    fn from(error: TooLarge) -> Self {
        Self::transport(error)
    }
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Whom the request names as its host.
    pub authority: &'a str,
    /// `package.Service/Method`
    pub method: &'a str,
    /// Who asks.
    pub user_agent: &'a str,
}

/// One call, one answer: an encoded message, empty if there was none.
pub async fn call<T>(io: T, target: Target<'_>, message: &Message) -> Result<Bytes, CallError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut found = None;
    let keep = |message: Bytes| {
        found = Some(message);
        true
    };
    stream(io, target, message, keep).await?;
    Ok(found.unwrap_or_default())
}

/// A call with many answers, until the other side ends it or `each` says that it is enough.
pub async fn stream<T>(
    io: T,
    target: Target<'_>,
    message: &Message,
    mut each: impl FnMut(Bytes) -> bool,
) -> Result<(), CallError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .map_err(CallError::transport)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::post(format!("http://{}/{}", target.authority, target.method))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", target.user_agent)
        .body(Full::new(frame(&message.0)))
        .map_err(CallError::transport)?;
    let response = sender.send_request(request).await.map_err(CallError::transport)?;
    let mut status = Status::of(response.headers());
    let mut body = response.into_body();
    let mut messages = Messages::default();
    while let Some(part) = body.frame().await {
        let part = part.map_err(CallError::transport)?;
        if let Some(trailers) = part.trailers_ref() {
            status = status.or_else(|| Status::of(trailers));
        } else if let Ok(data) = part.into_data() {
            for message in messages.take(&data)? {
                if !each(message) {
                    return Ok(());
                }
            }
        }
    }
    match status {
        Some(status) if status.code == Status::OK => Ok(()),
        Some(status) => Err(status.into()),
        None => Err(CallError::NoStatus),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{StreamBody, combinators::UnsyncBoxBody};
    use hyper::{body::Frame, service::service_fn};

    use super::*;

    /// Calls a server that gives these messages and, if there is one, this status.
    async fn ask(answers: &'static [&'static [u8]], status: Option<Status>, enough: usize) -> (Vec<Bytes>, String) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let status = status.clone();
            async move {
                assert_eq!((request.uri().path(), &request.headers()["te"]), ("/a.B/C", &"trailers".parse().unwrap()));
                let frames: Vec<_> = answers
                    .iter()
                    .map(|a| Ok::<_, std::convert::Infallible>(Frame::data(frame(a))))
                    .chain(status.map(|s| Ok(Frame::trailers(s.trailers()))))
                    .collect();
                let body: UnsyncBoxBody<_, _> = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service);
        let _server = AbortOnDropHandle::new(tokio::spawn(server));
        let target = Target { authority: "localhost", method: "a.B/C", user_agent: "test" };
        let mut found = Vec::new();
        let each = |message| {
            found.push(message);
            found.len() < enough
        };
        let result = stream(client, target, &Message::default(), each).await;
        (found, result.map_or_else(|error| error.to_string(), |()| "fine".to_owned()))
    }

    #[tokio::test]
    async fn answers_come_until_the_status_or_until_it_is_enough() {
        let ok = || Some(Status::new(0, ""));
        assert_eq!(ask(&[b"one", b"two"], ok(), 9).await, (vec!["one".into(), "two".into()], "fine".into()));
        assert_eq!(ask(&[b"one", b"two"], ok(), 1).await, (vec!["one".into()], "fine".into()));
        let (_, said) = ask(&[], Some(Status::new(5, "no such disk")), 9).await;
        assert_eq!(said, "rpc error: code = NotFound desc = no such disk");
        assert_eq!(ask(&[b"one"], None, 9).await.1, "the answer is not a gRPC one");
    }
}
