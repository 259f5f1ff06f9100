//! `POST /build` and `POST /build/prune`, by the builder.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use builder::{BuildError, BuildRequest, Builder, Classic, Context, Event, Kind, Piece, RunNetwork, Source};
use engine::Namespace;
use engine::content::Reference;
use http::StatusCode;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::containers::HostOptions;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer, json_stream};
use crate::system::logins;
use crate::{containers, networks, time};

use super::announce::announce;
use super::create::Platform;
use super::{registry, remote};

/// Builds an image from the context in the body. What is wrong before the first step is an error of the request; what
/// goes wrong later ends the stream. A client that leaves ends the build.
pub(crate) async fn build(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let builder = builder_of(&daemon)?;
    if call.query("version") == Some("2") {
        return crate::buildkit::build(daemon, call).await;
    }
    if call.flag("squash") {
        return Err(ApiError::bad("squash is only supported with experimental mode"));
    }
    let mut request = request(&call)?;
    request.pull_options.clone_from(&daemon.config.registries);
    request.user_ids = daemon.config.user_ids;
    for (registry, config) in logins(&call) {
        let credentials = registry::credentials(&config).into_iter();
        request.pull_options.logins.extend(credentials.map(|credentials| (registry.clone(), credentials)));
    }
    let quiet = call.flag("q");
    let (at, mode) = (daemon.clone(), call.query("networkmode").unwrap_or("default").to_owned());
    let context = match call.query("remote") {
        Some(url) => remote::fetch(url, &daemon.scratch(), &mut request).await?,
        None => {
            let context = call.spool(&daemon.scratch()).await?;
            request.context = Context::Tar(Box::new(File::open(context.path())?));
            remote::Held::File(context)
        }
    };
    // From here on nothing fails before it is given back.
    let place = blocking(move || networks::lend(&at, &mode)).await?;
    request.network = match &place.namespace {
        Namespace::Host => RunNetwork::Host,
        Namespace::New => RunNetwork::None,
        Namespace::Path(path) => RunNetwork::Path(path.clone()),
    };
    request.resolv_conf.clone_from(&place.resolv_conf);
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // On a task of its own, so that a defect in it does not keep the place.
        let mut work = tokio::spawn(run(daemon.clone(), builder, request, quiet, sender.clone()));
        let last = tokio::select! {
            last = &mut work => last.unwrap_or_else(|defect| {
                Message::Failed(BuildError { kind: Kind::Interrupted(defect.to_string()), lines: None, excerpt: None })
            }),
            () = sender.closed() => {
                work.abort();
                let _ = work.await;
                Message::Nothing
            }
        };
        let _ = blocking(move || networks::give_back(&daemon, &place)).await;
        drop(context);
        if !matches!(last, Message::Nothing) {
            let _ = sender.send(last);
        }
    });
    let first = receiver.recv().await;
    if let Some(Message::Failed(error)) = &first
        && matches!(error.kind, Kind::Parse(_) | Kind::Invalid(_))
    {
        return Err(ApiError::bad(error.to_string()));
    }
    let stream = futures::stream::unfold((first, receiver), |(ready, mut receiver)| async {
        let message = match ready {
            Some(message) => message,
            None => receiver.recv().await?,
        };
        Some((message.json(), (None, receiver)))
    });
    Ok(json_stream(stream))
}

fn builder_of(daemon: &Daemon) -> Result<Builder> {
    let missing = || ApiError::new(StatusCode::NOT_IMPLEMENTED, "this engine was started without an image builder");
    daemon.config.builder.clone().ok_or_else(missing)
}

/// What a client hears.
enum Message {
    Says(Value),
    Failed(BuildError),
    Nothing,
}

impl Message {
    fn json(self) -> Value {
        match self {
            Self::Says(value) => value,
            Self::Nothing => Value::Null,
            Self::Failed(error) => {
                let message = error.to_string();
                let mut detail = json!({"message": message});
                if let Kind::Exit { code, .. } = error.kind {
                    detail["code"] = code.into();
                }
                json!({"errorDetail": detail, "error": message})
            }
        }
    }
}

/// The build itself, told to the client as it goes; returns the last word.
async fn run(
    daemon: Arc<Daemon>,
    builder: Builder,
    request: BuildRequest,
    quiet: bool,
    to: UnboundedSender<Message>,
) -> Message {
    let classic = Arc::new(Mutex::new(Classic::new()));
    let say = |piece: &Piece, to: &UnboundedSender<Message>| {
        // dockerd shows what came from stderr in red.
        let text = if piece.error { format!("\x1b[91m{}\x1b[0m", piece.text) } else { piece.text.clone() };
        let _ = to.send(Message::Says(json!({"stream": text})));
    };
    let (renderer, sink) = (classic.clone(), to.clone());
    let show = move |event: Event| {
        // Clients that look for the result read the last messages: its id for programs comes before that for people.
        if let (Event::Built { image }, false) = (&event, quiet) {
            let _ = sink.send(Message::Says(json!({"aux": {"ID": image}})));
        }
        if !quiet {
            renderer.lock().render(event).iter().for_each(|piece| say(piece, &sink));
        }
    };
    let built = builder.build(request, Arc::new(show)).await;
    if let Ok(built) = &built {
        announce(&daemon, "create", &built.image, built.image.clone());
    }
    for (name, image) in built.iter().flat_map(|built| built.tags.iter().map(|name| (name, &built.image))) {
        let shown = Reference::parse(name).map_or_else(|_| name.clone(), |reference| reference.familiar());
        announce(&daemon, "tag", image, shown);
    }
    match built {
        Ok(built) if quiet => Message::Says(json!({"stream": format!("{}\n", built.image)})),
        Ok(_) => Message::Nothing,
        Err(error) => {
            classic.lock().finish().iter().for_each(|piece| say(piece, &to));
            // Where it went wrong; dockerd's own words follow as the error.
            let step = !matches!(error.kind, Kind::Parse(_));
            if let Some(excerpt) = error.excerpt.as_ref().filter(|_| step && !quiet) {
                say(&Piece { error: false, text: format!("{}\n", excerpt.trim_end()) }, &to);
            }
            Message::Failed(error)
        }
    }
}

/// All that the query says.
fn request(call: &Call) -> Result<BuildRequest> {
    let build_args: BTreeMap<String, Option<String>> = document(call, "buildargs")?;
    let host = HostOptions {
        memory: call.number("memory")?.unwrap_or(0),
        memory_swap: call.number("memswap")?.unwrap_or(0),
        cpu_shares: call.number("cpushares")?.unwrap_or(0),
        cpu_period: call.number("cpuperiod")?.unwrap_or(0),
        cpu_quota: call.number("cpuquota")?.unwrap_or(0),
        cpuset_cpus: call.query("cpusetcpus").unwrap_or_default().to_owned(),
        cpuset_mems: call.query("cpusetmems").unwrap_or_default().to_owned(),
        ulimits: document(call, "ulimits")?,
        ..HostOptions::default()
    };
    Ok(BuildRequest {
        dockerfile: Source::Path(call.query("dockerfile").unwrap_or("Dockerfile").to_owned()),
        tags: call.all("t").filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        target: call.query("target").map(str::to_owned),
        // A name without a value takes that of the builder's environment, which is empty.
        args: build_args.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        labels: document(call, "labels")?,
        no_cache: call.flag("nocache"),
        pull: call.flag("pull"),
        cache_from: document(call, "cachefrom")?,
        classic: true,
        platform: call.query("platform").filter(|text| !text.is_empty()).map(Platform::checked).transpose()?,
        extra_hosts: call
            .all("extrahosts")
            .filter_map(|line| line.split_once([':', '=']))
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect(),
        shm_size: call.number("shmsize")?.filter(|size| *size > 0),
        resources: containers::resources(&host),
        rlimits: containers::rlimits(&host)?,
        ..BuildRequest::default()
    })
}

pub(crate) fn document<T: DeserializeOwned + Default>(call: &Call, name: &str) -> Result<T> {
    match call.query(name).filter(|text| *text != "null") {
        None => Ok(T::default()),
        Some(text) => Ok(serde_json::from_str(text)?),
    }
}

/// Forgets the builder's cache: what was not used for as long as the filter `until` (or `unused-for`) says, down to
/// `keep-storage` bytes.
pub(crate) async fn prune(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let builder = builder_of(&daemon)?;
    let filters = call.filters()?;
    let keep = call.number("keep-storage")?.or(call.number("reserved-space")?).unwrap_or(0);
    let ages = filters.values("until").iter().chain(filters.values("unused-for"));
    let mut unused = Duration::ZERO;
    for age in ages {
        let parsed = time::duration(age).and_then(|age| Duration::try_from(age).ok());
        unused = unused.max(parsed.ok_or_else(|| ApiError::bad(format!("invalid filter 'until={age}'")))?);
    }
    blocking(move || {
        let gone = builder.prune(unused, keep).map_err(|error| ApiError::internal(error.to_string()))?;
        let freed: u64 = gone.iter().map(|entry| entry.size).sum();
        let names: Vec<&str> = gone.iter().map(|entry| entry.id.as_str()).collect();
        Ok(json_answer(&json!({"CachesDeleted": names, "SpaceReclaimed": freed})))
    })
    .await
}

/// The cache's records, for `docker system df`.
pub(crate) fn cache(daemon: &Daemon) -> Vec<Value> {
    let entries = daemon.config.builder.iter().flat_map(Builder::cache);
    entries
        .map(|entry| {
            let mount = entry.description == "cache mount";
            json!({
                "ID": entry.id, "Parents": null, "Type": if mount { "exec.cachemount" } else { "regular" },
                "Description": entry.description, "InUse": false, "Shared": false, "Size": entry.size,
                "CreatedAt": time::text(time::from_system(entry.used)),
                "LastUsedAt": time::text(time::from_system(entry.used)), "UsageCount": 1,
            })
        })
        .collect()
}
