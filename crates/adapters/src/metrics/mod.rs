//! `hythe adapter metrics`: metrics for Prometheus of software that has its own way to tell them.
//!
//! Nothing is kept and nothing is asked between scrapes: each scrape asks the software once.

pub mod exposition;
pub mod haproxy;
pub mod mapping;
pub mod memcached;
pub mod nginx;
pub mod redis;
mod scrape;
pub mod sql;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serving::{Endpoint, Flags, Live, Manual, Port, Serving, Span, Variable};
use tokio::net::TcpListener;

pub use self::scrape::{From, Scraper};
use self::{exposition::Metrics, mapping::Mapping};
use crate::wire::Address;

/// What a user must know of it.
pub static MANUAL: Manual = Manual {
    name: "adapter metrics",
    about: "Metrics for Prometheus of software that has its own way to tell them.",
    version: "v1",
    ports: &[Port {
        number: 9121,
        protocol: "tcp",
        about: "HTTP: GET /metrics, in Prometheus' text format 0.0.4 or OpenMetrics",
    }],
    endpoints: &[Endpoint { method: "GET", path: "/api/v1/target", about: "what is asked" }],
    variables: &[
        Variable {
            name: "METRICS_FROM",
            default: "",
            about: "redis, memcached, nginx, haproxy, postgres, mysql, json or text",
        },
        Variable {
            name: "METRICS_TARGET",
            default: "",
            about: "its address, such as redis://localhost:6379 or http://localhost/status",
        },
        Variable { name: "METRICS_MAPPING", default: "", about: "the mapping file of json and text" },
        Variable { name: "METRICS_LISTEN", default: "0.0.0.0:9121", about: "where to listen" },
        Variable { name: "METRICS_TIMEOUT", default: "5s", about: "the most that one scrape may take" },
        Variable { name: "METRICS_PASSWORD_FILE", default: "", about: "file that holds the password" },
    ],
};

/// Shows metrics for Prometheus of software that has its own way to tell them.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
pub struct Arguments {
    /// What is asked.
    #[arg(long, env = "METRICS_FROM", value_name = "KIND")]
    pub from: From,
    /// Where: redis://[USER:PASSWORD@]HOST[:PORT], memcached://…, postgres://…/DATABASE, mysql://…, http(s)://… for nginx,
    /// haproxy (its page with `;csv`), json and text, or file:PATH for json and text.
    #[arg(long, env = "METRICS_TARGET", hide_env_values = true, value_name = "ADDRESS")]
    pub target: String,
    /// The mapping file of json and text; it is followed.
    #[arg(long, env = "METRICS_MAPPING", value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, env = "METRICS_LISTEN", default_value = "0.0.0.0:9121", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// The most that one scrape may take.
    #[arg(long, env = "METRICS_TIMEOUT", default_value = "5s", value_name = "TIME")]
    pub timeout: Span,
    /// File that holds the password; it is read at each scrape.
    #[arg(long, env = "METRICS_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    #[command(flatten)]
    serving: Flags,
}

/// Runs until it is told to end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    crate::asked::main(&MANUAL, arguments.serving.clone(), arguments.listen, |listener, serving| {
        serve(arguments, listener, serving)
    })
}

/// Serves until the serving stops.
///
/// # Errors
/// If target or mapping cannot be used.
pub async fn serve(
    arguments: Arguments,
    listener: TcpListener,
    serving: Serving,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mapping = arguments.mapping.as_ref().map(|file| Live::open(file, Mapping::parse)).transpose()?;
    if let Some(mapping) = &mapping {
        mapping.follow(&serving);
    }
    let scraper = std::sync::Arc::new(Scraper::new(&arguments, mapping)?);
    let target = scraper.target();
    serving.admin().route(Method::GET, "/api/v1/target", move |_| {
        let body = serde_json::json!({"kind": "Target", "apiVersion": "v1", "target": target});
        async move { http_ends::json(StatusCode::OK, body.to_string()) }
    });
    let answer = move |request: Request<()>| {
        let scraper = scraper.clone();
        async move {
            match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, "/metrics") => {
                    let (metrics, error) = scraper.scrape().await;
                    (encode(&metrics, request.headers()), error.unwrap_or_default())
                }
                (_, "/metrics") => told(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
                _ => told(StatusCode::NOT_FOUND, "there is /metrics\n"),
            }
        }
    };
    crate::asked::serve(listener, &serving, answer).await;
    Ok(())
}

fn told(status: StatusCode, message: &'static str) -> (http_ends::Whole, String) {
    (http_ends::answer(status, "text/plain", message), String::new())
}

/// In the format that was asked for.
fn encode(metrics: &Metrics, headers: &HeaderMap) -> http_ends::Whole {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        http_ends::answer(StatusCode::OK, kind, metrics.open_metrics())
    } else {
        http_ends::answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.text())
    }
}

/// A target that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not an address.
    #[error("{0:?} {1}")]
    Address(String, crate::wire::AddressError),
    /// An address of something else.
    #[error("{0} is not asked by {1}://")]
    Scheme(&'static str, String),
    /// json and text need to know what is what.
    #[error("json and text need --mapping")]
    NoMapping,
    /// Neither an http address nor a file.
    #[error("{0:?} must be an http or https address, or file:PATH")]
    Place(String),
}

/// An address without its password.
fn shown(target: &str) -> String {
    target.parse::<Address>().map_or_else(|_| target.to_owned(), |address| address.to_string())
}
