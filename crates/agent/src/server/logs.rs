//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use http::{Request, Response};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use super::{
    log_socket,
    query::Query,
    respond::{Body, Refusal, streamed},
};
use crate::{
    agent::Agent,
    logs::{Options, Source, Stream, send},
    pods::{ContainerRecord, Current, PodView, Role},
};

/// Chunks that wait for a slow client.
const CHUNKS: usize = 16;

pub(super) async fn answer(
    agent: &Agent,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let upgrade = log_socket::wanted(request.headers())?;
    let options = options(query, Timestamp::now())?;
    let view =
        agent.pods.named(namespace, pod).ok_or_else(|| Refusal::not_found(format!("pod \"{pod}\" not found")))?;
    let record = view
        .containers
        .iter()
        .find(|c| c.name == container)
        .ok_or_else(|| Refusal::bad_request(format!("container {container} is not valid for pod {pod}")))?;
    let attempt = attempt(record, pod, waits_for(&view), query.flag(&["previous"])).map_err(Refusal::bad_request)?;
    let path = agent.context.paths(&view.pod).log(container, attempt);
    let follow = query.flag(&["follow"]) && !query.flag(&["previous"]);
    let ended = follow.then(|| view.pod.metadata.uid.as_deref().and_then(|uid| agent.pods.follow(uid))).flatten();
    let source = Source { path, ended: ended.map(|views| Box::pin(end_of(views, container.to_owned(), attempt)) as _) };
    let (sender, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        if let Err(error) = send(source, options, sender).await {
            tracing::debug!(%error, "a log could not be read to its end");
        }
    });
    match upgrade {
        Some(upgrade) => log_socket::accept(&upgrade, request, chunks),
        None => Ok(streamed("text/plain", chunks)),
    }
}

/// What a container waits for that says nothing of its own, as the pod's status shows it.
fn waits_for(view: &PodView) -> &'static str {
    let over = |r: &ContainerRecord| matches!(&r.current, Current::Ended(e) if e.exit_code == 0);
    let initializing = view.containers.iter().any(|r| r.role == Role::Init && !over(r));
    if initializing { "PodInitializing" } else { "ContainerCreating" }
}

/// Which start of the container is meant, or upstream's words for why there is none.
fn attempt(record: &ContainerRecord, pod: &str, waits_for: &str, previous: bool) -> Result<u32, String> {
    let name = &record.name;
    if previous {
        let last = record.last.as_ref().and_then(|e| e.id.rsplit('.').next()?.parse().ok());
        return last.ok_or_else(|| format!("previous terminated container \"{name}\" in pod \"{pod}\" not found"));
    }
    match (&record.current, &record.last) {
        (Current::Waiting { reason, .. }, None) => {
            let reason = reason.as_deref().unwrap_or(waits_for);
            let verb = match reason {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                _ => return Err(format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {reason}")),
            };
            Err(format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {verb}"))
        }
        _ => Ok(record.restart_count),
    }
}

/// Resolves when that start of the container is over.
async fn end_of(mut views: watch::Receiver<std::sync::Arc<PodView>>, container: String, attempt: u32) {
    let over = |view: &std::sync::Arc<PodView>| {
        let record = view.containers.iter().find(|c| c.name == container);
        record.is_none_or(|r| r.restart_count > attempt || (r.restart_count == attempt && !r.running()))
    };
    // An actor that is gone is the end as well.
    let _ = views.wait_for(over).await;
}

fn options(query: &Query, now: Timestamp) -> Result<Options, Refusal> {
    let number = |name| query.number(name).map_err(Refusal::bad_request);
    let non_negative =
        |n: i64| u64::try_from(n).map_err(|_| Refusal::bad_request("must be greater than or equal to 0"));
    let since = match (number("sinceSeconds")?, query.first("sinceTime").filter(|t| !t.is_empty())) {
        (Some(seconds), _) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, Some(time)) => Some(time.parse().map_err(|e| Refusal::bad_request(format!("sinceTime: {e}")))?),
        (None, None) => None,
    };
    let stream = match query.first("stream").unwrap_or("All") {
        "Stdout" => Stream::Stdout,
        "Stderr" => Stream::Stderr,
        "All" | "" => Stream::All,
        other => return Err(Refusal::bad_request(format!("stream: Unsupported value: {other:?}"))),
    };
    Ok(Options {
        tail: number("tailLines")?.map(non_negative).transpose()?,
        since,
        timestamps: query.flag(&["timestamps"]),
        limit: number("limitBytes")?.map(non_negative).transpose()?,
        stream,
    })
}
