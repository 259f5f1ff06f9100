//! The builder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use engine::Engine;
use engine::content::{Content, Reference};

use crate::cache::{self, CacheEntry};
use crate::cache_directory;
use crate::contexts::replace_stages;
use crate::dockerfile::{self, Dockerfile};
use crate::error::{BuildError, Kind};
use crate::event::{Event, Progress};
use crate::extract::{Extraction, decompressed, extract};
use crate::output;
use crate::owner::Owner;
use crate::pattern::Ignore;
use crate::plan::{check_platform, plan};
use crate::request::{BuildOutput, BuildRequest, Context, Source};
use crate::stage;
use crate::tree::Root;
use crate::work::{Built, LABEL, Locks, Sandboxes, Settings, Work, Workspace, entrance, parking::Used};

/// Bytes of a context unless the request says otherwise.
const MAX_BYTES: u64 = 64 << 30;
/// No honest Dockerfile is longer.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// Builds images from Dockerfiles. Cheap to clone.
#[derive(Clone)]
pub struct Builder {
    engine: Engine,
    content: Content,
    data_dir: PathBuf,
    locks: Arc<Locks>,
}

impl Builder {
    /// A builder that works in `data_dir` (best on the file system of the content: layers then become what they are
    /// by a rename). Call after [`Engine::adopt`]: what builds left that were killed is cleared away.
    ///
    /// # Errors
    /// [`Kind::Io`] if the directory can't be made.
    pub async fn open(engine: Engine, content: Content, data_dir: impl Into<PathBuf>) -> Result<Self, BuildError> {
        let data_dir = data_dir.into();
        for name in ["work", "mounts"] {
            let path = data_dir.join(name);
            std::fs::create_dir_all(&path).map_err(|e| Kind::io("create", &path, e))?;
        }
        let data_dir = std::fs::canonicalize(&data_dir).map_err(|e| Kind::io("resolve", &data_dir, e))?;
        let builder = Self { engine, content, data_dir, locks: Arc::default() };
        builder.recover().await;
        Ok(builder)
    }

    /// Ends the sandboxes and removes the workspaces of builds whose process is gone.
    async fn recover(&self) {
        let parent = self.data_dir.join("work");
        let _entrance = match blocking(move || entrance(&parent)).await {
            Ok(entrance) => entrance,
            Err(error) => return tracing::warn!(%error, "what killed builds left can't be cleared"),
        };
        for sandbox in self.engine.sandboxes() {
            let Some(workspace) = sandbox.spec().labels.get(LABEL) else { continue };
            if abandoned(Path::new(workspace))
                && let Err(error) = sandbox.destroy().await
            {
                tracing::warn!(sandbox = sandbox.id(), %error, "a killed build's sandbox can't be removed");
            }
        }
        for entry in std::fs::read_dir(self.data_dir.join("work")).into_iter().flatten().flatten() {
            if abandoned(&entry.path())
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "a killed build's directory can't be removed");
            }
        }
    }

    /// Builds. Drop the future to give the build up: its containers end, and nothing but the cache's records of
    /// finished steps stays. Must run in a multi-threaded runtime.
    ///
    /// # Errors
    /// [`BuildError`], with the instruction's lines where it is one's fault.
    pub async fn build(&self, request: BuildRequest, progress: Progress) -> Result<BuildOutput, BuildError> {
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let workspace = Arc::new(Workspace::new(&self.data_dir.join("work"), &id)?);
        let empty = workspace.path.join("empty");
        std::fs::create_dir(&empty).map_err(|e| Kind::io("create", &empty, e))?;
        let name = match &request.dockerfile {
            Source::Path(path) => path.clone(),
            Source::Text(_) => "Dockerfile".into(),
        };
        let prepared = prepare(&workspace, request).await?;
        let text = prepared.text.clone();
        let result = self.run(workspace, prepared, progress).await;
        result.map_err(|mut error| {
            if let Some((first, last)) = error.lines {
                error.excerpt = Some(dockerfile::excerpt(&text, &name, first, last));
            }
            error
        })
    }

    async fn run(
        &self,
        workspace: Arc<Workspace>,
        prepared: Prepared,
        progress: Progress,
    ) -> Result<BuildOutput, BuildError> {
        let Prepared {
            mut settings,
            context,
            text,
            tags,
            cache_from,
            classic,
            cache_directories,
            cache_to,
            cache_names,
            labels,
            target,
            outputs,
            archive_names,
        } = prepared;
        let mut dockerfile = Dockerfile::parse(&text).map_err(Kind::Parse)?;
        replace_stages(&mut dockerfile, &settings.contexts);
        for warning in &dockerfile.warnings {
            progress(Event::Warning(warning.clone()));
        }
        let plan = plan(&dockerfile, target.as_deref(), &settings.args, &settings.platform)?;
        let names = plan.stages.iter().enumerate().map(|(at, planned)| {
            let stage = &dockerfile.stages[planned.index];
            let end = plan.stages.get(at + 1).map_or(plan.steps + 1, |next| next.first_step);
            let name = stage.name.clone().unwrap_or_else(|| planned.index.to_string());
            (planned.index, name, end - planned.first_step)
        });
        let steps = plan.steps + usize::from(!labels.is_empty());
        progress(Event::Planned { stages: names.collect(), steps });
        let first = plan.stages.first().map_or(0, |stage| stage.index);
        for (index, instruction) in dockerfile.global.iter().enumerate() {
            let text = instruction.original.clone();
            progress(Event::Step { stage: first, number: index + 1, total: steps, text });
        }
        // From here to the image's name nothing of it may be collected.
        let authoring = {
            let content = self.content.clone();
            blocking(move || Ok(content.authoring()?)).await?
        };
        for directory in cache_directories {
            let (content, id) = (self.content.clone(), workspace.id());
            let shown = directory.display().to_string();
            let read = blocking(move || cache_directory::read(&content, &directory, &id)).await;
            if let Err(error) = read {
                progress(Event::Warning(format!("nothing is taken from {shown}: {error}")));
            }
        }
        settings.only_cache_from = classic && !cache_from.is_empty();
        for name in &cache_from {
            match self.cache_source(name, &settings, classic).await {
                Ok(image) => settings.cache_from.extend(image),
                // dockerd looks among its own images alone, and says nothing.
                Err(_) if classic => {}
                Err(error) => progress(Event::Warning(format!("nothing is taken from {name}: {error}"))),
            }
        }
        let global_names: Vec<String> = plan.global.keys().cloned().collect();
        let work = Arc::new(Work {
            sandboxes: Sandboxes::new(self.engine.clone(), workspace.clone()),
            content: self.content.clone(),
            data_dir: self.data_dir.clone(),
            workspace,
            settings,
            dockerfile,
            global: plan.global.clone(),
            steps,
            context,
            progress: progress.clone(),
            locks: self.locks.clone(),
            cached: AtomicUsize::new(0),
            used_args: Used::default(),
            records: cache_directory::Used::default(),
            counter: AtomicUsize::new(0),
        });
        global_names.iter().for_each(|name| work.used_args.add(name));
        let mut futures: BTreeMap<usize, stage::Future> = BTreeMap::new();
        for planned in &plan.stages {
            let labels = if planned.index == plan.target { labels.clone() } else { BTreeMap::new() };
            let future = stage::build(work.clone(), planned.clone(), futures.clone(), labels);
            futures.insert(planned.index, future);
        }
        // All at once; a stage that needs another waits for it.
        let result = futures::future::try_join_all(futures.values().cloned()).await;
        let built = match result {
            Ok(_) => futures[&plan.target].clone().await,
            Err(error) => Err(error),
        };
        drop(futures);
        work.sandboxes.end().await;
        let built = built?;
        if classic && built.origin.is_none() && built.config.history.is_empty() {
            return Err(Kind::invalid("No image was generated. Is your Dockerfile empty?").into());
        }
        let unused: Vec<&String> =
            work.settings.args.keys().filter(|name| !work.used_args.contains(name) && !is_predefined(name)).collect();
        if !unused.is_empty() {
            let list: Vec<&str> = unused.iter().map(|name| name.as_str()).collect();
            progress(Event::Warning(format!("One or more build-args [{}] were not consumed", list.join(" "))));
        }
        let cached = (work.cached.load(Ordering::Relaxed), work.steps);
        let (image, tagged) = work
            .blocking(move |work| {
                let image = match &built.origin {
                    // Not a single step: the result is the base itself.
                    Some(origin) => {
                        for tag in &tags {
                            work.content.tag(origin.as_str(), &tag.to_string())?;
                        }
                        work.content.image(origin.as_str())?
                    }
                    None => work.content.author(&built.config, &built.layers, &tags)?,
                };
                let names = [tags.clone(), archive_names].concat();
                for output in outputs {
                    output::write(work, &image, &built, output, &names)?;
                }
                if let Some(directory) = cache_to {
                    let platform = &work.settings.platform;
                    cache_directory::write(&work.content, &work.records, platform, &directory)?;
                }
                for name in cache_names {
                    cache_directory::author(&work.content, &work.records, &work.settings.platform, &name)?;
                }
                Ok((image, tags))
            })
            .await?;
        drop(authoring);
        progress(Event::Built { image: image.id.to_string() });
        for name in &tagged {
            progress(Event::Tagged { name: name.familiar() });
        }
        Ok(BuildOutput {
            image: image.id.to_string(),
            manifest: image.manifest.to_string(),
            tags: tagged.iter().map(Reference::to_string).collect(),
            cached,
        })
    }

    /// An image that steps may be taken from; `None` for one that is a cache, whose steps are this store's own then.
    async fn cache_source(&self, name: &str, settings: &Settings, local: bool) -> Result<Option<Built>, Kind> {
        let (image, pulled) = match self.content.image(name) {
            Ok(image) => (image, false),
            Err(missing) if local => return Err(missing.into()),
            Err(_) => (self.content.pull(name, &settings.pull_options).await?, true),
        };
        let (content, config, name) = (self.content.clone(), image.config.clone(), name.to_owned());
        let taken = blocking(move || {
            let taken = cache_directory::take(&content, &config)?;
            // Nobody runs a cache: what is needed of it is kept by its records.
            if taken.is_some() && pulled {
                content.remove_image(&name, true)?;
            }
            Ok(taken)
        });
        if taken.await?.is_some() {
            return Ok(None);
        }
        let layers = self.content.image_layers(&image)?;
        Ok(Some(Built { config: image.config, layers, origin: None }))
    }

    /// What the build cache holds: records of steps, and cache mounts. Blocks.
    pub fn cache(&self) -> Vec<CacheEntry> {
        [cache::entries(&self.content), cache::mounts(&self.data_dir.join("mounts"))].concat()
    }

    /// Forgets what the cache has not used for that long, the longest unused first, until no more than `keep` bytes
    /// are left; then collects what nothing needs any more. With a `keep` of 0 cache mounts go too, unless a build is
    /// running. Returns what was forgotten. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn prune(&self, unused: Duration, keep: u64) -> Result<Vec<CacheEntry>, Kind> {
        let now = SystemTime::now();
        let mut gone = cache::prune(&self.content, unused, keep, now)?;
        let work = self.data_dir.join("work");
        let _entrance = entrance(&work)?;
        let mut builds = std::fs::read_dir(&work).map_err(|e| Kind::io("read", &work, e))?.flatten();
        if keep == 0 && builds.all(|build| abandoned(&build.path())) {
            gone.extend(cache::prune_mounts(&self.data_dir.join("mounts"), unused, now));
        }
        Ok(gone)
    }
}

/// A request, its files found and its Dockerfile read.
struct Prepared {
    settings: Settings,
    context: Option<Root>,
    text: String,
    tags: Vec<Reference>,
    cache_from: Vec<String>,
    classic: bool,
    cache_directories: Vec<PathBuf>,
    cache_to: Option<PathBuf>,
    cache_names: Vec<Reference>,
    labels: BTreeMap<String, String>,
    target: Option<String>,
    outputs: Vec<crate::request::Output>,
    archive_names: Vec<Reference>,
}

async fn prepare(workspace: &Arc<Workspace>, request: BuildRequest) -> Result<Prepared, BuildError> {
    let platform = platform();
    check_platform(request.platform.as_deref(), &platform)?;
    let tags = request.tags.iter().map(|tag| tag_reference(tag)).collect::<Result<Vec<_>, _>>()?;
    let cache_names = request.cache_names.iter().map(|tag| tag_reference(tag)).collect::<Result<Vec<_>, _>>()?;
    let archive_names = request.archive_names.iter().map(|tag| tag_reference(tag)).collect::<Result<Vec<_>, _>>()?;
    let max_bytes = request.max_bytes.unwrap_or(MAX_BYTES);
    let clamp = match request.args.get("SOURCE_DATE_EPOCH").filter(|_| request.source_date_epoch.is_none()) {
        Some(text) => {
            Some(text.parse::<i64>().map_err(|_| Kind::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}")))?)
        }
        None => request.source_date_epoch,
    };
    let (context, source, keep) = (request.context, request.dockerfile, workspace.clone());
    let (context, text) = blocking(move || open_context(&keep, context, &source, max_bytes)).await?;
    Ok(Prepared {
        settings: Settings {
            args: request.args,
            no_cache: request.no_cache,
            no_cache_stages: request.no_cache_stages,
            pull: request.pull,
            pull_options: request.pull_options,
            cache_from: Vec::new(),
            only_cache_from: false,
            secrets: request.secrets,
            secret_source: request.secret_source,
            agents: request.agents,
            contexts: request.contexts,
            network: request.network,
            resolv_conf: request.resolv_conf,
            extra_hosts: request.extra_hosts,
            clamp,
            resources: request.resources,
            shm_size: request.shm_size,
            rlimits: request.rlimits,
            user_ids: request.user_ids,
            max_bytes,
            platform,
            classic: request.classic,
        },
        context,
        text,
        tags,
        cache_from: request.cache_from,
        classic: request.classic,
        cache_directories: request.cache_directories,
        cache_to: request.cache_to,
        cache_names,
        labels: request.labels,
        target: request.target,
        archive_names,
        outputs: std::iter::once(request.output).chain(request.further_outputs).collect(),
    })
}

fn tag_reference(tag: &str) -> Result<Reference, Kind> {
    let invalid =
        || Kind::invalid(format!("invalid argument {tag:?} for \"-t, --tag\" flag: invalid reference format"));
    let reference = Reference::parse(tag).map_err(|_| invalid())?;
    if reference.digest.is_some() { Err(invalid()) } else { Ok(reference) }
}

/// Opens the context and reads the Dockerfile, and the `.dockerignore` that goes with it.
fn open_context(
    workspace: &Workspace,
    context: Context,
    source: &Source,
    max_bytes: u64,
) -> Result<(Option<Root>, String), Kind> {
    let open = |path: &Path| {
        use rustix::fs::{Mode, OFlags, open};
        open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| Kind::io("open", path, e))
    };
    let mut ignored = false;
    let fd = match context {
        Context::None => None,
        Context::Directory(path) => Some(open(&path)?),
        Context::Received(path) => {
            ignored = true;
            Some(open(&path)?)
        }
        Context::Tar(reader) => {
            let path = workspace.path.join("context");
            std::fs::create_dir(&path).map_err(|e| Kind::io("create", &path, e))?;
            let fd = open(&path)?;
            let extraction = Extraction {
                owner: Some(Owner::default()),
                chmod: None,
                devices: false,
                max_bytes,
                max_entries: 5_000_000,
            };
            let unpacked = decompressed(reader).and_then(|reader| extract(reader, &fd, &extraction));
            unpacked.map_err(|e| match e.raw_os_error() {
                Some(_) => Kind::io("unpack", Path::new("the build context"), e),
                None => Kind::invalid(format!("Error processing tar file: {e}")),
            })?;
            Some(fd)
        }
    };
    let Some(fd) = fd else {
        return match source {
            Source::Text(text) => Ok((None, text.clone())),
            Source::Path(path) => Err(Kind::invalid(format!("Cannot locate specified Dockerfile: {path}"))),
        };
    };
    let plain = Root::new(fd, Ignore::default());
    let read = |path: &str| {
        let bytes = plain.read(path, MAX_DOCKERFILE).map_err(|e| Kind::io("read", Path::new(path), e))?;
        Ok::<_, Kind>(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let (text, own_ignore) = match source {
        Source::Text(text) => (text.clone(), None),
        Source::Path(path) => {
            let text =
                read(path)?.ok_or_else(|| Kind::invalid(format!("Cannot locate specified Dockerfile: {path}")))?;
            if text.is_empty() {
                return Err(Kind::invalid(format!("The Dockerfile ({path}) cannot be empty")));
            }
            if text.trim().is_empty() {
                return Err(Kind::invalid("failed to parse Dockerfile: file with no instructions"));
            }
            (text, read(&format!("{path}.dockerignore"))?)
        }
    };
    let ignore = match own_ignore {
        _ if ignored => None,
        Some(text) => Some(text),
        None => read(".dockerignore")?,
    };
    let ignore = Ignore::parse(&ignore.unwrap_or_default())?;
    let fd = plain.fd().try_clone().map_err(|e| Kind::io("open", Path::new("the build context"), e))?;
    Ok((Some(Root::new(fd, ignore)), text))
}

/// Whether nobody works in a workspace any more.
fn abandoned(workspace: &Path) -> bool {
    match std::fs::File::open(workspace.join("lock")) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => true,
    }
}

/// Arguments that need no `ARG`.
fn is_predefined(name: &str) -> bool {
    name == "SOURCE_DATE_EPOCH" || name.starts_with("BUILDKIT_") || name.to_ascii_uppercase().ends_with("_PROXY")
}

/// What is built here: `linux/` and this machine's architecture as Go names it.
pub fn platform() -> String {
    format!("linux/{}", architecture())
}

/// This machine's architecture as Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Kind> + Send + 'static) -> Result<T, Kind> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Kind::Interrupted(panic.to_string())))
}
