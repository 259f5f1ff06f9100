//! What is known of a sandbox and its containers.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Life of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, its program not yet started.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its first process ended, see [`ContainerStatus::exit`].
    Exited,
}

/// How a container's (or an exec's) first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Its exit code, or 128 + signal. 128 when the program could not be started, 255 when the shim died with it
    /// and nobody saw (see `known`).
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// A process of the container was killed by the kernel for exceeding its memory limit.
    pub oom_killed: bool,
    /// When it was started; equals `finished_at` if it never was.
    pub started_at: SystemTime,
    /// When its end was seen.
    pub finished_at: SystemTime,
    /// False when the shim was lost before it could record the end: the code is then 255 and the times a guess.
    pub known: bool,
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// The container's id.
    pub id: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Its first process, as the host sees it, while it runs.
    pub pid: Option<i32>,
    /// When it was created.
    pub created_at: SystemTime,
    /// When its program was started.
    pub started_at: Option<SystemTime>,
    /// How it ended.
    pub exit: Option<ExitStatus>,
    /// Bytes of output that could not be written to its log (full disk).
    pub log_dropped: u64,
}

/// Whether a sandbox lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Its shim answers.
    Ready,
    /// Its shim is gone: what ran in it has been killed, its record remains until [`crate::Sandbox::destroy`].
    Dead,
}

/// A sandbox as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxStatus {
    /// The sandbox's id.
    pub id: String,
    /// Whether it lives.
    pub state: SandboxState,
    /// The shim's process id while it lives.
    pub pid: Option<i32>,
    /// When it was created.
    pub created_at: SystemTime,
    /// Its containers, in order of creation.
    pub containers: Vec<ContainerStatus>,
}
