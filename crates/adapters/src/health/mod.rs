//! `hythe adapter health`: a probe that asks something real, for software that a probe cannot ask.

mod check;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use http::{Method, Request, StatusCode};
use http_ends::{Client, Names, Trust};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use serde_json::{Value, json};
use serving::{Flags, Manual, Port, Serving, Span, Variable};
use tokio::{net::TcpListener, sync::Mutex};

pub use self::check::Check;

/// What a user must know of it.
pub static MANUAL: Manual = Manual {
    name: "adapter health",
    about: "A probe that asks something real: a query, a page, a connection or a script.",
    version: "v1",
    ports: &[Port {
        number: 8086,
        protocol: "tcp",
        about: "HTTP: GET /healthz and GET /api/v1/health, 200 or 500 with the reason",
    }],
    endpoints: &[],
    variables: &[
        Variable {
            name: "HEALTH_CHECKS",
            default: "",
            about: "redis://…[?command=…&expect=…], memcached://…, postgres://…[?query=…&expect=…], mysql://…, tcp://HOST:PORT, http(s)://… or exec:COMMAND; several with commas",
        },
        Variable { name: "HEALTH_LISTEN", default: "0.0.0.0:8086", about: "where to listen" },
        Variable { name: "HEALTH_TIMEOUT", default: "1s", about: "the most that one check may take" },
        Variable {
            name: "HEALTH_CACHE",
            default: "1s",
            about: "how long an answer holds, however often it is asked for",
        },
        Variable { name: "HEALTH_PASSWORD_FILE", default: "", about: "file that holds the password" },
        Variable { name: "HEALTH_CA_FILE", default: "", about: "certificate authorities for https, PEM file" },
    ],
};

/// Asks something real when it is probed, and answers 200, or 500 with the reason.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
pub struct Arguments {
    /// What is asked; may be given several times, and all must be well.
    #[arg(
        long = "check",
        env = "HEALTH_CHECKS",
        hide_env_values = true,
        value_name = "CHECK",
        required = true,
        value_delimiter = ','
    )]
    pub checks: Vec<Check>,
    /// Where to listen.
    #[arg(long, env = "HEALTH_LISTEN", default_value = "0.0.0.0:8086", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// The most that one check may take.
    #[arg(long, env = "HEALTH_TIMEOUT", default_value = "1s", value_name = "TIME")]
    pub timeout: Span,
    /// How long an answer holds, however often it is asked for.
    #[arg(long, env = "HEALTH_CACHE", default_value = "1s", value_name = "TIME")]
    pub cache: Span,
    /// File that holds the password of all checks; it is read at each.
    #[arg(long, env = "HEALTH_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Certificate authorities for https, in PEM [default: the system's].
    #[arg(long, env = "HEALTH_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    #[command(flatten)]
    serving: Flags,
}

/// Runs until it is told to end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    crate::asked::main(&MANUAL, arguments.serving.clone(), arguments.listen, |listener, serving| async move {
        serve(arguments, listener, serving).await;
        Ok(())
    })
}

/// Serves until the serving stops.
pub async fn serve(arguments: Arguments, listener: TcpListener, serving: Serving) {
    let results = Family::<ByResult, Counter>::default();
    serving.admin().metrics(|registry| {
        registry.register("hythe_health_checks", "Checks by result", results.clone());
    });
    let trust = arguments.ca_file.clone().map_or(Trust::System, Trust::File);
    let client = Client::new(Names::default(), trust);
    let probe = Arc::new(Probe { arguments, client, last: Mutex::default(), results });
    let answer = move |request: Request<()>| {
        let probe = probe.clone();
        async move {
            let answer = match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, "/healthz" | "/api/v1/health") => probe.answer().await,
                (_, "/healthz" | "/api/v1/health") => told(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
                _ => told(StatusCode::NOT_FOUND, "there is /healthz"),
            };
            (answer, String::new())
        }
    };
    crate::asked::serve(listener, &serving, answer).await;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    check: String,
    result: &'static str,
}

struct Probe {
    arguments: Arguments,
    client: Client,
    /// The last answer. Who asks while it is being found waits for it, so that many probes are one check.
    last: Mutex<Option<(Instant, StatusCode, Value)>>,
    results: Family<ByResult, Counter>,
}

impl Probe {
    async fn answer(&self) -> http_ends::Whole {
        let mut last = self.last.lock().await;
        if let Some((at, status, body)) = &*last
            && at.elapsed() < self.arguments.cache.0
        {
            return http_ends::json(*status, body.to_string());
        }
        let (status, body) = self.check().await;
        let answer = http_ends::json(status, body.to_string());
        *last = Some((Instant::now(), status, body));
        answer
    }

    async fn check(&self) -> (StatusCode, Value) {
        let timeout: Duration = self.arguments.timeout.0;
        let password = match self.arguments.password_file.as_ref().map(std::fs::read_to_string) {
            Some(Ok(text)) => Some(text.trim_end().to_owned()),
            Some(Err(error)) => {
                let body = json!({"kind": "Health", "apiVersion": "v1", "healthy": false, "reason": format!("the password's file: {error}")});
                return (StatusCode::INTERNAL_SERVER_ERROR, body);
            }
            None => None,
        };
        let asked = self.arguments.checks.iter().map(|check| {
            let password = password.as_deref();
            async move {
                let began = Instant::now();
                let result = check.run(&self.client, password, timeout).await;
                (check.name(), began.elapsed(), result)
            }
        });
        let asked = futures::future::join_all(asked).await;
        let mut reasons = Vec::new();
        let mut checks = Vec::new();
        for (name, took, result) in asked {
            let word = if result.is_ok() { "ok" } else { "failed" };
            self.results.get_or_create(&ByResult { check: name.clone(), result: word }).inc();
            let took = (took.as_secs_f64() * 1e6).round() / 1e3;
            let mut told = json!({"name": name, "healthy": result.is_ok(), "durationMs": took});
            if let Err(reason) = result {
                told["reason"] = json!(reason);
                tracing::warn!(check = name, reason, "not healthy");
                reasons.push(format!("{name}: {reason}"));
            }
            checks.push(told);
        }
        let mut body = json!({"kind": "Health", "apiVersion": "v1", "healthy": reasons.is_empty(), "checks": checks});
        if reasons.is_empty() {
            return (StatusCode::OK, body);
        }
        body["reason"] = json!(reasons.join("; "));
        (StatusCode::INTERNAL_SERVER_ERROR, body)
    }
}

fn told(status: StatusCode, message: &str) -> http_ends::Whole {
    http_ends::json(status, json!({"kind": "Error", "apiVersion": "v1", "message": message}).to_string())
}
