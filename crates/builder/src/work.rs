//! What all stages of one build share.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::content::{Content, Digest, Image, ImageConfig, Layer, Reference};
use engine::{Engine, Namespace, Resources, Sandbox, SandboxSpec, Seccomp, Tmpfs};
use tokio::sync::Mutex;

use crate::cache_directory;
use crate::dockerfile::Dockerfile;
use crate::error::Kind;
use crate::event::{Event, Progress};
use crate::pattern::Ignore;
use crate::request::{Agents, NamedContext, RunNetwork, Secrets};
use crate::tree::Root;
use crate::view;

/// A directory that goes with its last user. Its lock tells others that somebody still works in it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub path: PathBuf,
    _lock: File,
}

impl Workspace {
    /// Makes and locks it. In between it looks abandoned, so those who clear such are kept out.
    pub fn new(parent: &Path, id: &str) -> Result<Self, Kind> {
        let path = parent.join(id);
        let _entrance = entrance(parent)?;
        std::fs::create_dir_all(&path).map_err(|e| Kind::io("create", &path, e))?;
        let lock = File::create(path.join("lock")).map_err(|e| Kind::io("create", &path, e))?;
        lock.lock().map_err(|e| Kind::io("lock", &path, e))?;
        Ok(Self { path, _lock: lock })
    }

    /// The build's own name.
    pub fn id(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Held by whoever makes workspaces, or looks which are abandoned.
pub(crate) fn entrance(parent: &Path) -> Result<File, Kind> {
    let path = parent.with_extension("lock");
    let file = File::create(&path).map_err(|e| Kind::io("open", &path, e))?;
    file.lock().map_err(|e| Kind::io("lock", &path, e))?;
    Ok(file)
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a build's directory stays until the next start");
        }
    }
}

/// Marks the sandboxes of builds, with the workspace they belong to.
pub(crate) const LABEL: &str = "io.hythe.build";
/// What steps see as their host's name, as BuildKit's, unless an argument says otherwise.
const HOSTNAME: &str = "buildkitsandbox";

/// Settings of one build.
pub(crate) struct Settings {
    pub args: BTreeMap<String, String>,
    pub no_cache: bool,
    pub pull: bool,
    pub pull_options: engine::content::PullOptions,
    /// Images that the cache may take steps from.
    pub cache_from: Vec<Built>,
    /// And from nowhere else.
    pub only_cache_from: bool,
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub secret_source: Option<Arc<dyn Secrets>>,
    pub agents: Option<Arc<dyn Agents>>,
    pub contexts: BTreeMap<String, NamedContext>,
    pub no_cache_stages: Vec<String>,
    pub network: RunNetwork,
    pub resolv_conf: Option<String>,
    pub extra_hosts: Vec<(String, String)>,
    pub clamp: Option<i64>,
    pub resources: Resources,
    pub shm_size: Option<u64>,
    pub rlimits: Vec<engine::Rlimit>,
    pub user_ids: Option<engine::IdRange>,
    pub max_bytes: u64,
    pub platform: String,
    pub classic: bool,
}

impl Settings {
    /// Who knows the secrets: the request's own come first, as for steps.
    pub fn all_secrets(&self) -> Option<Arc<dyn Secrets>> {
        match self.secrets.is_empty() {
            true => self.secret_source.clone(),
            false => Some(Arc::new(self.secrets.clone())),
        }
    }
}

/// Where files come from that are not of the main context.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// An image, or a stage.
    Layers(Vec<Layer>),
    /// A context with a name.
    Directory(PathBuf),
}

impl Origin {
    /// As a tree.
    pub fn root(&self, work: &Work) -> Result<Root, Kind> {
        let fd = match self {
            Self::Layers(layers) => work.view(layers)?,
            Self::Directory(path) => {
                use rustix::fs::{Mode, OFlags};
                rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e| Kind::io("open", path, e))?
            }
        };
        Ok(Root::new(fd, Ignore::default()))
    }
}

/// One build's surroundings.
pub(crate) struct Work {
    pub content: Content,
    pub data_dir: PathBuf,
    pub workspace: Arc<Workspace>,
    pub settings: Settings,
    pub dockerfile: Dockerfile,
    pub global: BTreeMap<String, String>,
    pub steps: usize,
    /// The files of the context; `None` without one.
    pub context: Option<Root>,
    pub progress: Progress,
    pub sandboxes: Sandboxes,
    pub locks: Arc<Locks>,
    pub cached: AtomicUsize,
    pub used_args: parking::Used,
    /// The cache's records that this build used or made.
    pub records: cache_directory::Used,
    /// Of names in the workspace.
    pub counter: AtomicUsize,
}

/// The arguments that some stage has declared or used.
pub(crate) mod parking {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    /// A set that several stages add to.
    #[derive(Default)]
    pub(crate) struct Used(Mutex<BTreeSet<String>>);

    impl Used {
        pub fn add(&self, name: &str) {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(name.to_owned());
        }

        pub fn contains(&self, name: &str) -> bool {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(name)
        }
    }
}

/// Locks of cache mounts, by id, shared by all builds of a builder.
#[derive(Default)]
pub(crate) struct Locks(std::sync::Mutex<BTreeMap<String, Arc<Mutex<()>>>>);

impl Locks {
    pub fn of(&self, id: &str) -> Arc<Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.retain(|_, lock| Arc::strong_count(lock) > 1);
        all.entry(id.to_owned()).or_default().clone()
    }
}

impl Work {
    pub fn tell(&self, event: Event) {
        (self.progress)(event);
    }

    /// A fresh name in the workspace.
    pub fn scratch(&self, kind: &str) -> PathBuf {
        self.workspace.path.join(format!("{kind}-{}", self.counter.fetch_add(1, Ordering::Relaxed)))
    }

    /// The time of what is made now, RFC 3339.
    pub fn now(&self) -> String {
        let timestamp = match self.settings.clamp {
            Some(clamp) => jiff::Timestamp::from_second(clamp).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
            None => jiff::Timestamp::now(),
        };
        timestamp.to_string()
    }

    /// A directory without entries.
    pub fn empty(&self) -> PathBuf {
        self.workspace.path.join("empty")
    }

    /// The directories of layers, the topmost first, as overlayfs wants them.
    pub fn lower(&self, layers: &[Layer]) -> Result<Vec<PathBuf>, Kind> {
        let missing = |layer: &Layer| Kind::invalid(format!("layer {} is not here any more", layer.diff_id));
        // overlayfs refuses one directory twice; the topmost hides what the same layer shows from below.
        let mut seen = std::collections::HashSet::new();
        let once = layers.iter().rev().filter(|l| seen.insert(&l.diff_id));
        once.map(|l| self.content.layer_directory(&l.diff_id).ok_or_else(|| missing(l))).collect()
    }

    /// Layers as a tree, to be read.
    pub fn view(&self, layers: &[Layer]) -> Result<OwnedFd, Kind> {
        view::open(&self.lower(layers)?, None, &self.empty()).map_err(|e| Kind::io("mount", &self.workspace.path, e))
    }

    /// An image that is here or comes from its registry.
    pub async fn image(&self, stage: usize, name: &str) -> Result<(Image, Vec<Layer>), Kind> {
        let here = self.content.image(name).ok();
        let image = match here.filter(|_| !self.settings.pull || Reference::parse(name).is_err()) {
            Some(image) => image,
            None => {
                let progress = self.progress.clone();
                let mut options = self.settings.pull_options.clone();
                options.progress = Some(Arc::new(move |line: &str| {
                    progress(Event::Pulling { stage, line: line.to_owned() });
                }));
                self.content.pull(name, &options).await?
            }
        };
        let layers = self.content.image_layers(&image)?;
        Ok((image, layers))
    }

    /// Runs blocking work on a thread that may block. It keeps the workspace alive even if nobody waits any more.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Work) -> Result<T, Kind> + Send + 'static,
    ) -> Result<T, Kind> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this))
            .await
            .unwrap_or_else(|panic| Err(Kind::Interrupted(panic.to_string())))
    }
}

/// An image under construction, as far as it has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    pub config: ImageConfig,
    pub layers: Vec<Layer>,
    /// The image that it still is, until the first step changes it.
    pub origin: Option<Digest>,
}

/// The build's sandboxes: one for each kind of network that a `RUN` asks for, made when the first does.
pub(crate) struct Sandboxes {
    engine: Engine,
    workspace: Arc<Workspace>,
    made: Mutex<Vec<(RunNetwork, Sandbox)>>,
}

impl Sandboxes {
    pub fn new(engine: Engine, workspace: Arc<Workspace>) -> Self {
        Self { engine, workspace, made: Mutex::default() }
    }

    /// Where its secrets are, a tmpfs that only the sandbox sees.
    pub fn secrets(&self) -> PathBuf {
        self.workspace.path.join("secrets")
    }

    pub async fn get(&self, network: &RunNetwork, settings: &Settings) -> Result<Sandbox, Kind> {
        let mut made = self.made.lock().await;
        if let Some((_, sandbox)) = made.iter().find(|(own, _)| own == network) {
            return Ok(sandbox.clone());
        }
        let secrets = self.secrets();
        std::fs::create_dir_all(&secrets).map_err(|e| Kind::io("create", &secrets, e))?;
        let name = self.workspace.id();
        let spec = SandboxSpec {
            id: format!("build-{name}-{}", made.len()),
            network: match network {
                RunNetwork::Host => Namespace::Host,
                RunNetwork::None => Namespace::New,
                RunNetwork::Path(path) => Namespace::Path(path.clone()),
            },
            hostname: Some(settings.args.get("BUILDKIT_SANDBOX_HOSTNAME").map_or(HOSTNAME, String::as_str).to_owned()),
            resources: settings.resources.clone(),
            // Whoever has ids of their own has no rights over the host's network.
            user_ids: settings.user_ids.filter(|_| *network != RunNetwork::Host),
            tmpfs: vec![Tmpfs { path: secrets, size: Some(64 << 20), mode: 0o700 }],
            labels: BTreeMap::from([(LABEL.to_owned(), self.workspace.path.display().to_string())]),
            ..SandboxSpec::default()
        };
        let sandbox = self.engine.create_sandbox(spec).await?;
        made.push((network.clone(), sandbox.clone()));
        Ok(sandbox)
    }

    /// Ends all of them.
    pub async fn end(&self) {
        for (_, sandbox) in self.made.lock().await.drain(..) {
            end(sandbox).await;
        }
    }
}

async fn end(sandbox: Sandbox) {
    if let Err(error) = sandbox.destroy().await {
        tracing::warn!(sandbox = sandbox.id(), %error, "a build's sandbox stays until the next start");
    }
}

impl Drop for Sandboxes {
    /// After a build that was given up: its containers end all the same.
    fn drop(&mut self) {
        let made: Vec<Sandbox> = self.made.get_mut().drain(..).map(|(_, sandbox)| sandbox).collect();
        if made.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let workspace = self.workspace.clone();
        runtime.spawn(async move {
            for sandbox in made {
                end(sandbox).await;
            }
            drop(workspace);
        });
    }
}

/// Docker's filter for system calls.
pub(crate) const SECCOMP: Seccomp = Seccomp::RuntimeDefault;
