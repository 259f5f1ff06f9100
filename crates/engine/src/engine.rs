//! The engine: the daemon's handle on all sandboxes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cgroup::{Cgroups, Stats};
use crate::directory::{Directory, load, save};
use crate::event::{Event, EventKind};
use crate::protected::Protected;
use crate::shim::protocol::Setup;
use crate::{Error, Events, IdRange, Resources, Result, Sandbox, SandboxSpec};

/// Where the engine works and how it starts shims.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Durable state (content, snapshots).
    pub data_dir: PathBuf,
    /// State that need not survive a reboot: sandbox records and sockets. Best on a tmpfs.
    pub run_dir: PathBuf,
    /// Directory that holds this engine's cgroups in every hierarchy (`hythe-default`).
    pub cgroup_root: String,
    /// The program that runs [`crate::shim::main`].
    pub shim: ShimCommand,
}

/// How a shim is started: this program with these arguments, followed by those [`crate::shim::main`] is given.
#[derive(Debug, Clone)]
pub struct ShimCommand {
    /// Path of the program.
    pub program: PathBuf,
    /// Its first arguments.
    pub args: Vec<OsString>,
}

impl ShimCommand {
    /// This same binary, as `hythe shim …`; it stays the running version even if the file is replaced.
    pub fn current_exe() -> Self {
        Self { program: "/proc/self/exe".into(), args: vec!["shim".into()] }
    }
}

/// All sandboxes of one machine (or of one of its instances). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Shared>);

/// What an engine and its sandboxes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: EngineConfig,
    /// The shim's program on a read-only mount; `None` where the kernel refuses that.
    pub program: Option<Protected>,
    pub cgroups: Cgroups,
    sandboxes: Mutex<BTreeMap<String, Sandbox>>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Event>>>,
}

impl Shared {
    /// Tells every subscriber.
    pub fn announce(&self, sandbox: &str, container: &str, kind: EventKind) {
        let event = Event { sandbox: sandbox.to_owned(), container: container.to_owned(), kind };
        self.subscribers.lock().retain(|subscriber| subscriber.send(event.clone()).is_ok());
    }

    pub fn forget(&self, sandbox: &str) {
        self.sandboxes.lock().remove(sandbox);
    }
}

impl Engine {
    /// Makes the directories. Call [`Engine::adopt`] next.
    ///
    /// # Errors
    /// [`Error::Io`] when a directory cannot be made, [`Error::Invalid`] for an unusable cgroup root.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        relative("cgroup_root", &config.cgroup_root)?;
        if config.cgroup_root.is_empty() {
            return Err(Error::Invalid { field: "cgroup_root", reason: "must not be empty".to_owned() });
        }
        // Containers with mapped ids, which are nobody on the host, must be able to pass through to `mapped`.
        for (directory, mode) in
            [("", 0o711), ("sandboxes", 0o700), ("mapped", 0o711)].map(|(name, mode)| (config.run_dir.join(name), mode))
        {
            fs::create_dir_all(&directory).map_err(Error::io("make directory", &directory))?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode))
                .map_err(Error::io("set the mode of", &directory))?;
        }
        fs::create_dir_all(&config.data_dir).map_err(Error::io("make directory", &config.data_dir))?;
        let config = EngineConfig {
            run_dir: fs::canonicalize(&config.run_dir).map_err(Error::io("resolve", &config.run_dir))?,
            ..config
        };
        let program = Protected::new(&config.shim.program);
        if let Err(error) = &program {
            tracing::warn!(%error, "shims run from a writable mount: a privileged container could change this program");
        }
        let cgroups = Cgroups::detect();
        warn_of_missing_controllers(&cgroups, config.cgroup_root.as_ref());
        Ok(Self(Arc::new(Shared {
            config,
            program: program.ok(),
            cgroups,
            sandboxes: Mutex::default(),
            subscribers: Mutex::default(),
        })))
    }

    /// Takes over what an earlier daemon left in `run_dir`: reconnects to every live shim (nothing of theirs was lost),
    /// and for each shim that is gone kills what it left behind and removes its cgroups and socket; such a sandbox is
    /// returned with [`crate::SandboxState::Dead`] and what is known of its containers, until it is destroyed.
    ///
    /// # Errors
    /// [`Error::Io`] when `run_dir` cannot be read. A record that cannot be understood is removed, with a warning.
    pub async fn adopt(&self) -> Result<Vec<Sandbox>> {
        let root = self.0.config.run_dir.join("sandboxes");
        let entries = fs::read_dir(&root).map_err(Error::io("read directory", &root))?;
        let mut adopting = Vec::new();
        for entry in entries.flatten() {
            let known = entry.file_name().to_str().is_some_and(|id| self.sandbox(id).is_some());
            let directory = Directory(entry.path());
            match load::<Setup>(&directory.setup()) {
                _ if known => {}
                Ok(setup) => adopting.push(Sandbox::adopt(self.0.clone(), directory, setup)),
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "removing a sandbox without a record");
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
        let adopted = futures::future::join_all(adopting).await;
        let mut sandboxes = self.0.sandboxes.lock();
        for sandbox in &adopted {
            sandboxes.insert(sandbox.id().to_owned(), sandbox.clone());
        }
        Ok(adopted)
    }

    /// Starts a shim with the sandbox's namespaces. Takes a few milliseconds.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::AlreadyExists`], [`Error::ShimStart`] (namespaces, sysctls, tmpfs); nothing remains.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox> {
        check_id("id", &spec.id)?;
        relative("cgroup_parent", &spec.cgroup_parent)?;
        if let Some(ids) = spec.user_ids {
            self.check_ids(ids)?;
        }
        let id = spec.id.clone();
        let directory = Directory(self.0.config.run_dir.join("sandboxes").join(&id));
        let exists = || Error::AlreadyExists { kind: "sandbox", id: id.clone() };
        match fs::create_dir(&directory.0) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(exists()),
            result => result.map_err(Error::io("make directory", &directory.0))?,
        }
        let parts = [self.0.config.cgroup_root.as_str(), spec.cgroup_parent.as_str(), id.as_str()];
        let cgroup: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let setup = Setup {
            cgroup: cgroup.join("/"),
            // No id begins with an underscore.
            shim_cgroup: format!("{}/_shims", self.0.config.cgroup_root),
            created_at: std::time::SystemTime::now(),
            pid: None,
            spec,
        };
        let result = self.start(&directory, setup.clone()).await;
        match result {
            Ok(sandbox) => {
                self.0.sandboxes.lock().insert(id, sandbox.clone());
                Ok(sandbox)
            }
            Err(error) => {
                let _ = self.0.cgroups.purge(setup.cgroup.as_ref(), Duration::from_secs(1));
                let _ = fs::remove_dir_all(&directory.0);
                Err(error)
            }
        }
    }

    /// Refuses ids that are the host's own, and a place that they cannot reach.
    fn check_ids(&self, ids: IdRange) -> Result<()> {
        let invalid = |reason: String| Err(Error::Invalid { field: "user_ids", reason });
        if ids.first == 0 || ids.count == 0 || ids.first.checked_add(ids.count).is_none() {
            return invalid(format!("{} ids from {} are not a range beside the host's own", ids.count, ids.first));
        }
        let closed = |directory: &&Path| fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & 1 == 0);
        match self.0.config.run_dir.ancestors().find(closed) {
            Some(directory) => invalid(format!("{} must be passable for mapped users (o+x)", directory.display())),
            None => Ok(()),
        }
    }

    async fn start(&self, directory: &Directory, setup: Setup) -> Result<Sandbox> {
        if let Some(log_dir) = &setup.spec.log_dir {
            fs::create_dir_all(log_dir).map_err(Error::io("make directory", log_dir))?;
        }
        let record = directory.setup();
        save(&record, &setup).map_err(Error::io("write", &record))?;
        Sandbox::launch(self.0.clone(), directory.clone(), setup).await
    }

    /// The sandbox of that id.
    pub fn sandbox(&self, id: &str) -> Option<Sandbox> {
        self.0.sandboxes.lock().get(id).cloned()
    }

    /// All sandboxes, dead ones included.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.0.sandboxes.lock().values().cloned().collect()
    }

    /// Everything that happens from now on.
    pub fn events(&self) -> Events {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.subscribers.lock().push(sender);
        Events(receiver)
    }

    /// Limits what all sandboxes together may use, their shims included; `None` fields stay as they are.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel refuses it, as it does (on v1) if more than that is in use.
    pub async fn limit(&self, resources: Resources) -> Result<()> {
        let shared = self.0.clone();
        blocking(move || {
            let root = Path::new(&shared.config.cgroup_root);
            let group = shared.cgroups.group(root);
            group.create(&Resources::default()).map_err(Error::io("make cgroup", root))?;
            group.set(&resources).map_err(Error::io("limit cgroup", root))
        })
        .await
    }

    /// What all sandboxes together use, their shims included.
    ///
    /// # Errors
    /// [`Error::Io`] where nobody counts it.
    pub async fn stats(&self) -> Result<Stats> {
        let shared = self.0.clone();
        blocking(move || {
            let root = Path::new(&shared.config.cgroup_root);
            shared.cgroups.group(root).stats().map_err(Error::io("measure cgroup", root))
        })
        .await
    }

    /// Removes what the engine as a whole made outside its directories: its cgroups. For `down --purge`, after every
    /// sandbox was destroyed.
    ///
    /// # Errors
    /// [`Error::Io`] when a process is still in one of them.
    pub async fn purge(&self) -> Result<()> {
        let shared = self.0.clone();
        blocking(move || {
            let root = Path::new(&shared.config.cgroup_root);
            shared.cgroups.purge(root, Duration::from_secs(2)).map_err(Error::io("remove cgroup", root))?;
            shared.cgroups.restore();
            Ok(())
        })
        .await
    }
}

/// Says once what cannot be limited or counted on this machine.
fn warn_of_missing_controllers(cgroups: &Cgroups, root: &Path) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if cgroups.group(root).create(&Resources::default()).is_err() {
        // Whoever may not make cgroups is told at the first sandbox.
        return;
    }
    let missing = cgroups.missing_controllers(root);
    if !missing.is_empty() {
        ONCE.call_once(|| {
            let missing = missing.join(", ");
            tracing::warn!(
                "cgroup controllers are missing: {missing}; such limits and figures of containers are left out"
            );
        });
    }
}

/// Runs what blocks for a moment (files of cgroupfs, removal of directories) off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Error::Shim(format!("defect: {panic}"))))
}

/// Ids become file and cgroup names.
pub(crate) fn check_id(field: &'static str, id: &str) -> Result<()> {
    let first = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && id.len() <= 128 {
        return Ok(());
    }
    let reason = format!("{id:?} is not 1 to 128 of [A-Za-z0-9_.-], beginning with a letter or digit");
    Err(Error::Invalid { field, reason })
}

fn relative(field: &'static str, path: &str) -> Result<()> {
    if Path::new(path).components().all(|component| matches!(component, Component::Normal(_))) {
        return Ok(());
    }
    Err(Error::Invalid { field, reason: format!("{path:?} is not a plain relative path") })
}
