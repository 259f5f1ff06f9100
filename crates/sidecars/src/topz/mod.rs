//! `hythe sidecar topz`: the processes of a shared PID namespace and what they use, for people and programs.

mod groups;
mod page;
mod process;
mod snapshot;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serving::{Endpoint, Flags, Manual, Port, Record, Serving, TraceContext, Variable};
use tokio::{net::TcpListener, sync::Mutex};

pub use self::{
    groups::{Limits, limits},
    page::page,
    process::{Process, parse_stat},
    snapshot::{Host, Machine, Row, Snapshot},
};

/// What a user must know of it.
pub static MANUAL: Manual = Manual {
    name: "sidecar topz",
    about: "Processes of a shared PID namespace and what they use.",
    version: "v1",
    ports: &[Port {
        number: 8080,
        protocol: "tcp",
        about: "HTTP: GET /topz and GET /api/v1/topz, as JSON, or as a page for browsers (?sort=cpu|memory|pid, ?format=json|html)",
    }],
    endpoints: &[Endpoint { method: "GET", path: "/api/v1/topz", about: "as on the port" }],
    variables: &[Variable { name: "TOPZ_ADDR", default: "0.0.0.0:8080", about: "where to listen" }],
};

/// A moment that lies this far back or less serves as the beginning of a measurement.
const RECENT: Duration = Duration::from_secs(60);
/// The shortest measurement of processor time: a clock tick is 10 ms.
const SHORTEST: Duration = Duration::from_millis(250);

/// Shows processes of a shared PID namespace and what they use.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
pub struct Arguments {
    /// Where to listen.
    #[arg(long = "addr", env = "TOPZ_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub address: SocketAddr,
    /// Where the kernel tells of processes.
    #[arg(long, default_value = "/proc", value_name = "DIR")]
    pub proc: PathBuf,
    /// Where the kernel tells of control groups.
    #[arg(long, default_value = "/sys/fs/cgroup", value_name = "DIR")]
    pub cgroups: PathBuf,
    #[command(flatten)]
    serving: Flags,
}

/// Runs until it is told to end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    let flags = arguments.serving.clone();
    serving::run(&MANUAL, flags, |serving| async move {
        let address = arguments.address;
        let listener = http_ends::bind(address).map_err(|error| format!("{address}: {error}"))?;
        serve(Host { proc: arguments.proc, groups: arguments.cgroups }, listener, serving).await;
        Ok(())
    })
}

/// Serves until the serving stops.
pub async fn serve(host: Host, listener: TcpListener, serving: Serving) {
    let top = Arc::new(Top { host, last: Mutex::default() });
    let shown = top.clone();
    serving.admin().route(Method::GET, "/api/v1/topz", move |request| {
        let top = shown.clone();
        async move { top.answer(request.uri().query().unwrap_or_default(), false).await }
    });
    serving.ready();
    let stopping = serving.stopping().clone();
    let handler = move |request: Request<Incoming>, client: SocketAddr| {
        let (top, serving) = (top.clone(), serving.clone());
        async move {
            let _guard = serving.guard();
            let began = Instant::now();
            let browser = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let browser = browser.is_some_and(|accept| accept.contains("text/html"));
            let answer = match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, "/topz" | "/api/v1/topz") => {
                    top.answer(request.uri().query().unwrap_or_default(), browser).await
                }
                (_, "/topz" | "/api/v1/topz") => error(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
                _ => error(StatusCode::NOT_FOUND, "there is /topz"),
            };
            if serving.access_log().is_on() {
                let trace = TraceContext::continued(request.headers().get("traceparent").map(|value| value.as_bytes()));
                serving.access_log().write(Record {
                    protocol: "http/1.1",
                    client: client.to_string(),
                    method: request.method().to_string(),
                    path: request.uri().to_string(),
                    status: Some(answer.status().as_u16()),
                    bytes_out: http_ends::body_bytes(request.method(), &answer),
                    duration_ms: began.elapsed().as_secs_f64() * 1000.0,
                    trace_id: trace.trace_id(),
                    ..Record::default()
                });
            }
            answer
        }
    };
    http_ends::serve(listener, stopping, handler).await;
}

struct Top {
    host: Host,
    /// The moment of the last request: nothing is read while nobody asks.
    last: Mutex<Option<Snapshot>>,
}

impl Top {
    async fn answer(&self, query: &str, browser: bool) -> http_ends::Whole {
        let given = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let html = given("format").map_or(browser, |format| format == "html");
        let sort = given("sort").unwrap_or("cpu");
        if !["cpu", "memory", "pid"].contains(&sort) {
            return error(StatusCode::BAD_REQUEST, "sort must be cpu, memory or pid");
        }
        let mut rows = match self.measure().await {
            Ok(rows) => rows,
            Err(reason) => return error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
        };
        rows.sort_by(|left, right| match sort {
            "memory" => right.resident_bytes.cmp(&left.resident_bytes),
            "pid" => left.pid.cmp(&right.pid),
            _ => right.cpu_percent.total_cmp(&left.cpu_percent).then(left.pid.cmp(&right.pid)),
        });
        let machine = self.host.machine();
        if html {
            return http_ends::answer(StatusCode::OK, "text/html; charset=utf-8", page(&machine, &rows, sort));
        }
        let body = serde_json::json!({
            "kind": "ProcessList", "apiVersion": "v1", "time": jiff::Timestamp::now().to_string(),
            "machine": machine, "items": rows,
        });
        http_ends::json(StatusCode::OK, body.to_string())
    }

    /// Processor time is what was used since the last request, or, if that was long ago, within a moment from now.
    async fn measure(&self) -> std::io::Result<Vec<Row>> {
        let mut last = self.last.lock().await;
        let before = match last.take().filter(|before| before.at.elapsed() <= RECENT) {
            Some(before) => before,
            None => self.host.snapshot()?,
        };
        if let Some(rest) = SHORTEST.checked_sub(before.at.elapsed()) {
            tokio::time::sleep(rest).await;
        }
        let now = self.host.snapshot()?;
        let rows = self.host.rows(&before, &now);
        *last = Some(now);
        Ok(rows)
    }
}

fn error(status: StatusCode, message: &str) -> http_ends::Whole {
    let body = serde_json::json!({"kind": "Error", "apiVersion": "v1", "message": message});
    http_ends::json(status, body.to_string())
}
