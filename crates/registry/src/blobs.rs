//! `/v2/NAME/blobs/DIGEST`

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use engine::content::{Arriving, Digest, Repository};
use futures::{StreamExt, TryStreamExt, stream};
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE},
};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;

use crate::{
    answer::{Body, CONTENT_DIGEST, finish},
    failure::{Code, Failure},
    handler::accepted,
    manifests::is_known,
    mirror,
    range::Range,
    registry::Registry,
};

/// Read at a time; two of these are in memory for each answer.
const PIECE: u64 = 256 << 10;

/// Where a blob's bytes come from.
pub(crate) enum Source {
    /// All of it is here.
    Here { file: File, size: u64 },
    /// It comes from the upstream registry.
    Arriving(Arriving),
    /// Only its length was asked for.
    Known { size: u64 },
}

/// `GET` and `HEAD`
pub(crate) async fn get(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let head = request.method() == http::Method::HEAD;
    let (wanted, keep) = (digest.clone(), registry.config().keep);
    let content = registry.config().content.clone();
    let here = registry
        .blocking(repository, move |r| {
            if head {
                // Whoever asks so may count on it for a push.
                return Ok::<_, Failure>(r.promise_blob(&wanted, keep)?.map(|size| Source::Known { size }));
            }
            let Some(size) = r.blob(&wanted) else { return Ok(None) };
            Ok(File::open(content.blob_path(&wanted)).ok().map(|file| Source::Here { file, size }))
        })
        .await?;
    let source = match here {
        Some(source) => source,
        None => mirror::blob(registry, repository, digest, head)
            .await?
            .ok_or_else(|| Code::BlobUnknown.failure().detail(json!({"digest": digest})))?,
    };
    let size = match &source {
        Source::Here { size, .. } | Source::Known { size } => *size,
        Source::Arriving(arriving) => arriving.size,
    };
    let tag = format!("\"{digest}\"");
    let response = Response::builder()
        .header(CONTENT_DIGEST, digest.as_str())
        .header(ETAG, &tag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CACHE_CONTROL, "max-age=31536000");
    if is_known(request.headers(), &tag) {
        return Ok(finish(response.status(StatusCode::NOT_MODIFIED), Body::default()));
    }
    let header = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let asked = header(RANGE).filter(|_| header(IF_RANGE).is_none_or(|t| t == tag));
    let (response, from, end) = match Range::parse(asked, size) {
        Range::Whole => (response, 0, size),
        Range::Part(from, end) => {
            let range = format!("bytes {from}-{}/{size}", end - 1);
            (response.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, range), from, end)
        }
        Range::Unsatisfiable => {
            let range = HeaderValue::from_str(&format!("bytes */{size}")).expect("digits are fine in a header");
            return Err(Code::RangeInvalid.failure().header(CONTENT_RANGE, range));
        }
    };
    let response = response.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, end - from);
    let body = match source {
        Source::Here { file, .. } => read(file, from, end),
        Source::Arriving(arriving) => follow(arriving, from, end),
        Source::Known { .. } => Body::default(),
    };
    Ok(finish(response, body))
}

/// `DELETE`
pub(crate) async fn delete(
    registry: &Registry,
    repository: &Repository,
    digest: Digest,
) -> Result<Response<Body>, Failure> {
    let wanted = digest.clone();
    if !registry.blocking(repository, move |r| r.delete_blob(&wanted)).await? {
        return Err(Code::BlobUnknown.failure().detail(json!({"digest": digest})));
    }
    registry.sweep();
    Ok(accepted())
}

/// A file's bytes; the next piece is read while the one before is sent.
fn read(file: File, from: u64, end: u64) -> Body {
    let file = Arc::new(file);
    let pieces = stream::iter((from..end).step_by(PIECE as usize))
        .map(move |at| piece(file.clone(), at, (end - at).min(PIECE)))
        .buffered(2);
    BodyExt::boxed_unsync(StreamBody::new(pieces.map_ok(Frame::data)))
}

/// A blob's bytes as they arrive. The last one is held back until all of them are verified, so that nobody is
/// given the whole of something that is not what it is called.
fn follow(arriving: Arriving, from: u64, end: u64) -> Body {
    let Arriving { size, progress } = arriving;
    let pieces = stream::try_unfold((from, progress), move |(at, mut progress)| async move {
        if at >= end {
            return Ok(None);
        }
        loop {
            let now = progress.borrow_and_update().clone();
            let verified = match &now.ended {
                Some(Err(error)) => return Err(io::Error::other(error.to_string())),
                Some(Ok(())) => true,
                None => false,
            };
            let ready = if verified { size } else { now.length.min(size.saturating_sub(1)) };
            if let Some(file) = now.file.filter(|_| ready > at) {
                let bytes = piece(file, at, (ready.min(end) - at).min(PIECE)).await?;
                let next = at + bytes.len() as u64;
                return Ok(Some((Frame::data(bytes), (next, progress))));
            }
            if verified || progress.changed().await.is_err() {
                return Err(io::Error::other("the download was cut off"));
            }
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces))
}

async fn piece(file: Arc<File>, at: u64, length: u64) -> io::Result<Bytes> {
    let read = move || {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, at)?;
        Ok(Bytes::from(bytes))
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
