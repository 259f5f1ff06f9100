//! A runtime, images and a network that only remember what was asked of them. A container "runs" until a test ends it
//! or until it is signalled.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use agent::{
    net::{AttachRequest, Attachment, NetworkError, PodNetwork},
    runtime::{Credential, ImageError, ImageInfo, Images, Process, ProcessControl, Runtime, SubPath, Usage},
};
use async_trait::async_trait;
use engine::{
    ContainerSpec, ContainerState, ContainerStatus, ExecSpec, ExitStatus, Rootfs, SandboxSpec, SandboxState,
    SandboxStatus, TerminalSize,
};
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::watch};

/// Everything in one. Cheap to clone.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, (SandboxSpec, BTreeMap<String, Container>)>,
    images: BTreeMap<String, ImageInfo>,
    pullable: BTreeMap<String, ImageInfo>,
    attached: BTreeMap<String, Ipv4Addr>,
    next_address: u8,
    /// What was done, in words.
    journal: Vec<String>,
    exec_exit: i32,
    ignores_term: bool,
}

struct Container {
    spec: ContainerSpec,
    started_at: Option<SystemTime>,
    exit: watch::Sender<Option<ExitStatus>>,
}

impl Fake {
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::channel(0).0 }
    }

    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.state.lock());
        self.changed.send_modify(|n| *n += 1);
        result
    }

    pub fn add_image(&self, name: &str) {
        self.change(|s| s.images.insert(name.to_owned(), image(name)));
    }

    pub fn allow_pull(&self, name: &str) {
        self.change(|s| s.pullable.insert(name.to_owned(), image(name)));
    }

    pub fn exec_exits_with(&self, code: i32) {
        self.change(|s| s.exec_exit = code);
    }

    pub fn ignore_term(&self) {
        self.change(|s| s.ignores_term = true);
    }

    pub fn journal(&self) -> Vec<String> {
        self.state.lock().journal.clone()
    }

    pub fn attached(&self) -> usize {
        self.state.lock().attached.len()
    }

    pub fn sandbox_count(&self) -> usize {
        self.state.lock().sandboxes.len()
    }

    pub fn sandbox(&self, sandbox: &str) -> Option<SandboxSpec> {
        self.state.lock().sandboxes.get(sandbox).map(|(spec, _)| spec.clone())
    }

    pub fn spec(&self, sandbox: &str, container: &str) -> Option<ContainerSpec> {
        self.state.lock().sandboxes.get(sandbox)?.1.get(container).map(|c| c.spec.clone())
    }

    /// Ends a container by itself.
    pub fn exit(&self, sandbox: &str, container: &str, code: i32) {
        self.end(sandbox, container, code, None, false);
    }

    pub fn oom(&self, sandbox: &str, container: &str) {
        self.end(sandbox, container, 137, Some(9), true);
    }

    fn end(&self, sandbox: &str, container: &str, code: i32, signal: Option<i32>, oom_killed: bool) {
        self.change(|s| {
            let container = s.sandboxes.get(sandbox).and_then(|(_, c)| c.get(container));
            if let Some(container) = container.filter(|c| c.exit.borrow().is_none()) {
                let now = SystemTime::now();
                let started_at = container.started_at.unwrap_or(now);
                container.exit.send_replace(Some(ExitStatus {
                    exit_code: code,
                    signal,
                    oom_killed,
                    started_at,
                    finished_at: now,
                    known: true,
                }));
            }
        });
    }

    /// As at a power loss.
    pub fn lose_everything(&self) {
        self.change(|s| {
            s.sandboxes.clear();
            s.attached.clear();
        });
    }

    /// Waits until the check holds.
    pub async fn until(&self, what: &str, check: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !check(self) {
                changed.changed().await.expect("the fake lives");
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.is_err() {
            panic!("{what}: {:#?}", self.journal());
        }
    }
}

fn image(name: &str) -> ImageInfo {
    ImageInfo {
        id: format!("sha256:{name}"),
        names: vec![name.to_owned()],
        image_id: format!("{name}@sha256:0"),
        display: format!("docker.io/library/{name}"),
        size: 1234,
        cmd: vec!["/run".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        ..ImageInfo::default()
    }
}

fn missing(id: &str) -> engine::Error {
    engine::Error::NotFound { kind: "container", id: id.to_owned() }
}

#[async_trait]
impl Runtime for Fake {
    async fn create_sandbox(&self, spec: SandboxSpec) -> engine::Result<()> {
        self.change(|s| {
            s.journal.push(format!("sandbox {}", spec.id));
            s.sandboxes.insert(spec.id.clone(), (spec, BTreeMap::new()));
        });
        Ok(())
    }

    async fn destroy_sandbox(&self, sandbox: &str) -> engine::Result<()> {
        let containers: Vec<String> =
            self.state.lock().sandboxes.get(sandbox).map(|(_, c)| c.keys().cloned().collect()).unwrap_or_default();
        for container in containers {
            self.end(sandbox, &container, 137, Some(9), false);
        }
        self.change(|s| {
            s.journal.push(format!("destroy {sandbox}"));
            s.sandboxes.remove(sandbox);
        });
        Ok(())
    }

    async fn sandboxes(&self) -> engine::Result<Vec<SandboxStatus>> {
        let state = self.state.lock();
        Ok(state
            .sandboxes
            .iter()
            .map(|(id, (_, containers))| SandboxStatus {
                id: id.clone(),
                state: SandboxState::Ready,
                pid: Some(1),
                created_at: SystemTime::UNIX_EPOCH,
                containers: containers
                    .iter()
                    .map(|(id, c)| ContainerStatus {
                        id: id.clone(),
                        state: match (*c.exit.borrow(), c.started_at) {
                            (Some(_), _) => ContainerState::Exited,
                            (None, Some(_)) => ContainerState::Running,
                            (None, None) => ContainerState::Created,
                        },
                        pid: Some(2),
                        created_at: SystemTime::UNIX_EPOCH,
                        started_at: c.started_at,
                        exit: *c.exit.borrow(),
                        log_dropped: 0,
                    })
                    .collect(),
            })
            .collect())
    }

    async fn create(&self, sandbox: &str, spec: ContainerSpec) -> engine::Result<()> {
        self.change(|s| {
            s.journal.push(format!("create {}", spec.id));
            if spec.args.first().is_some_and(|a| a == "/missing") {
                return Err(engine::Error::Start {
                    message: "exec: \"/missing\": no such file".to_owned(),
                    exit_code: 127,
                });
            }
            let containers = &mut s.sandboxes.get_mut(sandbox).ok_or_else(|| missing(sandbox))?.1;
            let container = Container { spec, started_at: None, exit: watch::channel(None).0 };
            containers.insert(container.spec.id.clone(), container);
            Ok(())
        })
    }

    async fn start(&self, sandbox: &str, container: &str) -> engine::Result<()> {
        self.change(|s| {
            s.journal.push(format!("start {container}"));
            let found = s.sandboxes.get_mut(sandbox).and_then(|(_, c)| c.get_mut(container));
            found.ok_or_else(|| missing(container))?.started_at = Some(SystemTime::now());
            Ok(())
        })
    }

    async fn signal(&self, sandbox: &str, container: &str, signal: i32) -> engine::Result<()> {
        let ignored = self.change(|s| {
            s.journal.push(format!("signal {container} {signal}"));
            s.ignores_term && signal != 9
        });
        if !ignored {
            let code = if signal == 15 { 0 } else { 128 + signal };
            self.end(sandbox, container, code, (signal != 15).then_some(signal), false);
        }
        Ok(())
    }

    async fn wait(&self, sandbox: &str, container: &str) -> engine::Result<ExitStatus> {
        let mut exit = {
            let state = self.state.lock();
            let found =
                state.sandboxes.get(sandbox).and_then(|(_, c)| c.get(container)).ok_or_else(|| missing(container))?;
            found.exit.subscribe()
        };
        let status = exit.wait_for(Option::is_some).await.map_err(|_| missing(container))?;
        Ok(status.expect("it was waited for"))
    }

    async fn remove(&self, sandbox: &str, container: &str) -> engine::Result<()> {
        self.change(|s| {
            s.journal.push(format!("remove {container}"));
            if let Some((_, containers)) = s.sandboxes.get_mut(sandbox) {
                containers.remove(container);
            }
        });
        Ok(())
    }

    async fn exec(&self, _sandbox: &str, spec: ExecSpec) -> engine::Result<Process> {
        let exit_code = self.change(|s| {
            s.journal.push(format!("exec {} {}", spec.container, spec.args.join(" ")));
            s.exec_exit
        });
        if spec.args.first().is_some_and(|a| a == "/missing") {
            return Err(engine::Error::Start {
                message: "exec: \"/missing\": no such file".to_owned(),
                exit_code: 127,
            });
        }
        // The process writes its arguments to stdout, "err" to stderr, and copies stdin to stdout until its end.
        let (mut out, stdout) = tokio::io::duplex(1024);
        let (mut err, stderr) = tokio::io::duplex(1024);
        let (stdin, mut input) = tokio::io::duplex(1024);
        let (done, exit) = watch::channel(None);
        let with_stdin = spec.stdin;
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = out.write_all(spec.args.join(" ").as_bytes()).await;
            let _ = err.write_all(b"err").await;
            if with_stdin {
                let _ = tokio::io::copy(&mut input, &mut out).await;
            }
            let now = SystemTime::now();
            done.send_replace(Some(ExitStatus {
                exit_code,
                signal: None,
                oom_killed: false,
                started_at: now,
                finished_at: now,
                known: true,
            }));
        });
        Ok(Process {
            stdin: with_stdin.then(|| Box::new(stdin) as _),
            stdout: spec.stdout.then(|| Box::new(stdout) as _),
            stderr: spec.stderr.then(|| Box::new(stderr) as _),
            ends_with_stdin: false,
            control: Box::new(Control { fake: self.clone(), exit }),
        })
    }

    async fn attach(
        &self,
        sandbox: &str,
        container: &str,
        _stdin: bool,
        _stdout: bool,
        _stderr: bool,
    ) -> engine::Result<Process> {
        let _ = sandbox;
        Err(missing(container))
    }

    async fn stage_sub_path(&self, _sandbox: &str, _sub_path: SubPath) -> std::io::Result<()> {
        Ok(())
    }

    async fn unstage_sub_paths(&self, _sandbox: &str, _sub_paths: Vec<SubPath>) -> std::io::Result<()> {
        Ok(())
    }

    async fn host_path(&self, _sandbox: &str, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    async fn stage_image(&self, sandbox: &str, layers: Vec<PathBuf>, target: PathBuf) -> std::io::Result<()> {
        let volume = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.change(|s| s.journal.push(format!("show {} at {volume} of {sandbox}", layers[0].display())));
        Ok(())
    }

    async fn connect(&self, _sandbox: &str, port: u16) -> std::io::Result<TcpStream> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
    }

    async fn update(&self, sandbox: &str, container: &str, resources: engine::Resources) -> engine::Result<()> {
        self.change(|s| {
            s.journal.push(format!("update {container}"));
            let found = s.sandboxes.get_mut(sandbox).and_then(|(_, c)| c.get_mut(container));
            found.ok_or_else(|| missing(container))?.spec.resources = resources;
            Ok(())
        })
    }

    async fn limit_all(&self, resources: engine::Resources) -> engine::Result<()> {
        let limit = resources.memory_limit.unwrap_or_default();
        self.change(|s| s.journal.push(format!("limit all {limit}")));
        Ok(())
    }

    async fn limit(&self, sandbox: &str, resources: engine::Resources) -> engine::Result<()> {
        self.change(|s| {
            s.journal.push("limit".to_owned());
            s.sandboxes.get_mut(sandbox).ok_or_else(|| missing(sandbox))?.0.resources = resources;
            Ok(())
        })
    }

    async fn usage(&self, sandbox: &str) -> engine::Result<Vec<Usage>> {
        let state = self.state.lock();
        let containers = state.sandboxes.get(sandbox).map(|(_, c)| c.keys().cloned().collect()).unwrap_or_default();
        let usage = |container| Usage { container, working_set: 10 << 20, pids: 1, ..Usage::default() };
        let containers: Vec<String> = containers;
        Ok(containers.into_iter().map(usage).collect())
    }
}

struct Control {
    fake: Fake,
    exit: watch::Receiver<Option<ExitStatus>>,
}

#[async_trait]
impl ProcessControl for Control {
    async fn wait(&self) -> engine::Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await.map_err(|_| missing("exec"))?;
        Ok(status.expect("it was waited for"))
    }

    async fn resize(&self, size: TerminalSize) -> engine::Result<()> {
        self.fake.change(|s| s.journal.push(format!("resize {}x{}", size.width, size.height)));
        Ok(())
    }

    async fn kill(&self) {}
}

#[async_trait]
impl Images for Fake {
    async fn find(&self, reference: &str) -> Result<Option<ImageInfo>, ImageError> {
        if reference.contains(' ') {
            return Err(ImageError::InvalidName {
                reference: reference.to_owned(),
                message: "invalid reference format".to_owned(),
            });
        }
        Ok(self.state.lock().images.get(reference).cloned())
    }

    async fn pull(&self, reference: &str, _credentials: &[Credential]) -> Result<ImageInfo, ImageError> {
        self.change(|s| {
            s.journal.push(format!("pull {reference}"));
            let found = s
                .pullable
                .get(reference)
                .cloned()
                .ok_or_else(|| ImageError::Pull(format!("{reference}: not found")))?;
            s.images.insert(reference.to_owned(), found.clone());
            Ok(found)
        })
    }

    async fn prepare_root(&self, id: &str, _image: &ImageInfo) -> Result<Rootfs, ImageError> {
        Ok(Rootfs::Path(PathBuf::from("/roots").join(id)))
    }

    async fn remove_root(&self, _id: &str) -> Result<(), ImageError> {
        Ok(())
    }

    async fn root_usage(&self, _id: &str) -> (u64, u64) {
        (0, 0)
    }

    async fn remove(&self, id: &str) -> Result<(), ImageError> {
        self.change(|s| {
            s.journal.push(format!("remove image {id}"));
            s.images.retain(|_, image| image.id != id);
        });
        Ok(())
    }

    fn directory(&self) -> Option<PathBuf> {
        None
    }

    async fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        Ok(self.state.lock().images.values().cloned().collect())
    }
}

#[async_trait]
impl PodNetwork for Fake {
    async fn attach(&self, request: AttachRequest) -> Result<Attachment, NetworkError> {
        let address = self.change(|s| {
            s.next_address += 1;
            let next = Ipv4Addr::new(10, 42, 0, s.next_address);
            *s.attached.entry(request.pod_uid.clone()).or_insert(next)
        });
        Ok(Attachment {
            namespace: PathBuf::from("/netns").join(request.pod_uid),
            addresses: vec![IpAddr::V4(address)],
        })
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        self.change(|s| s.attached.remove(pod_uid));
        Ok(())
    }

    async fn keep_only(&self, live: Vec<String>) -> Result<(), NetworkError> {
        self.change(|s| s.attached.retain(|uid, _| live.contains(uid)));
        Ok(())
    }
}
