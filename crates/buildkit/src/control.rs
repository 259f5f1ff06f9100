//! The calls of a client: `moby.buildkit.v1.Control`, and the gateway by which buildx drives its builds
//! (`moby.buildkit.v1.frontend.LLBBridge`).

use std::collections::BTreeMap;
use std::sync::Arc;

use builder::CacheEntry;
use grpc::{Call, Fields, Message, Reply, Status};
use tokio::sync::mpsc;

use crate::Inner;
use crate::jobs::Job;
use crate::progress::Board;
use crate::solve::{self, Failed};
use crate::wire::{
    FrontendRequest, Returned, SolveRequest, UsageRecord, info, pong, prune_request, read_return, solve_response,
    solved, worker, workers,
};

/// What of the gateway is served. buildx falls back to older ways where something is missing.
const GATEWAY: &[&str] = &[
    "solve.base",
    "solve.inlinereturn",
    "return",
    "returnmap",
    "importcaches",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "gateway.solve.metadata",
    "frontend.caps",
    "gateway.evaluate",
];
/// What a Dockerfile and an exporter can be asked for, in the terms of build graphs.
const GRAPH: &[&str] = &[
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.http",
    "exec.meta.base",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.ulimit",
    "exec.meta.linux.resources",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.secretenv",
    "file.base",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "meta.exportcache",
    "exporter.multiple",
    "exporter.sourcedateepoch",
];
/// Progress that waits to be sent.
const WAITING: usize = 64;

/// Answers one call.
pub(crate) async fn answer(inner: Arc<Inner>, mut call: Call) -> Result<Reply, Status> {
    let message = call.message().await?;
    if let Some(method) = call.method.strip_prefix("moby.buildkit.v1.frontend.LLBBridge/") {
        let build = call.header("buildkit-controlapi-buildid").unwrap_or_default();
        return gateway(&inner, build, method, &message).await.map(Reply::One);
    }
    match call.method.as_str() {
        "moby.buildkit.v1.Control/ListWorkers" => Ok(Reply::One(workers(&own_worker(&inner)))),
        "moby.buildkit.v1.Control/Info" => Ok(Reply::One(info(&inner.host.version()))),
        "moby.buildkit.v1.Control/Solve" => {
            let results = inner.solve(&SolveRequest::read(&message)).await?;
            Ok(Reply::One(solve_response(&results)))
        }
        "moby.buildkit.v1.Control/Status" => status(&inner, &Fields::read(&message).text(1)).await,
        "moby.buildkit.v1.Control/DiskUsage" => {
            let records = blocking(move || Ok(inner.builder.cache())).await?;
            Ok(Reply::One(Message::default().messages(1, records.iter().map(|entry| record(entry).message()))))
        }
        "moby.buildkit.v1.Control/Prune" => prune(inner, &message).await,
        // Traces go nowhere; clients that send them wait for an answer.
        "opentelemetry.proto.collector.trace.v1.TraceService/Export" => Ok(Reply::One(Message::default())),
        "grpc.health.v1.Health/Check" => Ok(Reply::One(Message::default().number(1, 1))),
        other => {
            let (service, method) = other.rsplit_once('/').unwrap_or(("", other));
            Err(Status::new(Status::UNIMPLEMENTED, format!("unknown method {method} for service {service}")))
        }
    }
}

async fn gateway(inner: &Arc<Inner>, build: &str, method: &str, message: &[u8]) -> Result<Message, Status> {
    if build.is_empty() {
        return Err(Status::new(Status::UNKNOWN, format!("forwarding {method}: no buildid found in context")));
    }
    let job = inner.jobs.get(build).await?;
    match method {
        "Ping" => Ok(pong(GATEWAY, GRAPH, &own_worker(inner))),
        "Inputs" => Ok(Message::default()),
        "Solve" => {
            let request = FrontendRequest::read(message);
            // An empty graph is an empty result.
            if request.frontend.is_empty() && !request.has_definition {
                return Ok(solved("", &BTreeMap::new()));
            }
            solve::check(&request).map_err(Failed::into_status)?;
            Ok(solved(&job.keep(request)?, &BTreeMap::new()))
        }
        "Evaluate" => {
            let reference = Fields::read(message).text(1);
            solve::evaluate(inner, &job, &reference).await.map_err(Failed::into_status)?;
            Ok(Message::default())
        }
        "Return" => job.give_back(read_return(message)).map(|()| Message::default()),
        "Warn" => Ok(Message::default()),
        other => Err(Status::new(Status::UNIMPLEMENTED, format!("{other} is not supported by this builder"))),
    }
}

impl Inner {
    /// A build, of whichever kind of client.
    pub(crate) async fn solve(self: &Arc<Self>, request: &SolveRequest) -> Result<BTreeMap<String, String>, Status> {
        let running = self.jobs.begin(&request.build)?;
        let _unneeded = Unneeded(self.clone(), running.job.clone());
        let board = Board::new(running.job.journal.clone(), &request.build);
        let returned = running.job.returned();
        let session = self.sessions.get(&request.session).await;
        let session = session.map_err(|error| Status::new(Status::UNKNOWN, error.to_string()))?;
        let _ = running.job.session.set(session.clone());
        let caches = solve::sort_caches(&request.cache_exports).map_err(Failed::into_status)?;
        // An empty graph is an empty result.
        if request.frontend.is_empty() && !request.has_definition && !request.by_gateway {
            return Ok(BTreeMap::new());
        }
        let frontend = if request.by_gateway {
            let given_up = |_| Status::new(Status::CANCELED, "context canceled");
            let gone = session.channel.closing().wait();
            let returned = tokio::select! {
                returned = returned => returned.map_err(given_up)?,
                () = gone => return Err(Status::new(Status::CANCELED, "the client's session has ended")),
            };
            match returned {
                Returned::Failed(status) => return Err(status),
                Returned::Result(reference) if reference.is_empty() => return Ok(BTreeMap::new()),
                Returned::Result(reference) => running.job.request(&reference)?.frontend,
            }
        } else {
            FrontendRequest {
                has_definition: request.has_definition,
                frontend: request.frontend.clone(),
                attributes: request.attributes.clone(),
                archive: request.archive.clone(),
                ..FrontendRequest::default()
            }
        };
        let gone = session.channel.closing().wait();
        tokio::select! {
            built = solve::solve(self, &session, &frontend, (&request.exports, &caches), &board) => {
                built.map_err(Failed::into_status)
            }
            () = gone => Err(Status::new(Status::CANCELED, "the client's session has ended")),
        }
    }
}

/// When a build ends, the images that stood for its results in between go, unless they have got names.
struct Unneeded(Arc<Inner>, Arc<Job>);

impl Drop for Unneeded {
    fn drop(&mut self) {
        let images = self.1.images();
        if images.is_empty() {
            return;
        }
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || images.iter().for_each(|image| solve::remove_nameless(&inner, image)));
    }
}

/// A build's progress, from its beginning.
async fn status(inner: &Inner, build: &str) -> Result<Reply, Status> {
    let mut watch = inner.jobs.get(build).await?.journal.watch();
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let report = tokio::select! {
                report = watch.next() => report,
                () = sender.closed() => return,
            };
            let Some(report) = report else { return };
            if sender.send(Message::clone(&report)).await.is_err() {
                return;
            }
        }
    });
    Ok(Reply::Many(receiver))
}

async fn prune(inner: Arc<Inner>, message: &[u8]) -> Result<Reply, Status> {
    let (unused, keep, filters) = prune_request(message);
    // Without a filter buildx sends an empty one.
    let known = |filter: &String| filter.is_empty();
    if let Some(filter) = filters.iter().find(|filter| !known(filter)) {
        return Err(Status::new(
            Status::INVALID_ARGUMENT,
            format!("the filter {filter} is not supported by this builder"),
        ));
    }
    let gone = blocking(move || inner.builder.prune(unused, keep).map_err(|error| error.to_string())).await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        for entry in gone {
            if sender.send(record(&entry).message()).await.is_err() {
                return;
            }
        }
    });
    Ok(Reply::Many(receiver))
}

fn record(entry: &CacheEntry) -> UsageRecord {
    UsageRecord {
        id: entry.id.clone(),
        mount: entry.description == "cache mount",
        size: entry.size,
        used: entry.used,
        description: entry.description.clone(),
    }
}

fn own_worker(inner: &Inner) -> Message {
    let platform = inner.platform();
    let (os, architecture) = platform.split_once('/').unwrap_or(("linux", ""));
    // The first says to buildx that images are pushed and written as archives by the builder itself.
    let mut labels = BTreeMap::from([
        ("org.mobyproject.buildkit.worker.snapshotter".to_owned(), "overlayfs".to_owned()),
        ("org.mobyproject.buildkit.worker.executor".to_owned(), "hythe".to_owned()),
    ]);
    if let Some(address) = inner.host.gateway() {
        labels.insert("org.mobyproject.buildkit.worker.moby.host-gateway-ip".into(), address.to_string());
    }
    worker(&inner.host.id(), &labels, (os, architecture), &inner.host.version())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, Status> {
    let result = tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(format!("defect: {panic}")));
    result.map_err(|error| Status::new(Status::UNKNOWN, error))
}
