//! The engine as the agent's runtime and image store.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use engine::{
    ContainerSpec, Engine, Exec, ExecSpec, ExitStatus, Ids, Resources, Rootfs, Sandbox, SandboxSpec, SandboxStatus,
    TerminalSize, UserSpec,
    content::{Content, ContentError, Credentials, Image, PullOptions, Reference, Secret},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use crate::pods::storage::tree_size;

use super::{
    Credential, Detail, ImageError, ImageInfo, Images, Process, ProcessControl, Runtime, SubPath, Traffic, Usage,
    detail, image_volume, namespace, sub_path,
};

/// The engine.
#[derive(Clone)]
pub struct EngineRuntime {
    engine: Engine,
}

impl EngineRuntime {
    /// Around an open engine. What outlived the last agent must have been adopted ([`Engine::adopt`]).
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    fn sandbox(&self, id: &str) -> engine::Result<Sandbox> {
        self.engine.sandbox(id).ok_or_else(|| engine::Error::NotFound { kind: "sandbox", id: id.to_owned() })
    }

    /// The process whose mount namespace the sandbox's is.
    fn process_of(&self, id: &str) -> std::io::Result<i32> {
        let sandbox = self.sandbox(id).map_err(std::io::Error::other)?;
        sandbox.pid().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

#[async_trait]
impl Runtime for EngineRuntime {
    async fn create_sandbox(&self, spec: SandboxSpec) -> engine::Result<()> {
        self.engine.create_sandbox(spec).await.map(drop)
    }

    async fn destroy_sandbox(&self, sandbox: &str) -> engine::Result<()> {
        match self.engine.sandbox(sandbox) {
            Some(sandbox) => sandbox.destroy().await,
            None => Ok(()),
        }
    }

    async fn sandboxes(&self) -> engine::Result<Vec<SandboxStatus>> {
        Ok(self.engine.sandboxes().iter().map(Sandbox::status).collect())
    }

    async fn create(&self, sandbox: &str, spec: ContainerSpec) -> engine::Result<()> {
        self.sandbox(sandbox)?.create_container(spec).await
    }

    async fn start(&self, sandbox: &str, container: &str) -> engine::Result<()> {
        self.sandbox(sandbox)?.start(container).await
    }

    async fn ids(&self, sandbox: &str, container: &str, user: UserSpec) -> Option<Ids> {
        let status = self.sandbox(sandbox).ok()?.status();
        let pid = status.containers.iter().find(|found| found.id == container)?.pid?;
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        tokio::task::spawn_blocking(move || engine::find_user(&root, &user)).await.ok()?.ok()
    }

    async fn signal(&self, sandbox: &str, container: &str, signal: i32) -> engine::Result<()> {
        self.sandbox(sandbox)?.signal(container, signal).await
    }

    async fn wait(&self, sandbox: &str, container: &str) -> engine::Result<ExitStatus> {
        self.sandbox(sandbox)?.wait(container).await
    }

    async fn remove(&self, sandbox: &str, container: &str) -> engine::Result<()> {
        match self.engine.sandbox(sandbox) {
            Some(sandbox) => match sandbox.remove_container(container).await {
                Err(engine::Error::NotFound { .. }) => Ok(()),
                other => other,
            },
            None => Ok(()),
        }
    }

    async fn exec(&self, sandbox: &str, spec: ExecSpec) -> engine::Result<Process> {
        let mut exec = self.sandbox(sandbox)?.exec(spec).await?;
        let streams = std::mem::take(&mut exec.streams);
        Ok(process(streams, Box::new(ExecControl::new(exec))))
    }

    async fn attach(
        &self,
        sandbox: &str,
        container: &str,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> engine::Result<Process> {
        let sandbox = self.sandbox(sandbox)?;
        let mut streams = sandbox.attach(container, stdin).await?;
        // Others may go on to type, or the terminal is more than the typing.
        let leaves = |spec: ContainerSpec| !spec.stdin_once || spec.tty;
        let ends_with_stdin = streams.stdin.is_some() && sandbox.container_spec(container).is_some_and(leaves);
        if !stdout {
            streams.stdout = None;
        }
        if !stderr {
            streams.stderr = None;
        }
        let control = Box::new(AttachControl { sandbox, container: container.to_owned() });
        Ok(Process { ends_with_stdin, ..process(streams, control) })
    }

    async fn host_path(&self, sandbox: &str, path: &Path) -> PathBuf {
        self.engine.sandbox(sandbox).map_or_else(|| path.to_path_buf(), |s| s.path(path))
    }

    async fn stage_sub_path(&self, sandbox: &str, wanted: SubPath) -> std::io::Result<()> {
        sub_path::stage(self.process_of(sandbox)?, wanted).await
    }

    async fn unstage_sub_paths(&self, sandbox: &str, wanted: Vec<SubPath>) -> std::io::Result<()> {
        sub_path::unstage(self.process_of(sandbox)?, wanted).await
    }

    async fn stage_image(&self, sandbox: &str, layers: Vec<PathBuf>, target: PathBuf) -> std::io::Result<()> {
        image_volume::stage(self.process_of(sandbox)?, layers, target).await
    }

    async fn connect(&self, sandbox: &str, port: u16) -> std::io::Result<TcpStream> {
        let sandbox = self.sandbox(sandbox).map_err(std::io::Error::other)?;
        let namespace = match &sandbox.spec().network {
            engine::Namespace::Host => None,
            engine::Namespace::Path(path) => Some(path.clone()),
            engine::Namespace::New => sandbox.pid().map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))),
        };
        namespace::connect(namespace, port).await
    }

    async fn update(&self, sandbox: &str, container: &str, resources: Resources) -> engine::Result<()> {
        self.sandbox(sandbox)?.update(container, &resources).await
    }

    async fn limit(&self, sandbox: &str, resources: Resources) -> engine::Result<()> {
        self.sandbox(sandbox)?.limit(&resources).await
    }

    async fn usage(&self, sandbox: &str) -> engine::Result<Vec<Usage>> {
        let sandbox = self.sandbox(sandbox)?;
        let mut out = Vec::new();
        for container in sandbox.status().containers {
            if let Ok(stats) = sandbox.stats(&container.id).await {
                out.push(usage(container.id, &stats));
            }
        }
        Ok(out)
    }

    async fn usage_of_all(&self, sandbox: &str) -> Option<Usage> {
        let stats = self.sandbox(sandbox).ok()?.sandbox_stats().await.ok()?;
        Some(usage(String::new(), &stats))
    }

    async fn limit_all(&self, resources: Resources) -> engine::Result<()> {
        self.engine.limit(resources).await
    }

    async fn usage_of_node(&self) -> Option<Usage> {
        Some(usage(String::new(), &self.engine.stats().await.ok()?))
    }

    async fn detail(&self, sandbox: &str, container: &str) -> Option<Detail> {
        detail::of(&self.sandbox(sandbox).ok()?, container).await
    }

    async fn traffic(&self, sandbox: &str) -> Vec<Traffic> {
        let Ok(sandbox) = self.sandbox(sandbox) else { return Vec::new() };
        if sandbox.spec().network == engine::Namespace::Host {
            return Vec::new();
        }
        // The file shows the network of the process.
        let table = sandbox.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok());
        table.map(|table| traffic(&table)).unwrap_or_default()
    }
}

/// Reads `/proc/net/dev`, loopback left out: a name and a colon, eight numbers of what came in, eight of what went out.
pub(crate) fn traffic(table: &str) -> Vec<Traffic> {
    let lines = table.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        let [received, packets_in, receive_errors, receive_drops, _, _, _, _, out @ ..] = &numbers[..] else {
            return None;
        };
        let [sent, packets_out, send_errors, send_drops, ..] = out else { return None };
        Some(Traffic {
            interface: name.trim().to_owned(),
            received: *received,
            packets_in: *packets_in,
            receive_errors: *receive_errors,
            receive_drops: *receive_drops,
            sent: *sent,
            packets_out: *packets_out,
            send_errors: *send_errors,
            send_drops: *send_drops,
        })
    });
    lines.filter(|traffic| traffic.interface != "lo").collect()
}

fn usage(container: String, stats: &engine::cgroup::Stats) -> Usage {
    let engine::cgroup::Stats { cpu, memory, pids, .. } = *stats;
    Usage {
        container,
        cpu_nanoseconds: cpu.usage,
        memory: memory.usage,
        working_set: memory.working_set,
        rss: memory.rss,
        memory_limit: memory.limit,
        swap: memory.swap,
        page_faults: (memory.page_faults, memory.major_page_faults),
        cpu_periods: (cpu.periods, cpu.throttled_periods),
        pids,
    }
}

#[cfg(test)]
mod traffic_tests {
    #[test]
    fn the_kernels_table_is_read_but_for_loopback() {
        let table = "Inter-|   Receive                |  Transmit\n face |bytes    packets errs |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                     eth0: 4200 12 1 3 0 0 0 0 9001 30 2 4 0 0 0 0\n";
        let found = super::traffic(table);
        let [eth] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((eth.interface.as_str(), eth.received, eth.receive_errors), ("eth0", 4200, 1));
        assert_eq!((eth.sent, eth.send_errors), (9001, 2));
        assert_eq!((eth.packets_in, eth.receive_drops, eth.packets_out, eth.send_drops), (12, 3, 30, 4));
    }
}

fn process(streams: engine::Streams, control: Box<dyn ProcessControl>) -> Process {
    Process {
        stdin: streams.stdin.map(|s| Box::new(s) as Box<dyn AsyncWrite + Send + Unpin>),
        stdout: streams.stdout.map(|s| Box::new(s) as Box<dyn AsyncRead + Send + Unpin>),
        stderr: streams.stderr.map(|s| Box::new(s) as Box<dyn AsyncRead + Send + Unpin>),
        ends_with_stdin: false,
        control,
    }
}

/// An exec is waited for and resized at the same time: a task of its own holds it.
struct ExecControl {
    commands: mpsc::UnboundedSender<Command>,
    exit: tokio::sync::Mutex<Option<oneshot::Receiver<engine::Result<ExitStatus>>>>,
}

enum Command {
    Resize(TerminalSize),
    Kill,
}

impl ExecControl {
    fn new(mut exec: Exec) -> Self {
        let (commands, mut inbox) = mpsc::unbounded_channel();
        let (sender, exit) = oneshot::channel();
        tokio::spawn(async move {
            let result = loop {
                tokio::select! {
                    result = exec.wait() => break result,
                    command = inbox.recv() => match command {
                        Some(Command::Resize(size)) => exec.resize(size),
                        Some(Command::Kill) => drop(exec.signal(libc::SIGKILL).await),
                        None => break exec.wait().await,
                    },
                }
            };
            let _ = sender.send(result);
        });
        Self { commands, exit: tokio::sync::Mutex::new(Some(exit)) }
    }
}

#[async_trait]
impl ProcessControl for ExecControl {
    async fn wait(&self) -> engine::Result<ExitStatus> {
        let gone = || engine::Error::Shim("the process was waited for already".to_owned());
        let mut exit = self.exit.lock().await;
        // Taken only once it is there: a wait that is given up can be begun again.
        let result = exit.as_mut().ok_or_else(gone)?.await;
        *exit = None;
        result.unwrap_or_else(|_| Err(gone()))
    }

    async fn resize(&self, size: TerminalSize) -> engine::Result<()> {
        let _ = self.commands.send(Command::Resize(size));
        Ok(())
    }

    async fn kill(&self) {
        let _ = self.commands.send(Command::Kill);
    }
}

struct AttachControl {
    sandbox: Sandbox,
    container: String,
}

#[async_trait]
impl ProcessControl for AttachControl {
    async fn wait(&self) -> engine::Result<ExitStatus> {
        self.sandbox.wait(&self.container).await
    }

    async fn resize(&self, size: TerminalSize) -> engine::Result<()> {
        self.sandbox.resize_tty(&self.container, size).await
    }

    async fn kill(&self) {}
}

/// The engine's content as the agent's images.
#[derive(Clone)]
pub struct ContentImages {
    content: Content,
    options: PullOptions,
}

impl ContentImages {
    /// Around open content; `options` says how to speak to registries (its credentials are not used).
    pub fn new(content: Content, options: PullOptions) -> Self {
        Self { content, options }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Content) -> Result<T, ContentError> + Send + 'static,
    ) -> Result<T, ContentError> {
        let content = self.content.clone();
        tokio::task::spawn_blocking(move || work(content))
            .await
            .unwrap_or_else(|error| Err(ContentError::Interrupted(error.to_string())))
    }
}

#[async_trait]
impl Images for ContentImages {
    async fn find(&self, reference: &str) -> Result<Option<ImageInfo>, ImageError> {
        let name = reference.to_owned();
        match self.blocking(move |c| c.image(&name)).await {
            Ok(image) => Ok(Some(info(&image, reference))),
            Err(ContentError::NotFound(_)) => Ok(None),
            Err(error) => Err(image_error(reference, &error)),
        }
    }

    async fn pull(&self, reference: &str, credentials: &[Credential]) -> Result<ImageInfo, ImageError> {
        let registry = Reference::parse(reference).map_err(|e| image_error(reference, &e))?;
        let mut options = self.options.clone();
        options.credentials = credentials
            .iter()
            .filter(|c| serves(&c.registry, &registry))
            .map(|c| Credentials::Basic { username: c.username.clone(), password: Secret(c.password.clone()) })
            .collect();
        match self.content.pull(reference, &options).await {
            Ok(image) => Ok(info(&image, reference)),
            Err(error) => Err(image_error(reference, &error)),
        }
    }

    async fn prepare_root(&self, id: &str, image: &ImageInfo) -> Result<Rootfs, ImageError> {
        let (id, name) = (id.to_owned(), image.id.clone());
        let snapshot = self
            .blocking(move |c| {
                let image = c.image(&name)?;
                c.prepare_snapshot(&id, &image)
            })
            .await
            .map_err(|e| ImageError::Storage(e.to_string()))?;
        Ok(Rootfs::Overlay { lower: snapshot.lower, upper: snapshot.upper, work: snapshot.work, volatile: false })
    }

    async fn remove_root(&self, id: &str) -> Result<(), ImageError> {
        let id = id.to_owned();
        self.blocking(move |c| c.remove_snapshot(&id)).await.map_err(|e| ImageError::Storage(e.to_string()))
    }

    async fn prepare_volume(&self, id: &str, image: &ImageInfo) -> Result<Vec<PathBuf>, ImageError> {
        let (id, name) = (id.to_owned(), image.id.clone());
        let snapshot = self.blocking(move |c| match c.snapshot(&id) {
            Some(made) => Ok(made),
            None => c.prepare_snapshot(&id, &c.image(&name)?),
        });
        snapshot.await.map(|s| s.lower).map_err(|e| ImageError::Storage(e.to_string()))
    }

    async fn root_usage(&self, id: &str) -> (u64, u64) {
        let id = id.to_owned();
        let measured =
            self.blocking(move |c| Ok(c.snapshot(&id).map(|s| tree_size(&s.upper)).unwrap_or_default())).await;
        measured.unwrap_or_default()
    }

    async fn remove(&self, id: &str) -> Result<(), ImageError> {
        let id = id.to_owned();
        let removed = self.blocking(move |c| c.remove_image(&id, false)).await;
        removed.map(drop).map_err(|e| ImageError::Storage(e.to_string()))
    }

    fn directory(&self) -> Option<PathBuf> {
        Some(self.content.root().to_path_buf())
    }

    async fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        let images = self.blocking(|c| c.images()).await.map_err(|e| ImageError::Storage(e.to_string()))?;
        Ok(images.iter().map(|i| info(i, "")).collect())
    }
}

/// Whether credentials for `key` (a registry, perhaps with a path) are meant for `reference`.
fn serves(key: &str, reference: &Reference) -> bool {
    let key = key.strip_prefix("index.docker.io").map_or_else(|| key.to_owned(), |rest| format!("docker.io{rest}"));
    let name = reference.name();
    name == key || name.starts_with(&format!("{}/", key.trim_end_matches('/')))
}

fn info(image: &Image, asked: &str) -> ImageInfo {
    let process = &image.config.config;
    // The name that was asked for, if it is one of the image's; the kubelet shows the full one.
    let full = Reference::parse(asked).ok().map(|r| r.to_string());
    let display = full.filter(|f| image.tags.contains(f)).or_else(|| image.tags.first().cloned());
    ImageInfo {
        id: image.id.to_string(),
        names: image.digests.iter().chain(&image.tags).cloned().collect(),
        image_id: image.digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
        display: display.unwrap_or_default(),
        size: image.size,
        entrypoint: process.entrypoint.clone(),
        cmd: process.cmd.clone(),
        env: process.env.clone(),
        working_dir: process.working_dir.clone(),
        user: process.user.clone(),
        stop_signal: process.stop_signal.clone().unwrap_or_default(),
        volumes: process.volumes.keys().cloned().collect(),
    }
}

fn image_error(reference: &str, error: &ContentError) -> ImageError {
    match error {
        ContentError::InvalidReference(_) => {
            ImageError::InvalidName { reference: reference.to_owned(), message: "invalid reference format".to_owned() }
        }
        ContentError::Registry { .. } => ImageError::RegistryUnavailable(error.to_string()),
        ContentError::Io { .. } | ContentError::Interrupted(_) => ImageError::Storage(error.to_string()),
        _ => ImageError::Pull(error.to_string()),
    }
}
