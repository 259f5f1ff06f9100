//! One sandbox and its containers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::Stats;
use crate::{
    ContainerSpec, ContainerStatus, ExecSpec, ExitStatus, Resources, Result, SandboxSpec, SandboxStatus, Streams,
    TerminalSize,
};

/// A handle on a sandbox. Cheap to clone; dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Sandbox {}

/// A process started by [`Sandbox::exec`].
#[derive(Debug)]
pub struct Exec {
    /// Its streams, as asked for. With a terminal, `stdout` carries both.
    pub streams: Streams,
}

/// What [`Sandbox::exec_sync`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// At most the first 16 MiB.
    pub stdout: Vec<u8>,
    /// At most the first 16 MiB.
    pub stderr: Vec<u8>,
}

impl Exec {
    /// Sets the terminal's size; nothing without a terminal.
    pub fn resize(&self, size: TerminalSize) -> Result<()> {
        let _ = size;
        todo!()
    }

    /// Host process id.
    pub fn pid(&self) -> i32 {
        todo!()
    }

    /// Sends a signal to the process.
    pub async fn signal(&self, signal: i32) -> Result<()> {
        let _ = signal;
        todo!()
    }

    /// Waits for its end. Streams may still hold output that was not read.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        todo!()
    }
}

impl Sandbox {
    /// Its id.
    pub fn id(&self) -> &str {
        todo!()
    }

    /// What it was made from.
    pub fn spec(&self) -> &SandboxSpec {
        todo!()
    }

    /// State of the sandbox and of all its containers.
    pub fn status(&self) -> SandboxStatus {
        todo!()
    }

    /// The shim's process id. `/proc/PID/ns/{net,ipc,uts}` are the sandbox's namespaces.
    pub fn pid(&self) -> Option<i32> {
        todo!()
    }

    /// The host's way to a path inside the sandbox's mount namespace (for its [`SandboxSpec::tmpfs`]).
    pub fn path(&self, inside: &Path) -> PathBuf {
        let _ = inside;
        todo!()
    }

    /// Makes a container: mounts, namespaces, cgroups, and a process that waits for [`Sandbox::start`].
    ///
    /// # Errors
    /// [`crate::Error::Invalid`], [`crate::Error::AlreadyExists`], [`crate::Error::Create`], [`crate::Error::Start`]
    /// when the command does not exist; nothing remains.
    pub async fn create_container(&self, spec: ContainerSpec) -> Result<()> {
        let _ = spec;
        todo!()
    }

    /// Starts a created container's program.
    ///
    /// # Errors
    /// [`crate::Error::Start`] when the kernel refuses the program; the container is then exited with that code.
    pub async fn start(&self, container: &str) -> Result<()> {
        let _ = container;
        todo!()
    }

    /// What a container was made from.
    pub fn container_spec(&self, container: &str) -> Option<ContainerSpec> {
        let _ = container;
        todo!()
    }

    /// A container's state.
    pub fn container(&self, container: &str) -> Option<ContainerStatus> {
        let _ = container;
        todo!()
    }

    /// Waits until a container has exited.
    pub async fn wait(&self, container: &str) -> Result<ExitStatus> {
        let _ = container;
        todo!()
    }

    /// Sends a signal to the container's first process. `SIGKILL` kills every process of it. Nothing happens to an
    /// exited container.
    pub async fn signal(&self, container: &str, signal: i32) -> Result<()> {
        let _ = (container, signal);
        todo!()
    }

    /// Runs a process in a running container.
    ///
    /// # Errors
    /// [`crate::Error::State`]; [`crate::Error::Start`] with runc's text and code when the program cannot be started.
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec> {
        let _ = spec;
        todo!()
    }

    /// Runs a command to its end and collects its output.
    ///
    /// # Errors
    /// As [`Sandbox::exec`]; [`crate::Error::Timeout`], the process is then killed.
    pub async fn exec_sync(&self, container: &str, args: Vec<String>, timeout: Duration) -> Result<ExecOutput> {
        let _ = (container, args, timeout);
        todo!()
    }

    /// Connects to a container's standard streams; output before this moment is in the log. Output to a client that
    /// does not read is held back, as is the container with it. stdin is `None` unless the container has one.
    pub async fn attach(&self, container: &str) -> Result<Streams> {
        let _ = container;
        todo!()
    }

    /// Sets the size of a container's terminal; nothing without one.
    pub async fn resize_tty(&self, container: &str, size: TerminalSize) -> Result<()> {
        let _ = (container, size);
        todo!()
    }

    /// Closes a container's stdin.
    pub async fn close_stdin(&self, container: &str) -> Result<()> {
        let _ = container;
        todo!()
    }

    /// Opens the container's log file anew, after someone else moved it.
    pub async fn reopen_log(&self, container: &str) -> Result<()> {
        let _ = container;
        todo!()
    }

    /// Freezes all processes of a container.
    pub async fn pause(&self, container: &str) -> Result<()> {
        let _ = container;
        todo!()
    }

    /// Thaws it.
    pub async fn resume(&self, container: &str) -> Result<()> {
        let _ = container;
        todo!()
    }

    /// Changes a container's limits; `None` fields stay as they are.
    pub async fn update(&self, container: &str, resources: &Resources) -> Result<()> {
        let _ = (container, resources);
        todo!()
    }

    /// Reads a container's cgroup.
    pub async fn stats(&self, container: &str) -> Result<Stats> {
        let _ = container;
        todo!()
    }

    /// Reads the sandbox's cgroup: all its containers together.
    pub async fn sandbox_stats(&self) -> Result<Stats> {
        todo!()
    }

    /// Kills the container if it runs and removes what belongs to it (its log files stay).
    pub async fn remove_container(&self, container: &str) -> Result<()> {
        let _ = container;
        todo!()
    }

    /// Kills every container, ends the shim, removes cgroups, mounts and files (log files stay). Idempotent.
    pub async fn destroy(&self) -> Result<()> {
        todo!()
    }
}
