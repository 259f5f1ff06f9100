//! The engine: the daemon's handle on all sandboxes.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{Error, Events, Result, Sandbox, SandboxSpec};

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
pub struct Engine {}

impl Engine {
    /// Makes the directories and the root cgroup. Call [`Engine::adopt`] next.
    ///
    /// # Errors
    /// [`Error::Io`] when a directory cannot be made.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        let _ = config;
        todo!()
    }

    /// Takes over what an earlier daemon left in `run_dir`: reconnects to every live shim (nothing of theirs was lost),
    /// and for each shim that is gone kills what it left behind and removes its cgroups and socket; such a sandbox is
    /// returned with [`crate::SandboxState::Dead`] and what is known of its containers, until it is destroyed.
    pub async fn adopt(&self) -> Result<Vec<Sandbox>> {
        todo!()
    }

    /// Starts a shim with the sandbox's namespaces. Takes a few milliseconds.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::AlreadyExists`], [`Error::ShimStart`] (namespaces, sysctls, tmpfs); nothing remains.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox> {
        let _ = spec;
        todo!()
    }

    /// The sandbox of that id.
    pub fn sandbox(&self, id: &str) -> Option<Sandbox> {
        let _ = id;
        todo!()
    }

    /// All sandboxes, dead ones included.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        todo!()
    }

    /// Everything that happens from now on.
    pub fn events(&self) -> Events {
        todo!()
    }

    /// Removes what the engine as a whole made outside its directories (root cgroups). For `down --purge`, after every
    /// sandbox was destroyed.
    pub async fn purge(self) -> Result<()> {
        Err(Error::Protocol(String::new()))
    }
}
