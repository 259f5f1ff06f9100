//! A build, from what a client asks for to what it gets.

mod attributes;
mod cache;
mod context;
mod export;
mod failed;

pub(crate) use cache::{Caches, sort_caches};
pub(crate) use failed::Failed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use builder::dockerfile::{Command, Dockerfile, MountKind};
use builder::plan::{Base, Plan, resolve};
use builder::{BuildError, BuildRequest, Event, Kind, NamedContext, Source};
use engine::content::Reference;
use parking_lot::Mutex;

use self::attributes::{Description, describe};
use self::context::Files;
use self::export::Exports;
use crate::Inner;
use crate::jobs::Job;
use crate::progress::{Board, StepNames, Task};
use crate::session::{Session, SessionAgents, SessionSecrets, credentials, login};
use crate::sync;
use crate::wire::{Export, FrontendRequest};

/// Whether a question of the frontend's can be answered, before a build is made of it.
pub(crate) fn check(request: &FrontendRequest) -> Result<(), Failed> {
    let description = describe(request).map_err(Failed::words)?;
    match description.question {
        Some(question) => Err(Failed::words(format!("unsupported request {question}"))),
        None => Ok(()),
    }
}

/// Makes what a reference stands for an image, before its build ends, because others need it; the image's id.
pub(crate) async fn evaluate(inner: &Arc<Inner>, job: &Arc<Job>, reference: &str) -> Result<String, Failed> {
    let request = job.request(reference).map_err(Failed::status)?;
    let build = async {
        let session = job.session.get().ok_or_else(|| Failed::words("the build has no session"))?;
        let board = Board::new(job.journal.clone(), reference);
        let keep = [Export { kind: "moby".into(), ..Export::default() }];
        let wanted = (&keep[..], &Caches::default());
        let results = Box::pin(solve(inner, session, &request.frontend, wanted, &board)).await?;
        Ok(results.get("containerimage.config.digest").cloned().unwrap_or_default())
    };
    request.image.get_or_try_init(|| build).await.cloned()
}

/// Removes an image that has no name.
pub(crate) fn remove_nameless(inner: &Inner, id: &str) {
    let nameless = inner.content.image(id).is_ok_and(|image| image.tags.is_empty());
    if nameless && let Err(error) = inner.content.remove_image(id, false) {
        tracing::warn!(%error, image = id, "an image that nobody asked for stays");
    }
}

/// Builds, and returns what programs are told of the result. Drop the future to give the build up.
pub(crate) async fn solve(
    inner: &Arc<Inner>,
    session: &Session,
    request: &FrontendRequest,
    (exports, caches): (&[Export], &Caches),
    board: &Board,
) -> Result<BTreeMap<String, String>, Failed> {
    let description = describe(request).map_err(Failed::words)?;
    let place = tempfile::Builder::new().prefix("buildkit-").tempdir_in(inner.host.scratch());
    let place = place.map_err(|error| Failed::words(format!("create a directory for the build: {error}")))?;
    let exports = export::sort(exports, session, &place)?;
    let files = Files { sessions: &inner.sessions, session, description: &description, board, place: &place };
    let mut definition = files.definition().await?;
    let (name, text) = (definition.name.clone(), definition.text.clone());
    let failed = |error: BuildError| Failed::of(&error, &name, &text);
    let mut dockerfile = Dockerfile::parse(&text).map_err(|error| failed(Kind::Parse(error).into()))?;
    let contexts = files.named(inner, &request.inputs).await?;
    builder::replace_stages(&mut dockerfile, &contexts);
    let platform = inner.platform();
    let planned = builder::plan::plan(&dockerfile, description.target.as_deref(), &description.args, &platform);
    let plan = planned.map_err(failed)?;
    let images = images(&dockerfile, &plan, &contexts);
    let (mut logins, triggers) = metadata(inner, session, &images, description.pull, board).await?;
    for reference in description.cache_from.iter().filter_map(|name| Reference::parse(name).ok()) {
        let known = logins.iter().any(|(registry, _)| *registry == reference.registry);
        if !known && let Ok(Some(found)) = login(session, &reference.registry).await {
            logins.push((reference.registry, credentials(found)));
        }
    }
    let context = files.context(&mut definition, &dockerfile, triggers).await?;
    board.plan(StepNames::of(&dockerfile, &plan));
    for remark in &description.remarks {
        board.event(Event::Warning(remark.clone()));
    }
    let mut cache_directories = Vec::new();
    for (number, local) in description.local_caches.iter().enumerate() {
        // A cache that cannot be had is no reason not to build.
        let from = place.path().join(format!("cache-{number}"));
        cache_directories.extend(cache::import(session, local, board, &from).await.ok());
    }
    let written = (!caches.directories.is_empty()).then(|| place.path().join("cache"));
    let network = inner.host.place(&description.network).await.map_err(Failed::words)?;
    let before: BTreeSet<String> = ids(inner);
    let Exports { image, names, push, outputs, archive_names, directories, files: transfers, titles } = exports;
    let mut pull_options = inner.host.registries();
    pull_options.logins.extend(logins);
    let mut outputs = outputs.into_iter();
    let build = BuildRequest {
        context,
        dockerfile: Source::Text(text.clone()),
        tags: if image { names.clone() } else { Vec::new() },
        archive_names,
        contexts,
        pull_options,
        cache_directories,
        cache_to: written.clone(),
        cache_names: caches.names.iter().map(|name| name.place.clone()).collect(),
        agents: Some(Arc::new(SessionAgents(session.clone()))),
        secret_source: Some(Arc::new(SessionSecrets(session.clone()))),
        output: outputs.next().unwrap_or_default(),
        further_outputs: outputs.collect(),
        network: network.network.clone(),
        resolv_conf: network.resolv_conf.clone(),
        user_ids: network.user_ids,
        rlimits: inner.host.rlimits(&description.ulimits).map_err(Failed::words)?,
        extra_hosts: extra_hosts(inner, &description),
        ..of(&description)
    };
    let exporting: Arc<Mutex<Option<Task>>> = Arc::default();
    let progress = {
        let (board, exporting, target) = (board.clone(), exporting.clone(), plan.target);
        let title = titles.first().cloned();
        move |event: Event| {
            if event == (Event::StageDone { stage: target })
                && let Some(title) = &title
            {
                *exporting.lock() = Some(board.task(title.as_str()));
            }
            board.event(event);
        }
    };
    let built = inner.builder.build(build, Arc::new(progress)).await;
    drop(network);
    // A file whose client gave up has the better reason.
    for transfer in transfers {
        let transfer = transfer.lock().take();
        if let Some(transfer) = transfer {
            let sent = transfer.await.unwrap_or_else(|panic| Err(grpc::CallError::Transport(panic.to_string())));
            sent.map_err(|error| Failed::words(error.to_string()))?;
        }
    }
    let built = match built {
        Ok(built) => built,
        Err(error) => {
            let error = Failed::of(&error, &name, &text);
            if let Some(task) = exporting.lock().take() {
                task.fail(&error.to_string());
            }
            board.fail(&error.to_string());
            return Err(error);
        }
    };
    let task = exporting.lock().take();
    let mut results = export::results(&inner.content, &built, &platform);
    if let Some(written) = &written {
        for target in &caches.directories {
            let descriptor = target.judge(cache::export(session, written, &target.place, board).await)?;
            results.extend(descriptor.map(|descriptor| ("cache.manifest".to_owned(), descriptor)));
        }
    }
    for target in &caches.names {
        target.judge(cache::push(inner, session, &target.place, board).await)?;
    }
    if !image && !before.contains(&built.image) {
        remove_nameless(inner, &built.image);
    }
    let Some(task) = task else { return Ok(results) };
    if image {
        task.note("exporting layers");
        task.note(format!("writing image {}", built.image));
        for name in built.tags.iter().filter_map(|name| Reference::parse(name).ok()) {
            task.note(format!("naming to {name}"));
            inner.host.tagged(&built.image, &name);
        }
    }
    for (number, directory) in directories {
        let headers = [("buildkit-attachable-exporter-id", number.to_string())];
        let call = session.channel.open("moby.filesync.v1.FileSend/DiffCopy", &headers);
        let call = call.map_err(|error| Failed::words(error.to_string()))?;
        let mut line = 0;
        let sent = sync::send(call, directory, |bytes| line = bytes).await;
        let bytes = sent.map_err(|error| Failed::words(format!("copying files: {error}")))?;
        task.amount_done("copying files", bytes.max(line));
    }
    if push {
        for name in built.tags.iter().filter_map(|name| Reference::parse(name).ok()) {
            let login = login(session, &name.registry).await.map_err(Failed::words)?;
            if let Err(error) = inner.host.push(&name, login).await {
                let error = format!("failed to push {}: {error}", name.familiar());
                task.fail(&error);
                return Err(Failed::words(error));
            }
            task.note("pushing layers");
            task.note(format!("pushing manifest for {name}@{}", built.manifest));
        }
    }
    task.done();
    Ok(results)
}

fn ids(inner: &Inner) -> BTreeSet<String> {
    inner.content.images().unwrap_or_default().iter().map(|image| image.id.to_string()).collect()
}

/// What the description says of the request.
fn of(description: &Description) -> BuildRequest {
    BuildRequest {
        target: description.target.clone(),
        args: description.args.clone(),
        labels: description.labels.clone(),
        no_cache: description.no_cache,
        no_cache_stages: description.no_cache_stages.clone(),
        pull: description.pull,
        platform: description.platform.clone(),
        shm_size: description.shm_size,
        resources: description.resources.clone(),
        cache_from: description.cache_from.clone(),
        ..BuildRequest::default()
    }
}

fn extra_hosts(inner: &Inner, description: &Description) -> Vec<(String, String)> {
    let gateway = inner.host.gateway();
    let hosts = description.extra_hosts.iter();
    hosts
        .filter_map(|(name, address)| match address.as_str() {
            "host-gateway" => Some((name.clone(), gateway?.to_string())),
            _ => Some((name.clone(), address.clone())),
        })
        .collect()
}

/// The images that are needed from elsewhere, as they are named.
fn images(dockerfile: &Dockerfile, plan: &Plan, contexts: &BTreeMap<String, NamedContext>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for planned in &plan.stages {
        if let Base::Image(name) = &planned.base {
            names.insert(name.clone());
        }
        for instruction in &dockerfile.stages[planned.index].instructions {
            let mut from = |name: &Option<String>| {
                if let Some(name) = name.as_ref().filter(|name| !name.contains('$'))
                    && let builder::plan::From::Image(image) = resolve(&dockerfile.stages, planned.index, name)
                {
                    names.insert(image);
                }
            };
            match &instruction.command {
                Command::Copy(copying) | Command::Add(copying) => from(&copying.from),
                Command::Run { mounts, .. } => mounts.iter().for_each(|mount| match &mount.kind {
                    MountKind::Bind { from: name, .. } | MountKind::Cache { from: name, .. } => from(name),
                    _ => {}
                }),
                _ => {}
            }
        }
    }
    let replaced = |name: String| match contexts.get(&name) {
        Some(NamedContext::Image(image)) => Some(image.clone()),
        Some(NamedContext::Directory(_)) => None,
        None => Some(name),
    };
    names.into_iter().filter_map(replaced).collect()
}

type Logins = Vec<(String, engine::content::Credentials)>;

/// Looks for the images that are needed; for those that are not here, asks the client who it is at their registry.
/// Says too whether an image may bring triggers, which could name any file.
async fn metadata(
    inner: &Inner,
    session: &Session,
    images: &BTreeSet<String>,
    pull: bool,
    board: &Board,
) -> Result<(Logins, bool), Failed> {
    let mut logins = Logins::new();
    let mut asked = BTreeSet::new();
    let mut triggers = false;
    for name in images {
        // What is another build's result has no name.
        if name.starts_with("sha256:") {
            continue;
        }
        let Ok(reference) = Reference::parse(name) else { continue };
        let task = board.task(format!("[internal] load metadata for {reference}"));
        let here = inner.content.image(name).ok();
        triggers |= here.as_ref().is_none_or(|image| !image.config.config.on_build.is_empty());
        if (here.is_none() || pull) && asked.insert(reference.registry.clone()) {
            let found = login(session, &reference.registry).await.map_err(Failed::words)?;
            logins.extend(found.map(|login| (reference.registry.clone(), credentials(login))));
        }
        task.done();
    }
    Ok((logins, triggers))
}
