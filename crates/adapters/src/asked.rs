//! What the adapters share that are asked over HTTP: how they start, whom they let finish, and a line for each request.

use std::{future::Future, net::SocketAddr, process::ExitCode, time::Instant};

use http::Request;
use http_ends::Whole;
use hyper::body::Incoming;
use serving::{Flags, Manual, Record, Serving, TraceContext};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs an adapter until it is told to end.
pub(crate) fn main<F>(
    manual: &'static Manual,
    flags: Flags,
    listen: SocketAddr,
    adapter: impl FnOnce(TcpListener, Serving) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    serving::run(manual, flags, |serving| async move {
        let listener = http_ends::bind(listen).map_err(|error| format!("{listen}: {error}"))?;
        adapter(listener, serving).await
    })
}

/// Answers until the serving stops. What went wrong inside stands beside the answer, for the log.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    serving: &Serving,
    answer: impl Fn(Request<()>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = (Whole, String)> + Send,
{
    serving.ready();
    let stopping = serving.stopping().clone();
    let serving = serving.clone();
    let handler = move |request: Request<Incoming>, client: SocketAddr| {
        let (answer, serving) = (answer.clone(), serving.clone());
        async move {
            let _guard = serving.guard();
            let began = Instant::now();
            let (head, _) = request.into_parts();
            let record = serving.access_log().is_on().then(|| Record {
                protocol: "http/1.1",
                client: client.to_string(),
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                trace_id: TraceContext::continued(head.headers.get("traceparent").map(|v| v.as_bytes())).trace_id(),
                ..Record::default()
            });
            let method = head.method.clone();
            let (answer, error) = answer(Request::from_parts(head, ())).await;
            if let Some(mut record) = record {
                record.status = Some(answer.status().as_u16());
                record.bytes_out = http_ends::body_bytes(&method, &answer);
                record.duration_ms = began.elapsed().as_secs_f64() * 1000.0;
                record.error = error;
                serving.access_log().write(record);
            }
            answer
        }
    };
    http_ends::serve(listener, stopping, handler).await;
}
