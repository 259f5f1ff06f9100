//! One sandbox and its containers.

mod check;
mod life;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use self::check::{check, check_env};
use crate::cgroup::{DiskUse, Group, Stats};
use crate::client::{Client, Gone, Incoming};
use crate::directory::{Directory, load, save};
use crate::engine::{Shared, blocking, check_id};
use crate::event::EventKind;
use crate::exec::{Exec, ExecOutput, collect};
use crate::protected::Protected;
use crate::shim::protocol::{Answer, Failure, Message, Record, RequestBody, Setup, Stdio};
use crate::status::{ContainerState, SandboxState};
use crate::streams::{self, Input, Output};
use crate::{
    ContainerSpec, ContainerStatus, Error, ExecSpec, ExitStatus, Resources, Result, SandboxSpec, SandboxStatus,
    Streams, TerminalSize,
};

/// A handle on a sandbox. Cheap to clone; dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    directory: Directory,
    setup: Setup,
    state: Mutex<State>,
    /// Bumped at every change of `state`.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` once the shim is gone.
    client: Option<Client>,
    pid: Option<i32>,
    /// The shim, if this process started it and must reap it.
    child: Option<Child>,
    /// The shim was told to end.
    ending: bool,
    /// What a lost shim left is being cleared away, by the sandbox's name.
    settling: bool,
    containers: BTreeMap<String, Entry>,
    execs: HashMap<i32, oneshot::Sender<ExitStatus>>,
    /// Ends of execs whose start this side has not seen yet.
    early: HashMap<i32, ExitStatus>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    paused: bool,
}

impl Sandbox {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.0.setup.spec.id
    }

    /// What it was made from.
    pub fn spec(&self) -> &SandboxSpec {
        &self.0.setup.spec
    }

    /// State of the sandbox and of all its containers.
    pub fn status(&self) -> SandboxStatus {
        let state = self.0.state.lock();
        let mut containers: Vec<ContainerStatus> = state.containers.values().map(Entry::status).collect();
        containers.sort_by_key(|container| container.created_at);
        SandboxStatus {
            id: self.id().to_owned(),
            state: if state.client.is_some() { SandboxState::Ready } else { SandboxState::Dead },
            pid: state.pid,
            created_at: self.0.setup.created_at,
            containers,
        }
    }

    /// The shim's process id. `/proc/PID/ns/{net,ipc,uts}` are the sandbox's namespaces.
    pub fn pid(&self) -> Option<i32> {
        self.0.state.lock().pid
    }

    /// The host's way to a path inside the sandbox's mount namespace (for its [`SandboxSpec::tmpfs`]); the path itself
    /// when the sandbox is dead.
    pub fn path(&self, inside: &Path) -> PathBuf {
        match self.pid() {
            Some(pid) => Path::new(&format!("/proc/{pid}/root")).join(inside.strip_prefix("/").unwrap_or(inside)),
            None => inside.to_owned(),
        }
    }

    /// Makes a container: mounts, namespaces, cgroups, and a process that waits for [`Sandbox::start`].
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::AlreadyExists`], [`Error::Create`], [`Error::Start`] when the command does not
    /// exist; nothing remains.
    pub async fn create_container(&self, spec: ContainerSpec) -> Result<()> {
        check(&spec)?;
        let id = spec.id.clone();
        let home = self.0.directory.container(&id);
        let record = Record {
            id: id.clone(),
            state: ContainerState::Created,
            pid: None,
            created_at: SystemTime::now(),
            started_at: None,
            exit: None,
            log_dropped: 0,
        };
        {
            let mut state = self.0.state.lock();
            if state.containers.contains_key(&id) {
                return Err(Error::AlreadyExists { kind: "container", id });
            }
            if self.0.setup.spec.single && !state.containers.is_empty() {
                return Err(Error::Invalid { field: "id", reason: "the sandbox is for one container".to_owned() });
            }
            state.containers.insert(id.clone(), Entry { record, paused: false });
        }
        let made = fs::create_dir_all(&home.0).and_then(|()| save(&home.spec(), &spec));
        let stdio = Stdio { tty: spec.tty, stdin: spec.stdin, stdin_once: spec.stdin_once, log: spec.log };
        let request = RequestBody::Create { container: id.clone(), stdio, pid_of: spec.pid_of };
        let result = match made {
            Ok(()) => self.call(&id, "create", request, &[]).await,
            Err(error) => Err(Error::io("write", home.spec())(error)),
        };
        let mut state = self.0.state.lock();
        match result {
            Ok((Answer::Pid(pid), _)) => {
                if let Some(entry) = state.containers.get_mut(&id)
                    && entry.record.state == ContainerState::Created
                {
                    entry.record.pid = Some(pid);
                }
                Ok(())
            }
            result => {
                state.containers.remove(&id);
                drop(state);
                let _ = fs::remove_dir_all(&home.0);
                result.and_then(|_| Err(Error::Protocol("a container without a process".to_owned())))
            }
        }
    }

    /// Starts a created container's program.
    ///
    /// # Errors
    /// [`Error::Start`] when the kernel refuses the program; the container is then exited with that code.
    pub async fn start(&self, container: &str) -> Result<()> {
        self.call(container, "start", RequestBody::Start { container: container.to_owned() }, &[]).await.map(drop)
    }

    /// What a container was made from.
    pub fn container_spec(&self, container: &str) -> Option<ContainerSpec> {
        check_id("container", container).ok()?;
        load(&self.0.directory.container(container).spec()).ok()
    }

    /// A container's state.
    pub fn container(&self, container: &str) -> Option<ContainerStatus> {
        self.0.state.lock().containers.get(container).map(Entry::status)
    }

    /// Waits until a container has exited.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, or when it was removed meanwhile.
    pub async fn wait(&self, container: &str) -> Result<ExitStatus> {
        let mut changes = self.0.changed.subscribe();
        loop {
            let status = self.container(container).ok_or_else(|| not_found(container))?;
            if let Some(exit) = status.exit {
                return Ok(exit);
            }
            // The sender is in `self`, so this cannot fail.
            let _ = changes.changed().await;
        }
    }

    /// Sends a signal to the container's first process. `SIGKILL` kills every process of it. Nothing happens to an
    /// exited container.
    pub async fn signal(&self, container: &str, signal: i32) -> Result<()> {
        let request = RequestBody::Signal { container: container.to_owned(), signal };
        self.call(container, "signal", request, &[]).await.map(drop)
    }

    /// Runs a process in a running container.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::Start`] with runc's text and code when the program cannot be started.
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec> {
        if spec.args.first().is_none_or(String::is_empty) {
            return Err(Error::Invalid { field: "args", reason: "must name a program".to_owned() });
        }
        if spec.env.is_some() {
            check_env(spec.env.as_deref().unwrap_or_default())?;
        }
        let (container, tty, begun) = (spec.container.clone(), spec.tty, SystemTime::now());
        let mut local = Streams::default();
        let mut remote: Vec<OwnedFd> = Vec::new();
        if !tty {
            if spec.stdin {
                let (theirs, ours) = pipe()?;
                local.stdin = Some(Input::new(register(ours)?));
                remote.push(theirs);
            }
            for (wanted, slot) in [(spec.stdout, &mut local.stdout), (spec.stderr, &mut local.stderr)] {
                if wanted {
                    let (ours, theirs) = pipe()?;
                    *slot = Some(Output::new(register(ours)?));
                    remote.push(theirs);
                }
            }
        }
        let wants = (spec.stdin, spec.stdout);
        let fds: Vec<RawFd> = remote.iter().map(AsRawFd::as_raw_fd).collect();
        let (answer, received) =
            self.call(&container, "exec in it", RequestBody::Exec { spec: Box::new(spec) }, &fds).await?;
        drop(remote);
        let Answer::Pid(pid) = answer else { return Err(Error::Protocol("an exec without a process".to_owned())) };
        let mut terminal = None;
        if tty {
            let master = received.into_iter().next().ok_or_else(|| Error::Protocol("no terminal came".to_owned()))?;
            let master = register(master)?;
            local.stdin = wants.0.then(|| Input::new(master.clone()));
            local.stdout = wants.1.then(|| Output::new(master.clone()));
            terminal = Some(master);
        }
        let (sender, exit) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            // A process id comes back after a while: an end from before this call is another's.
            match state.early.remove(&pid).filter(|exit| exit.finished_at >= begun) {
                Some(exit) => drop(sender.send(exit)),
                None if state.client.is_some() => drop(state.execs.insert(pid, sender)),
                None => {}
            }
            state.early.retain(|_, exit| exit.finished_at >= begun - Duration::from_secs(60));
        }
        Ok(Exec::new(self.clone(), local, terminal, pid, exit))
    }

    /// Runs a command to its end and collects its output.
    ///
    /// # Errors
    /// As [`Sandbox::exec`]; [`Error::Timeout`], the process is then killed.
    pub async fn exec_sync(&self, container: &str, args: Vec<String>, timeout: Duration) -> Result<ExecOutput> {
        let deadline = tokio::time::Instant::now() + timeout;
        let spec =
            ExecSpec { container: container.to_owned(), args, stdout: true, stderr: true, ..ExecSpec::default() };
        let sandbox = self.clone();
        let mut starting = Box::pin(async move { sandbox.exec(spec).await });
        let Ok(started) = tokio::time::timeout_at(deadline, &mut starting).await else {
            // It may well start yet, and must not run on unseen.
            tokio::spawn(async move {
                if let Ok(exec) = starting.await {
                    let _ = exec.signal(libc::SIGKILL).await;
                }
            });
            return Err(Error::Timeout(timeout));
        };
        let exec = started?;
        collect(exec, deadline, timeout).await
    }

    /// Connects to a container's standard streams; output before this moment is in the log. Output to a client that
    /// does not read is held back, as is the container with it. stdin is `None` unless the container has one and the
    /// client has something to say (`stdin`): who only reads and leaves is no end of a container's stdin.
    pub async fn attach(&self, container: &str, stdin: bool) -> Result<Streams> {
        let spec = self.container_spec(container).ok_or_else(|| not_found(container))?;
        let mut local = Streams::default();
        let mut remote: Vec<OwnedFd> = Vec::new();
        if spec.stdin {
            let (theirs, ours) = pipe()?;
            local.stdin = Some(Input::new(register(ours)?));
            remote.push(theirs);
        }
        for (wanted, slot) in [(true, &mut local.stdout), (!spec.tty, &mut local.stderr)] {
            if wanted {
                let (ours, theirs) = pipe()?;
                *slot = Some(Output::new(register(ours)?));
                remote.push(theirs);
            }
        }
        let fds: Vec<RawFd> = remote.iter().map(AsRawFd::as_raw_fd).collect();
        let request = RequestBody::Attach { container: container.to_owned(), without_stdin: !stdin };
        self.call(container, "attach", request, &fds).await?;
        local.stdin = local.stdin.filter(|_| stdin);
        Ok(local)
    }

    /// Sets the size of a container's terminal; nothing without one.
    pub async fn resize_tty(&self, container: &str, size: TerminalSize) -> Result<()> {
        let request = RequestBody::Resize { container: container.to_owned(), size };
        self.call(container, "resize", request, &[]).await.map(drop)
    }

    /// Closes a container's stdin.
    pub async fn close_stdin(&self, container: &str) -> Result<()> {
        let request = RequestBody::CloseStdin { container: container.to_owned() };
        self.call(container, "close the stdin of", request, &[]).await.map(drop)
    }

    /// Opens the container's log file anew, after someone else moved it.
    pub async fn reopen_log(&self, container: &str) -> Result<()> {
        let request = RequestBody::ReopenLog { container: container.to_owned() };
        self.call(container, "reopen the log of", request, &[]).await.map(drop)
    }

    /// Freezes all processes of a container.
    pub async fn pause(&self, container: &str) -> Result<()> {
        self.freeze(container, true).await
    }

    /// Thaws it.
    pub async fn resume(&self, container: &str) -> Result<()> {
        self.freeze(container, false).await
    }

    async fn freeze(&self, container: &str, frozen: bool) -> Result<()> {
        let operation = if frozen { "pause" } else { "resume" };
        self.expect(container, operation, |state| matches!(state, ContainerState::Running | ContainerState::Paused))?;
        self.on_cgroup(container, move |group| group.freeze(frozen)).await?;
        if let Some(entry) = self.0.state.lock().containers.get_mut(container) {
            entry.paused = frozen;
        }
        self.change();
        Ok(())
    }

    /// Changes a container's limits; `None` fields stay as they are.
    pub async fn update(&self, container: &str, resources: &Resources) -> Result<()> {
        self.expect(container, "update", |state| state != ContainerState::Exited)?;
        let resources = resources.clone();
        self.on_cgroup(container, move |group| group.set(&resources)).await
    }

    /// Changes the limits of all containers together; `None` fields stay as they are.
    pub async fn limit(&self, resources: &Resources) -> Result<()> {
        let resources = resources.clone();
        self.on_cgroup("", move |group| group.set(&resources)).await
    }

    /// Reads a container's cgroup.
    pub async fn stats(&self, container: &str) -> Result<Stats> {
        self.expect(container, "measure", |_| true)?;
        self.on_cgroup(container, |group| group.stats()).await
    }

    /// Reads what a container has read from disks and written to them.
    pub async fn disk_use(&self, container: &str) -> Result<Vec<DiskUse>> {
        self.expect(container, "measure", |_| true)?;
        self.on_cgroup(container, |group| Ok(group.disk_use())).await
    }

    /// The processes of a container, by the numbers they have on the host.
    pub async fn processes(&self, container: &str) -> Result<Vec<i32>> {
        self.expect(container, "measure", |_| true)?;
        self.on_cgroup(container, |group| Ok(group.processes())).await
    }

    /// Reads the sandbox's cgroup: all its containers together.
    pub async fn sandbox_stats(&self) -> Result<Stats> {
        self.on_cgroup("", |group| group.stats()).await
    }

    /// Kills the container if it runs and removes what belongs to it (its log files stay).
    pub async fn remove_container(&self, container: &str) -> Result<()> {
        let alive = self.0.state.lock().client.is_some();
        if alive {
            self.call(container, "remove", RequestBody::Remove { container: container.to_owned() }, &[]).await?;
        } else {
            self.expect(container, "remove", |_| true)?;
            let path = self.0.directory.container(container).0;
            blocking(move || fs::remove_dir_all(&path).map_err(Error::io("remove", &path))).await?;
        }
        self.0.state.lock().containers.remove(container);
        self.change();
        Ok(())
    }

    /// Kills every container, ends the shim, removes cgroups, mounts and files (log files stay). Idempotent.
    ///
    /// # Errors
    /// [`Error::Io`] when something cannot be removed; calling again tries again.
    pub async fn destroy(&self) -> Result<()> {
        let client = {
            let mut state = self.0.state.lock();
            state.ending = true;
            state.client.clone()
        };
        if let Some(client) = client {
            // A shim that is gone has nothing to shut down; what it left is removed below all the same.
            let _ = client.call(RequestBody::Shutdown, &[]).await;
        }
        let mut changes = self.0.changed.subscribe();
        let busy = |state: &State| state.client.is_some() || state.settling;
        while busy(&self.0.state.lock()) {
            let _ = changes.changed().await;
        }
        self.reap().await;
        let inner = self.0.clone();
        blocking(move || {
            let Inner { shared, directory, setup, .. } = &*inner;
            let cgroup = Path::new(&setup.cgroup);
            shared.cgroups.group(cgroup).kill();
            shared.cgroups.purge(cgroup, Duration::from_secs(5)).map_err(Error::io("remove cgroup", cgroup))?;
            let _ = fs::remove_dir_all(directory.mapped());
            match fs::remove_dir_all(&directory.0) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io("remove", &directory.0)(error))
                }
                _ => Ok(()),
            }
        })
        .await?;
        self.0.shared.forget(self.id());
        Ok(())
    }

    pub(crate) async fn signal_exec(&self, pid: i32, signal: i32) -> Result<()> {
        match self.call("", "signal", RequestBody::SignalExec { pid, signal }, &[]).await {
            // It has ended.
            Err(Error::NotFound { .. }) => Ok(()),
            result => result.map(drop),
        }
    }

    fn group(&self, container: &str) -> Box<dyn Group> {
        self.0.shared.cgroups.group(self.0.setup.cgroup_of(container))
    }

    async fn on_cgroup<T: Send + 'static>(
        &self,
        container: &str,
        work: impl FnOnce(&dyn Group) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let group = self.group(container);
        let path = self.0.setup.cgroup_of(container);
        blocking(move || work(group.as_ref()).map_err(Error::io("cgroup", path))).await
    }

    fn expect(
        &self,
        container: &str,
        operation: &'static str,
        allowed: impl FnOnce(ContainerState) -> bool,
    ) -> Result<()> {
        let state = self.container(container).ok_or_else(|| not_found(container))?.state;
        if allowed(state) { Ok(()) } else { Err(wrong_state(container, state, operation)) }
    }

    async fn call(
        &self,
        container: &str,
        operation: &'static str,
        request: RequestBody,
        fds: &[RawFd],
    ) -> Result<(Answer, Vec<OwnedFd>)> {
        let gone = || Error::ShimGone(self.id().to_owned());
        let client = self.0.state.lock().client.clone().ok_or_else(gone)?;
        let (result, fds) = client.call(request, fds).await.map_err(|Gone| gone())?;
        let answer = result.map_err(|failure| match failure {
            Failure::Create(message) => Error::Create(message),
            Failure::Start { message, exit_code } => Error::Start { message, exit_code },
            Failure::NotFound => not_found(container),
            Failure::State(state) => wrong_state(container, state, operation),
            Failure::Other(message) => Error::Shim(message),
        })?;
        Ok((answer, fds))
    }
}

impl Entry {
    fn status(&self) -> ContainerStatus {
        let record = &self.record;
        let paused = self.paused && record.state == ContainerState::Running;
        ContainerStatus {
            id: record.id.clone(),
            state: if paused { ContainerState::Paused } else { record.state },
            pid: record.pid,
            created_at: record.created_at,
            started_at: record.started_at,
            exit: record.exit,
            log_dropped: record.log_dropped,
        }
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound { kind: "container", id: id.to_owned() }
}

fn wrong_state(id: &str, state: ContainerState, operation: &'static str) -> Error {
    Error::State { id: id.to_owned(), state: format!("{state:?}").to_lowercase(), operation }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::io("make", "pipe")(errno.into()))
}

fn register(fd: OwnedFd) -> Result<Arc<tokio::io::unix::AsyncFd<OwnedFd>>> {
    streams::register(fd).map_err(Error::io("register", "pipe"))
}

/// Sets the size of the terminal behind an exec.
pub(crate) fn resize(terminal: &OwnedFd, size: TerminalSize) {
    crate::shim::set_size(terminal.as_fd(), size);
}
