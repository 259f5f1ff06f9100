//! What the agent needs of a container runtime, so that a fake can stand in for the engine in tests and simulations.

mod detail;
mod image_volume;
mod images;
mod namespace;
mod real;
mod sub_path;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use engine::{ContainerSpec, ExecSpec, ExitStatus, Ids, Resources, SandboxSpec, SandboxStatus, TerminalSize, UserSpec};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub use detail::Detail;
pub use images::{Credential, ImageError, ImageInfo, Images};
pub(crate) use real::traffic;
pub use real::{ContentImages, EngineRuntime};
pub use sub_path::SubPath;

/// Sandboxes and containers. All methods may be called at the same time; ids are the caller's.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Makes a sandbox; its containers come one by one.
    async fn create_sandbox(&self, spec: SandboxSpec) -> engine::Result<()>;
    /// Ends and removes a sandbox with all in it; an unknown id is fine.
    async fn destroy_sandbox(&self, sandbox: &str) -> engine::Result<()>;
    /// All sandboxes known, dead ones included (at start: those that outlived the agent).
    async fn sandboxes(&self) -> engine::Result<Vec<SandboxStatus>>;
    /// Makes a container in a sandbox without starting it.
    async fn create(&self, sandbox: &str, spec: ContainerSpec) -> engine::Result<()>;
    /// Starts it.
    async fn start(&self, sandbox: &str, container: &str) -> engine::Result<()>;
    /// Whom a container that was made runs as, by the files of its image; `None` if nobody can tell.
    async fn ids(&self, _sandbox: &str, _container: &str, _user: UserSpec) -> Option<Ids> {
        None
    }
    /// Sends a signal to its first process; one that ended is fine.
    async fn signal(&self, sandbox: &str, container: &str, signal: i32) -> engine::Result<()>;
    /// Waits for its end; at once if it ended already.
    async fn wait(&self, sandbox: &str, container: &str) -> engine::Result<ExitStatus>;
    /// Removes a container that ended; an unknown id is fine.
    async fn remove(&self, sandbox: &str, container: &str) -> engine::Result<()>;
    /// Runs a process in a running container.
    async fn exec(&self, sandbox: &str, spec: ExecSpec) -> engine::Result<Process>;
    /// Connects to the streams of a running container's first process.
    async fn attach(
        &self,
        sandbox: &str,
        container: &str,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> engine::Result<Process>;
    /// Where the host sees a path that lies on one of the sandbox's memory file systems.
    async fn host_path(&self, sandbox: &str, path: &Path) -> PathBuf;
    /// Binds a part of a volume so that the sandbox's containers can have it mounted. No link leads out of the volume.
    async fn stage_sub_path(&self, sandbox: &str, sub_path: SubPath) -> std::io::Result<()>;
    /// Takes binds away after the container that mounts them was made; ones that are not there are fine.
    async fn unstage_sub_paths(&self, sandbox: &str, sub_paths: Vec<SubPath>) -> std::io::Result<()>;
    /// Shows the layers of an image (the topmost first) at `target`, an existing directory, for reading only, where the
    /// sandbox's containers can have it mounted; one that is there stays. It goes with the sandbox.
    async fn stage_image(&self, _sandbox: &str, _layers: Vec<PathBuf>, _target: PathBuf) -> std::io::Result<()> {
        Ok(())
    }
    /// Connects to a port of the sandbox's own loopback address.
    async fn connect(&self, sandbox: &str, port: u16) -> std::io::Result<TcpStream>;
    /// Changes the limits of a container that runs; what is `None` stays.
    async fn update(&self, sandbox: &str, container: &str, resources: Resources) -> engine::Result<()>;
    /// Changes the limits of all containers of a sandbox together; what is `None` stays.
    async fn limit(&self, sandbox: &str, resources: Resources) -> engine::Result<()>;
    /// What the containers of a sandbox use at this moment.
    async fn usage(&self, sandbox: &str) -> engine::Result<Vec<Usage>>;
    /// What a sandbox uses as a whole, with what containers used that have ended; nothing if nobody counts.
    async fn usage_of_all(&self, _sandbox: &str) -> Option<Usage> {
        None
    }
    /// Limits what all sandboxes together may use; what is `None` stays.
    async fn limit_all(&self, resources: Resources) -> engine::Result<()>;
    /// What all sandboxes together use; nothing if nobody counts.
    async fn usage_of_node(&self) -> Option<Usage> {
        None
    }
    /// All that is known of what a container uses; nothing if it has gone or nobody counts.
    async fn detail(&self, _sandbox: &str, _container: &str) -> Option<Detail> {
        None
    }
    /// What went through the network interfaces of a sandbox that has a network of its own; nothing if nobody counts.
    async fn traffic(&self, _sandbox: &str) -> Vec<Traffic> {
        Vec::new()
    }
}

/// What went through a network interface since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// For instance `eth0`.
    pub interface: String,
    /// Bytes in.
    pub received: u64,
    /// Packets in.
    pub packets_in: u64,
    /// Packets that came in broken.
    pub receive_errors: u64,
    /// Packets that came in and found no room.
    pub receive_drops: u64,
    /// Bytes out.
    pub sent: u64,
    /// Packets out.
    pub packets_out: u64,
    /// Packets that could not go out.
    pub send_errors: u64,
    /// Packets that found no room on the way out.
    pub send_drops: u64,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The container's id.
    pub container: String,
    /// CPU time since its start, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// All memory that is charged, in bytes.
    pub memory: u64,
    /// Memory without reclaimable file cache, in bytes.
    pub working_set: u64,
    /// Anonymous memory, in bytes.
    pub rss: u64,
    /// The limit of memory in bytes, if there is one.
    pub memory_limit: Option<u64>,
    /// Memory that was moved to swap, in bytes.
    pub swap: u64,
    /// Page faults, and those that read from disk.
    pub page_faults: (u64, u64),
    /// Periods of the CPU quota, and those in which it ran out.
    pub cpu_periods: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
}

/// A process one talks to: an exec or an attached container.
pub struct Process {
    /// Its stdin, if asked for.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its stdout or terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its stderr.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// A client that has nothing more to say leaves, as upstream's runtimes have it: its container reads on.
    pub ends_with_stdin: bool,
    /// Its end and its terminal.
    pub control: Box<dyn ProcessControl>,
}

/// Beside the streams of a [`Process`].
#[async_trait]
pub trait ProcessControl: Send + Sync {
    /// Waits for its end.
    async fn wait(&self) -> engine::Result<ExitStatus>;
    /// Sets the size of its terminal.
    async fn resize(&self, size: TerminalSize) -> engine::Result<()>;
    /// Kills it (an exec) or does nothing (an attached container).
    async fn kill(&self);
}
