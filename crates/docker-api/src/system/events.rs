//! `GET /events`: the past since a moment, then what happens until one.

use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;

use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, json_stream};
use crate::time;

/// Streams events.
pub(crate) async fn events(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let moment = |name: &str| match call.query(name) {
        None => Ok(None),
        Some(text) => time::query(text).map(Some).ok_or_else(|| ApiError::bad(format!("invalid {name}: {text}"))),
    };
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let [since, until] = ["since", "until"].map(|name| call.query(name).unwrap_or_default());
        return Err(ApiError::bad(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let filters = call.filters()?;
    let (past, mut receiver) = daemon.events.subscribe();
    // Without a moment to start from or to end at, only the future counts.
    let asked = since.is_some() || until.is_some();
    let past: Vec<_> = past.into_iter().filter(|event| asked && since.is_none_or(|since| event.at >= since)).collect();
    let late = move |at: Timestamp| until.is_some_and(|until| at > until);
    let passing = filters.clone();
    let history = past.into_iter().filter(move |event| !late(event.at) && event.passes(&passing)).map(|e| e.json());
    let future = async_stream(move |sender| async move {
        let end = until.map(|until| {
            let left = until.duration_since(Timestamp::now());
            tokio::time::Instant::now() + std::time::Duration::try_from(left).unwrap_or_default()
        });
        loop {
            let event = tokio::select! {
                event = receiver.recv() => event,
                () = async { match end { Some(end) => tokio::time::sleep_until(end).await, None => std::future::pending().await } } => None,
                () = sender.closed() => None,
            };
            let Some(event) = event else { break };
            if event.passes(&filters) && sender.send(event.json()).await.is_err() {
                break;
            }
        }
    });
    Ok(json_stream(futures::stream::iter(history).chain(future)))
}

/// What a task sends, as a stream that ends with it.
fn async_stream<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    task: impl FnOnce(tokio::sync::mpsc::Sender<T>) -> F,
) -> impl futures::Stream<Item = T> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(task(sender));
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}
