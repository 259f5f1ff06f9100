//! An HTTP/1.1 server that ends gracefully.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A client that takes longer for the head of its request is let go.
const HEAD: Duration = Duration::from_secs(15);

/// What is answered.
pub type Whole = Response<Full<Bytes>>;

/// Body bytes that this answer to `method` sends.
pub fn body_bytes(method: &Method, answer: &Whole) -> u64 {
    if method == Method::HEAD { 0 } else { answer.body().size_hint().exact().unwrap_or(0) }
}

/// Opens a listening socket.
///
/// # Errors
/// When the address is taken or not this machine's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves until `stopping`, then closes the listener, and returns when the requests under way are answered.
pub async fn serve<F>(
    listener: TcpListener,
    stopping: CancellationToken,
    handler: impl Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Whole> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        let (stream, client) = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give others a moment to close theirs.
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (handler, stopping) = (handler.clone(), stopping.clone());
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let answer = handler(request, client);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, %client, "the connection broke");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Why a request's body could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed: `413`.
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(usize),
    /// The client broke off: `400`.
    #[error("the request's body did not arrive whole: {0}")]
    Broken(String),
}

impl BodyError {
    /// The status that tells the client.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request's whole body, of at most `limit` bytes.
///
/// # Errors
/// When there is more, or the client broke off.
pub async fn whole(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(BodyError::TooLarge(limit)),
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
}

/// An answer of any type.
#[must_use]
pub fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Whole {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// An answer in JSON.
#[must_use]
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Whole {
    answer(status, "application/json", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_head_sends_no_body_and_every_other_its_own() {
        let answer = json(StatusCode::OK, "{\"a\":1}");
        assert_eq!(body_bytes(&Method::GET, &answer), 7);
        assert_eq!(body_bytes(&Method::HEAD, &answer), 0);
    }
}
