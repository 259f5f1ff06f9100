//! `hythe scatter`: the command line, and the root as a server.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use clap::{ArgGroup, Args};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use http_ends::{Client, Names, Trust};
use hyper::body::Incoming as Body;
use parking_lot::RwLock;
use serving::{
    ConfigError, Endpoint, FileWatch, Flags, Live, Manual, Port, Record, Serving, Span, TraceContext, Variable,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    config::{Config, Leaf, LeafTls, Merge},
    metrics::Metrics,
    root::{Incoming, MISSING_HEADER, PARTIAL_HEADER, Root},
    secure::{self, Secured},
};

/// What a user must know of it.
pub static MANUAL: Manual = Manual {
    name: "scatter",
    about: "Root of scatter/gather: asks every leaf, hedges the slow ones, merges what comes by the deadline.",
    version: "v1",
    ports: &[Port { number: 8080, protocol: "tcp", about: "HTTP: what comes below /api/v1/ goes to the leaves" }],
    endpoints: &[Endpoint { method: "GET", path: "/api/v1/leaves", about: "the leaves, their replicas and latencies" }],
    variables: &[
        Variable { name: "SCATTER_CONFIG", default: "", about: "the configuration file; or else the variables below" },
        Variable { name: "SCATTER_LISTEN", default: "0.0.0.0:8080", about: "where to listen" },
        Variable { name: "SCATTER_LEAVES", default: "", about: "NAME=HOST:PORT[|HOST:PORT…], separated by commas" },
        Variable { name: "SCATTER_LEAF_TLS", default: "false", about: "whether the leaves are asked over TLS" },
        Variable { name: "SCATTER_LEAF_AUTHORITIES", default: "", about: "a PEM file of who vouches for the leaves" },
        Variable { name: "SCATTER_MERGE", default: "{kind: union}", about: "how answers are merged, as in the file" },
        Variable { name: "SCATTER_DEADLINE", default: "1s", about: "the most that a request may take" },
    ],
};

/// Asks every leaf, hedges the slow ones, merges what comes by the deadline.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
#[command(group = ArgGroup::new("what").required(true).args(["config", "leaves"]))]
pub struct Arguments {
    /// The configuration file (YAML); it is followed.
    #[arg(long, env = "SCATTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A leaf and its replicas; may be given several times. All answers are united.
    #[arg(long = "leaf", env = "SCATTER_LEAVES", value_name = "NAME=HOST:PORT[|HOST:PORT…]", value_parser = leaf)]
    #[arg(value_delimiter = ',', conflicts_with = "config")]
    pub leaves: Vec<Leaf>,
    /// Ask the leaves over TLS.
    #[arg(long, env = "SCATTER_LEAF_TLS", conflicts_with = "config")]
    pub leaf_tls: bool,
    /// The authorities that vouch for the leaves (PEM) [default: the system's]; implies --leaf-tls.
    #[arg(long, env = "SCATTER_LEAF_AUTHORITIES", value_name = "FILE", conflicts_with = "config")]
    pub leaf_authorities: Option<PathBuf>,
    /// How answers are merged, where there is no file: as in it, such as `{kind: topK, k: 10, by: /score}`.
    #[arg(long, env = "SCATTER_MERGE", value_name = "YAML", value_parser = merge, conflicts_with = "config")]
    pub merge: Option<Merge>,
    /// Where to listen.
    #[arg(long, env = "SCATTER_LISTEN", value_name = "ADDR", conflicts_with = "config")]
    pub listen: Option<SocketAddr>,
    /// The most that a request may take.
    #[arg(long, env = "SCATTER_DEADLINE", value_name = "TIME", conflicts_with = "config")]
    pub deadline: Option<Span>,
    #[command(flatten)]
    serving: Flags,
}

/// Runs the root until it is told to end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    let flags = arguments.serving.clone();
    serving::run(&MANUAL, flags, |serving| async move {
        let live = arguments.config.as_ref().map(|file| Live::open(file, parse)).transpose()?;
        let config = match &live {
            Some(live) => (*live.current()).clone(),
            None => {
                let config = arguments.config()?;
                usable(&config)?;
                config
            }
        };
        let threads = serving.flags().threads();
        if threads == 1 {
            let listener = http_ends::bind(config.listen).map_err(|error| format!("{}: {error}", config.listen))?;
            serve(config, live, listener, serving).await;
            return Ok(());
        }
        // Parsing and merging are work: each core takes its part of the requests.
        let workers = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let served = workers.spawn(async move {
            let listener = http_ends::bind(config.listen).map_err(|error| format!("{}: {error}", config.listen))?;
            serve(config, live, listener, serving).await;
            Ok::<(), String>(())
        });
        let ended = served.await;
        workers.shutdown_background();
        Ok(ended??)
    })
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    let config = Config::parse(text)?;
    usable(&config)?;
    Ok(config)
}

/// Whether the files that a configuration names can be used.
fn usable(config: &Config) -> Result<(), ConfigError> {
    Secured::new(config, &Names::default(), None).map(drop)
}

/// Serves on a listener until the serving stops.
pub async fn serve(config: Config, live: Option<Live<Config>>, listener: TcpListener, serving: Serving) {
    let metrics = Metrics::default();
    serving.admin().metrics(|registry| metrics.register(registry));
    let names = Names::default();
    let client = Client::new(names.clone(), Trust::System);
    let make = {
        let metrics = metrics.clone();
        // A file that a leaf's TLS needs may change without the configuration: then `anew` reads all of them again.
        move |config: Config, before: Option<&Root>, anew: bool| {
            let secured = Secured::new(&config, &names, before.filter(|_| !anew).map(Root::secured))?;
            let root = Root::new(config, before, client.clone(), names.clone(), metrics.clone());
            Ok::<_, ConfigError>(Arc::new(root.with(secured)))
        }
    };
    // Before the files are read, so that no change is missed.
    let mut listed = secure::files(&config);
    let mut files = watched(&listed);
    let root = match make(config, None, false) {
        Ok(root) => Arc::new(RwLock::new(root)),
        Err(error) => {
            tracing::error!(%error, "the leaves can't be asked");
            return;
        }
    };
    if let Some(live) = &live {
        live.follow(&serving);
    }
    let (versions, followed) = (live.as_ref().map(Live::subscribe), root.clone());
    tokio::spawn(async move {
        let mut versions = versions;
        loop {
            let next = tokio::select! {
                Some(next) = next_version(&mut versions) => next,
                Some(()) = next_change(&mut files) => None,
                else => return,
            };
            let before = followed.read().clone();
            let config = next.as_deref().unwrap_or(before.config()).clone();
            let wanted = secure::files(&config);
            if wanted != listed {
                files = watched(&wanted);
                listed = wanted;
            }
            if config.listen != before.config().listen {
                tracing::warn!("`listen` has changed: that is taken up by a restart only");
            }
            match make(config, Some(&before), next.is_none()) {
                Ok(root) => *followed.write() = root,
                Err(error) => tracing::warn!(%error, "what was read before goes on"),
            }
        }
    });
    let described = root.clone();
    serving.admin().route(Method::GET, "/api/v1/leaves", move |_| {
        let leaves = described.read().describe();
        async move { http_ends::json(StatusCode::OK, leaves.to_string()) }
    });
    serving.ready();
    let stopping = serving.stopping().clone();
    let handler = move |request: Request<Body>, client: SocketAddr| {
        let (root, serving, metrics) = (root.read().clone(), serving.clone(), metrics.clone());
        async move {
            let _guard = serving.guard();
            handle(&root, &serving, &metrics, request, client).await
        }
    };
    http_ends::serve(listener, stopping, handler).await;
}

fn watched(files: &[PathBuf]) -> Option<FileWatch> {
    if files.is_empty() {
        return None;
    }
    let unwatched = |error: &std::io::Error| tracing::warn!(%error, "certificates cannot be watched");
    FileWatch::new(files).inspect_err(unwatched).ok()
}

async fn next_version(versions: &mut Option<watch::Receiver<Arc<Config>>>) -> Option<Option<Arc<Config>>> {
    let versions = versions.as_mut()?;
    versions.changed().await.ok()?;
    Some(Some(versions.borrow_and_update().clone()))
}

async fn next_change(files: &mut Option<FileWatch>) -> Option<()> {
    files.as_mut()?.changed().await.ok()
}

async fn handle(
    root: &Root,
    serving: &Serving,
    metrics: &Metrics,
    request: Request<Body>,
    client: SocketAddr,
) -> http_ends::Whole {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let trace = TraceContext::continued(head.headers.get("traceparent").map(HeaderValue::as_bytes));
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let mut bytes_in = 0;
    let mut answer = match http_ends::whole(body, root.config().limits.request_bytes).await {
        Ok(body) => {
            bytes_in = body.len() as u64;
            let trace = HeaderValue::from_str(&trace.to_string()).ok();
            root.answer(Incoming { method: head.method, uri: head.uri, headers: head.headers, body, trace }).await
        }
        Err(error) => crate::root::refused(error.status(), &error.to_string()),
    };
    let took = began.elapsed();
    let partial = answer.status == StatusCode::OK && !answer.missing.is_empty();
    metrics.request(answer.status.as_u16(), partial, took);
    let text = answer.body.to_string();
    if serving.access_log().is_on() {
        let more = serde_json::json!({"leaves": answer.body["leaves"].take()});
        serving.access_log().write(Record {
            protocol: "http/1.1",
            client: client.to_string(),
            method: method.to_string(),
            host,
            path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            status: Some(answer.status.as_u16()),
            bytes_in,
            bytes_out: text.len() as u64,
            duration_ms: took.as_secs_f64() * 1000.0,
            trace_id: trace.trace_id(),
            error: answer.body["message"].as_str().unwrap_or_default().to_owned(),
            more: more.as_object().cloned(),
            ..Record::default()
        });
    }
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if partial {
        headers.insert(PARTIAL_HEADER, HeaderValue::from_static("true"));
    }
    if let Ok(missing) = HeaderValue::from_str(&answer.missing.join(","))
        && !missing.is_empty()
    {
        headers.insert(MISSING_HEADER, missing);
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl Arguments {
    /// The configuration that the flags say, where there is no file.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let leaves = serde_json::to_value(&self.leaves).map_err(|error| ConfigError::whole(error.to_string()))?;
        let mut config = Config::parse(&serde_json::json!({ "leaves": leaves }).to_string())?;
        if self.leaf_tls || self.leaf_authorities.is_some() {
            for leaf in &mut config.leaves {
                leaf.tls = Some(LeafTls { authorities: self.leaf_authorities.clone(), ..LeafTls::default() });
            }
        }
        config.listen = self.listen.unwrap_or(config.listen);
        config.deadline = self.deadline.unwrap_or(config.deadline);
        if let Some(merge) = &self.merge {
            config.routes[0].merge = merge.clone();
        }
        config.check()?;
        Ok(config)
    }
}

fn leaf(text: &str) -> Result<Leaf, String> {
    let (name, replicas) = text.split_once('=').ok_or("must be NAME=HOST:PORT[|HOST:PORT…]")?;
    Ok(Leaf { name: name.to_owned(), replicas: replicas.split('|').map(str::to_owned).collect(), tls: None })
}

fn merge(text: &str) -> Result<Merge, String> {
    serving::from_yaml(text).map_err(|error| error.to_string())
}
