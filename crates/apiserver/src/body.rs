//! Bodies of requests and responses.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use api::status::BODY_LIMIT;
use bytes::Bytes;
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

/// Any error that ends a body early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the server answers with.
pub enum Body {
    /// Nothing, or already sent.
    Empty,
    /// One piece.
    Full(Bytes),
    /// Several pieces that are shared with the cache; their lengths are known.
    Pieces(VecDeque<Bytes>, u64),
    /// Pieces as they come.
    Stream(BoxStream<'static, Result<Bytes, BoxError>>),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::from(Bytes::from(text))
    }
}

impl Body {
    /// A body of these pieces.
    pub fn pieces(pieces: VecDeque<Bytes>) -> Body {
        let length = pieces.iter().map(|p| p.len() as u64).sum();
        Body::Pieces(pieces, length)
    }

    /// How many bytes it has, if that is known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Full(bytes) => Some(bytes.len() as u64),
            Body::Pieces(_, length) => Some(*length),
            Body::Stream(_) => None,
        }
    }

    /// All of it, for a body that ends.
    pub async fn collect_bytes(self) -> Result<Bytes, BoxError> {
        Ok(self.collect().await?.to_bytes())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Body::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Body::Pieces(pieces, left) => match pieces.pop_front() {
                Some(piece) => {
                    *left -= piece.len() as u64;
                    Poll::Ready(Some(Ok(Frame::data(piece))))
                }
                None => Poll::Ready(None),
            },
            Body::Stream(stream) => stream.as_mut().poll_next(cx).map(|next| next.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_empty(),
            Body::Pieces(pieces, _) => pieces.is_empty(),
            Body::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Pieces(_, left) => SizeHint::with_exact(*left),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

/// What a request brings, whether from a socket or from the same process.
pub enum RequestBody {
    /// From a connection.
    Wire(hyper::body::Incoming),
    /// From the same process.
    Local(UnsyncBoxBody<Bytes, BoxError>),
}

/// Why a request's body could not be had.
#[derive(Debug)]
pub enum ReadError {
    /// Beyond [`BODY_LIMIT`].
    TooLarge,
    /// The connection broke, or the client was too slow.
    Broken(String),
}

impl RequestBody {
    /// Reads all of it, up to the limit.
    pub async fn read(&mut self) -> Result<Bytes, ReadError> {
        match self {
            RequestBody::Wire(body) => read(body).await,
            RequestBody::Local(body) => read(body).await,
        }
    }

    /// Reads on for a while and forgets: clients that are cut off while they send (as HTTP/2 does it, with a
    /// reset) never look at the answer.
    pub async fn discard(&mut self) {
        let RequestBody::Wire(body) = self else { return };
        let all = async {
            let mut left = DISCARDED_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
                left = rest;
            }
        };
        // A client that takes longer than that is cut off after all.
        let _ = tokio::time::timeout(DISCARDED_FOR, all).await;
    }
}

/// How much of a body that is too large is read, to be polite.
const DISCARDED_BYTES: usize = 16 << 20;
/// For how long it is read.
const DISCARDED_FOR: std::time::Duration = std::time::Duration::from_secs(5);

async fn read<B>(body: &mut B) -> Result<Bytes, ReadError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut first: Option<Bytes> = None;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ReadError::Broken(e.into().to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        match (&first, rest.is_empty()) {
            (None, true) => first = Some(data),
            (Some(_), true) => {
                if let Some(head) = first.take() {
                    rest.extend_from_slice(&head);
                }
                rest.extend_from_slice(&data);
            }
            _ => rest.extend_from_slice(&data),
        }
        if first.as_ref().map_or(0, Bytes::len) + rest.len() > BODY_LIMIT {
            return Err(ReadError::TooLarge);
        }
    }
    Ok(first.unwrap_or_else(|| Bytes::from(rest)))
}
