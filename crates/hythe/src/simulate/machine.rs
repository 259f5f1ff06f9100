//! A machine that only remembers: sandboxes and containers are entries in a table, every image is there, addresses are
//! counted up, rules and names lead nowhere. What is started runs until it is signalled.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Mutex,
    time::SystemTime,
};

use agent::{
    net::{AttachRequest, Attachment, NetworkError, PodNetwork},
    runtime::{Credential, ImageError, ImageInfo, Images, Process, ProcessControl, Runtime, SubPath, Usage},
    services::ServiceSink,
};
use async_trait::async_trait;
use engine::{
    ContainerSpec, ContainerState, ContainerStatus, Error, ExecSpec, ExitStatus, Rootfs, SandboxSpec, SandboxState,
    SandboxStatus, TerminalSize,
};
use network::{
    dns::{EndpointRecord, ServiceRecord},
    service::{ServiceId, ServiceRules},
};
use tokio::{net::TcpStream, sync::watch};

/// One node's.
pub struct Machine {
    /// First address of its pods.
    base: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    addresses: BTreeMap<String, u32>,
}

struct Sandbox {
    created_at: SystemTime,
    containers: BTreeMap<String, Container>,
}

struct Container {
    created_at: SystemTime,
    started_at: Option<SystemTime>,
    exit: watch::Sender<Option<ExitStatus>>,
}

impl Machine {
    /// The `index`th of a cluster has 256 addresses of the shared address space (RFC 6598), which nobody routes.
    pub fn new(index: u16) -> Self {
        let base = u32::from(Ipv4Addr::new(100, 64, 0, 0)) + u32::from(index) * 256;
        Self { base, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here panics while it is held, and a table is whole between any two statements.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn end(&self, sandbox: &str, container: &str, signal: i32) {
        let state = self.state();
        let found = state.sandboxes.get(sandbox).and_then(|sandbox| sandbox.containers.get(container));
        if let Some(container) = found {
            container.end(signal);
        }
    }
}

impl Container {
    /// Ends as a program that takes SIGTERM as its cue to finish, and dies of others.
    fn end(&self, signal: i32) {
        let now = SystemTime::now();
        let graceful = signal == libc::SIGTERM;
        let started_at = self.started_at.unwrap_or(now);
        self.exit.send_if_modified(|exit| {
            let news = exit.is_none();
            exit.get_or_insert(ExitStatus {
                exit_code: if graceful { 0 } else { 128 + signal },
                signal: (!graceful).then_some(signal),
                oom_killed: false,
                started_at,
                finished_at: now,
                known: true,
            });
            news
        });
    }

    fn status(&self, id: &str) -> ContainerStatus {
        let exit = *self.exit.borrow();
        let state = match (exit, self.started_at) {
            (Some(_), _) => ContainerState::Exited,
            (None, Some(_)) => ContainerState::Running,
            (None, None) => ContainerState::Created,
        };
        ContainerStatus {
            id: id.to_owned(),
            state,
            pid: None,
            created_at: self.created_at,
            started_at: self.started_at,
            exit,
            log_dropped: 0,
        }
    }
}

fn missing(kind: &'static str, id: &str) -> Error {
    Error::NotFound { kind, id: id.to_owned() }
}

#[async_trait]
impl Runtime for Machine {
    async fn create_sandbox(&self, spec: SandboxSpec) -> engine::Result<()> {
        let sandbox = Sandbox { created_at: SystemTime::now(), containers: BTreeMap::new() };
        self.state().sandboxes.insert(spec.id, sandbox);
        Ok(())
    }

    async fn destroy_sandbox(&self, sandbox: &str) -> engine::Result<()> {
        let removed = self.state().sandboxes.remove(sandbox);
        for container in removed.iter().flat_map(|sandbox| sandbox.containers.values()) {
            container.end(libc::SIGKILL);
        }
        Ok(())
    }

    async fn sandboxes(&self) -> engine::Result<Vec<SandboxStatus>> {
        let status = |(id, sandbox): (&String, &Sandbox)| SandboxStatus {
            id: id.clone(),
            state: SandboxState::Ready,
            pid: None,
            created_at: sandbox.created_at,
            containers: sandbox.containers.iter().map(|(id, container)| container.status(id)).collect(),
        };
        Ok(self.state().sandboxes.iter().map(status).collect())
    }

    async fn create(&self, sandbox: &str, spec: ContainerSpec) -> engine::Result<()> {
        let mut state = self.state();
        let found = state.sandboxes.get_mut(sandbox).ok_or_else(|| missing("sandbox", sandbox))?;
        let container = Container { created_at: SystemTime::now(), started_at: None, exit: watch::Sender::new(None) };
        found.containers.insert(spec.id, container);
        Ok(())
    }

    async fn start(&self, sandbox: &str, container: &str) -> engine::Result<()> {
        let mut state = self.state();
        let found = state.sandboxes.get_mut(sandbox).and_then(|sandbox| sandbox.containers.get_mut(container));
        found.ok_or_else(|| missing("container", container))?.started_at = Some(SystemTime::now());
        Ok(())
    }

    async fn signal(&self, sandbox: &str, container: &str, signal: i32) -> engine::Result<()> {
        self.end(sandbox, container, signal);
        Ok(())
    }

    async fn wait(&self, sandbox: &str, container: &str) -> engine::Result<ExitStatus> {
        let exit = {
            let state = self.state();
            let found = state.sandboxes.get(sandbox).and_then(|sandbox| sandbox.containers.get(container));
            found.map(|container| container.exit.subscribe())
        };
        let mut exit = exit.ok_or_else(|| missing("container", container))?;
        let exit = exit.wait_for(Option::is_some).await.map_err(|_| missing("container", container))?;
        exit.ok_or_else(|| missing("container", container))
    }

    async fn remove(&self, sandbox: &str, container: &str) -> engine::Result<()> {
        if let Some(sandbox) = self.state().sandboxes.get_mut(sandbox) {
            sandbox.containers.remove(container);
        }
        Ok(())
    }

    /// Every command succeeds and says nothing.
    async fn exec(&self, _sandbox: &str, spec: ExecSpec) -> engine::Result<Process> {
        Ok(Process {
            stdin: spec.stdin.then(|| Box::new(tokio::io::sink()) as _),
            stdout: spec.stdout.then(|| Box::new(tokio::io::empty()) as _),
            stderr: spec.stderr.then(|| Box::new(tokio::io::empty()) as _),
            ends_with_stdin: false,
            control: Box::new(Done(SystemTime::now())),
        })
    }

    async fn attach(&self, _: &str, container: &str, _: bool, _: bool, _: bool) -> engine::Result<Process> {
        Err(missing("container", container))
    }

    async fn host_path(&self, _sandbox: &str, path: &Path) -> PathBuf {
        path.to_owned()
    }

    async fn stage_sub_path(&self, _sandbox: &str, _sub_path: SubPath) -> io::Result<()> {
        Ok(())
    }

    async fn unstage_sub_paths(&self, _sandbox: &str, _sub_paths: Vec<SubPath>) -> io::Result<()> {
        Ok(())
    }

    async fn connect(&self, _sandbox: &str, _port: u16) -> io::Result<TcpStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    async fn update(&self, _sandbox: &str, _container: &str, _resources: engine::Resources) -> engine::Result<()> {
        Ok(())
    }

    async fn limit_all(&self, _resources: engine::Resources) -> engine::Result<()> {
        Ok(())
    }

    async fn limit(&self, _sandbox: &str, _resources: engine::Resources) -> engine::Result<()> {
        Ok(())
    }

    async fn usage(&self, sandbox: &str) -> engine::Result<Vec<Usage>> {
        let state = self.state();
        let containers = state.sandboxes.get(sandbox).into_iter().flat_map(|sandbox| sandbox.containers.keys());
        Ok(containers.map(|id| Usage { container: id.clone(), ..Usage::default() }).collect())
    }
}

/// A command that ended as it began.
struct Done(SystemTime);

#[async_trait]
impl ProcessControl for Done {
    async fn wait(&self) -> engine::Result<ExitStatus> {
        let (started_at, finished_at) = (self.0, self.0);
        Ok(ExitStatus { exit_code: 0, signal: None, oom_killed: false, started_at, finished_at, known: true })
    }

    async fn resize(&self, _size: TerminalSize) -> engine::Result<()> {
        Ok(())
    }

    async fn kill(&self) {}
}

#[async_trait]
impl Images for Machine {
    async fn find(&self, reference: &str) -> Result<Option<ImageInfo>, ImageError> {
        Ok(Some(ImageInfo {
            id: format!("sha256:{reference}"),
            names: vec![reference.to_owned()],
            image_id: format!("{reference}@sha256:0"),
            display: reference.to_owned(),
            cmd: vec!["/simulated".to_owned()],
            ..ImageInfo::default()
        }))
    }

    async fn pull(&self, reference: &str, _credentials: &[Credential]) -> Result<ImageInfo, ImageError> {
        self.find(reference).await?.ok_or_else(|| ImageError::Pull(reference.to_owned()))
    }

    async fn prepare_root(&self, id: &str, _image: &ImageInfo) -> Result<Rootfs, ImageError> {
        Ok(Rootfs::Path(PathBuf::from("/").join(id)))
    }

    async fn remove_root(&self, _id: &str) -> Result<(), ImageError> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        Ok(Vec::new())
    }

    async fn root_usage(&self, _id: &str) -> (u64, u64) {
        (0, 0)
    }

    async fn remove(&self, _image: &str) -> Result<(), ImageError> {
        Ok(())
    }

    /// Nothing is stored, so no disk can be full of it.
    fn directory(&self) -> Option<PathBuf> {
        None
    }
}

#[async_trait]
impl PodNetwork for Machine {
    async fn attach(&self, request: AttachRequest) -> Result<Attachment, NetworkError> {
        let mut state = self.state();
        let address = match state.addresses.get(&request.pod_uid) {
            Some(address) => *address,
            None => {
                let taken: HashSet<u32> = state.addresses.values().copied().collect();
                let free = (1..=254).find(|offset| !taken.contains(offset));
                let free = free.ok_or_else(|| NetworkError("no address is free".to_owned()))?;
                state.addresses.insert(request.pod_uid.clone(), free);
                free
            }
        };
        Ok(Attachment {
            namespace: PathBuf::from("/simulated").join(request.pod_uid),
            addresses: vec![IpAddr::V4(Ipv4Addr::from(self.base + address))],
        })
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        self.state().addresses.remove(pod_uid);
        Ok(())
    }

    async fn keep_only(&self, live: Vec<String>) -> Result<(), NetworkError> {
        self.state().addresses.retain(|uid, _| live.contains(uid));
        Ok(())
    }
}

impl ServiceSink for Machine {
    fn replace_all(&self, _all: Vec<(ServiceId, ServiceRules)>) -> Result<(), String> {
        Ok(())
    }

    fn apply(&self, _id: &ServiceId, _rules: Option<ServiceRules>) -> Result<(), String> {
        Ok(())
    }

    fn set_service(&self, _namespace: &str, _name: &str, _record: ServiceRecord) {}
    fn remove_service(&self, _namespace: &str, _name: &str) {}
    fn set_endpoints(&self, _namespace: &str, _name: &str, _endpoints: Vec<EndpointRecord>) {}
    fn set_namespace(&self, _namespace: &str, _exists: bool) {}
}
