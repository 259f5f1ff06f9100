//! A server of one unary method on a unix socket.

use std::{convert::Infallible, io, path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;

use super::{
    LARGEST, Status,
    frame::{Messages, frame},
};

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
        let answer = service_fn(move |request: Request<Incoming>| {
            let take = Arc::clone(&take);
            async move { Ok::<_, Infallible>(reply(&answer(request, method, take.as_ref()).await)) }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
    }
}

async fn answer(
    request: Request<Incoming>,
    method: &str,
    take: &(impl Fn(&[u8]) -> Result<(), String> + ?Sized),
) -> Status {
    if request.uri().path().strip_prefix('/') != Some(method) {
        return Status::new(Status::UNIMPLEMENTED, "unknown method");
    }
    match Limited::new(request.into_body(), LARGEST).collect().await {
        Ok(body) => match Messages::default().take(&body.to_bytes()).first() {
            Some(message) => match take(message) {
                Ok(()) => Status::new(Status::OK, ""),
                Err(error) => Status::new(Status::UNKNOWN, error),
            },
            None => Status::new(Status::INTERNAL, "no message"),
        },
        Err(error) => Status::new(Status::INTERNAL, error.to_string()),
    }
}

/// An empty message and a status.
fn reply(status: &Status) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let frames = [Ok(Frame::data(frame(&[]))), Ok(Frame::trailers(status.trailers()))];
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
