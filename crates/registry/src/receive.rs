//! From a request's body into an upload, in bounded memory: while one batch is hashed and written on a thread that may
//! block, the next one is received. A slow client holds no thread.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{
    failure::{Code, Failure},
    sessions::Writing,
};

/// Two of these at most are in memory for each upload (and one frame of the connection's).
const BATCH: usize = 1 << 20;

/// Appends the whole body. What came before an error stays, so that the client may take it up from there. With a
/// `limit` there must be exactly so many bytes.
pub(crate) async fn receive(
    writing: Writing,
    mut body: Incoming,
    limit: Option<u64>,
    patience: Duration,
) -> Result<Writing, Failure> {
    let mut idle = Some(writing);
    let mut busy = None;
    let mut received = 0;
    loop {
        let batch = gather(&mut body, patience).await;
        if let Some(task) = busy.take() {
            let (writing, result): (Writing, Result<(), Failure>) = task_result(task).await?;
            result?;
            idle = Some(writing);
        }
        // Bytes that came before the body broke off are still good.
        let (batch, broken) = match batch {
            Ok(batch) => (batch, None),
            Err((batch, failure)) => (batch, Some(failure)),
        };
        let mut writing = idle.take().expect("it is idle whenever nothing is busy, and nothing was or it has ended");
        if batch.is_empty() {
            return match broken {
                Some(failure) => Err(failure),
                None if limit.is_some_and(|limit| received != limit) => Err(Code::SizeInvalid.failure()),
                None => Ok(writing),
            };
        }
        received += batch.iter().map(|b| b.len() as u64).sum::<u64>();
        if limit.is_some_and(|limit| received > limit) {
            return Err(Code::SizeInvalid.failure());
        }
        // The right to write goes along: if this request is given up, it comes back when the bytes are written.
        busy = Some(tokio::task::spawn_blocking(move || {
            let result = writing.write(&batch);
            (writing, result)
        }));
        if let Some(failure) = broken {
            let task = busy.take().expect("it was just begun");
            task_result(task).await?.1?;
            return Err(failure);
        }
    }
}

/// What has come, up to a batch; nothing at the end.
async fn gather(body: &mut Incoming, patience: Duration) -> Result<Vec<Bytes>, (Vec<Bytes>, Failure)> {
    let (mut batch, mut size) = (Vec::new(), 0);
    while size < BATCH {
        let frame = if batch.is_empty() {
            match tokio::time::timeout(patience, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    let late = Code::BlobUploadInvalid.because("the client sends nothing any more");
                    return Err((batch, late.status(StatusCode::REQUEST_TIMEOUT)));
                }
            }
        } else {
            match body.frame().now_or_never() {
                Some(frame) => frame,
                None => break,
            }
        };
        match frame {
            None => break,
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.into_data().ok().filter(|b| !b.is_empty()) {
                    size += bytes.len();
                    batch.push(bytes);
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a body broke off");
                return Err((batch, Code::BlobUploadInvalid.because("the body broke off")));
            }
        }
    }
    Ok(batch)
}

async fn task_result<T>(task: tokio::task::JoinHandle<T>) -> Result<T, Failure> {
    task.await.map_err(|e| Failure::internal(&e))
}
