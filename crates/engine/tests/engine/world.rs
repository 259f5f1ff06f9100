//! A busybox root file system and an engine in a directory of their own, removed with everything they left.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use engine::{
    ContainerSpec, Engine, EngineConfig, ExitStatus, LogSpec, PidMode, Resources, Rootfs, Sandbox, SandboxSpec,
    ShimCommand,
};

/// Nothing in these tests takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One test's engine.
pub struct World {
    pub directory: tempfile::TempDir,
    pub engine: Engine,
    pub cgroup: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hythe-engine-").tempdir().expect("a directory");
        let cgroup = format!("hythe-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        busybox(&directory.path().join("image"));
        let engine = open(directory.path(), &cgroup).await;
        Self { directory, engine, cgroup }
    }

    /// A second daemon in the place of the first.
    pub async fn restart(&mut self) -> Vec<Sandbox> {
        self.engine = open(self.directory.path(), &self.cgroup).await;
        self.engine.adopt().await.expect("adopts")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub async fn sandbox(&self) -> Sandbox {
        self.engine.create_sandbox(self.sandbox_spec("pod")).await.expect("a sandbox")
    }

    pub fn sandbox_spec(&self, id: &str) -> SandboxSpec {
        SandboxSpec {
            id: id.into(),
            hostname: Some("harbour".into()),
            pid: PidMode::PerContainer,
            resources: Resources { pids_limit: Some(200), ..Resources::default() },
            ..SandboxSpec::default()
        }
    }

    /// A container that runs a shell script.
    pub fn shell(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            rootfs: Rootfs::Overlay {
                lower: vec![self.path("image")],
                upper: self.path(&format!("layers/{id}/upper")),
                work: self.path(&format!("layers/{id}/work")),
                volatile: false,
            },
            args: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            env: vec!["PATH=/bin".into()],
            log: Some(LogSpec { path: self.path(&format!("logs/{id}.log")), max_size: 0, max_files: 1 }),
            ..ContainerSpec::default()
        }
    }

    /// Runs a container to its end; returns how it ended and what it wrote, a line each, `stream text`.
    pub async fn run(&self, sandbox: &Sandbox, spec: ContainerSpec) -> (ExitStatus, Vec<String>) {
        let id = spec.id.clone();
        sandbox.create_container(spec).await.expect("creates");
        sandbox.start(&id).await.expect("starts");
        let exit = finish(sandbox.wait(&id)).await.expect("exits");
        (exit, self.log(&id))
    }

    pub fn log(&self, id: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(&format!("logs/{id}.log"))).unwrap_or_default();
        let strip = |line: &str| {
            let mut fields = line.splitn(4, ' ');
            let (_time, stream, _tag) = (fields.next(), fields.next()?, fields.next()?);
            Some(format!("{stream} {}", fields.next().unwrap_or_default()))
        };
        text.lines().filter_map(strip).collect()
    }

    /// Destroys everything and checks that no mount, cgroup, process or file is left.
    pub async fn end(self) {
        for sandbox in self.engine.sandboxes() {
            finish(sandbox.destroy()).await.expect("destroys");
        }
        self.engine.purge().await.expect("purges");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let here = self.directory.path().to_str().expect("a path");
        assert!(!mounts.contains(here), "a mount is left:\n{mounts}");
        assert_eq!(cgroups(&self.cgroup), Vec::<PathBuf>::new(), "a cgroup is left");
        assert_eq!(processes(here), Vec::<String>::new(), "a process is left");
        let left: Vec<_> = fs::read_dir(self.path("run/sandboxes")).expect("reads").flatten().collect();
        assert!(left.is_empty(), "a file is left: {left:?}");
    }
}

impl Drop for World {
    /// After a failed test: kill what carries this test's name.
    fn drop(&mut self) {
        let mut all: Vec<PathBuf> = cgroups(&self.cgroup);
        all.reverse();
        for directory in &all {
            for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        for directory in &all {
            for _ in 0..500 {
                if fs::remove_dir(directory).is_ok() || !directory.exists() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}

async fn open(directory: &Path, cgroup: &str) -> Engine {
    let config = EngineConfig {
        data_dir: directory.join("data"),
        run_dir: directory.join("run"),
        cgroup_root: cgroup.into(),
        shim: ShimCommand { program: env!("CARGO_BIN_EXE_engine-shim").into(), args: Vec::new() },
    };
    Engine::open(config).await.expect("opens")
}

/// The result of something that must not hang.
pub async fn finish<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Every cgroup directory of that root, parents first.
fn cgroups(root: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")
        .expect("cgroups")
        .flatten()
        .map(|entry| entry.path().join(root))
        .chain([Path::new("/sys/fs/cgroup").join(root)])
        .filter(|path| path.is_dir())
        .collect();
    while let Some(directory) = open.pop() {
        let below = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
        open.extend(below.filter(|path| path.is_dir()));
        found.push(directory);
    }
    found.sort();
    found
}

/// Command lines of processes that name a path.
fn processes(path: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(path)).map(|line| line.replace('\0', " ")).collect()
}

fn busybox(root: &Path) {
    for directory in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        fs::create_dir_all(root.join(directory)).expect("makes");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("sets");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let programs =
        "sh sleep cat echo true false id hostname unshare mount ps kill stty tty wc head yes env pwd ls touch dd trap";
    for program in programs.split(' ') {
        symlink("busybox", root.join("bin").join(program)).expect("links");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/tmp:/bin/sh\n")
        .expect("writes");
    fs::write(root.join("etc/group"), "root:x:0:\nlogs:x:50:web\n").expect("writes");
    fs::write(root.join("bin/broken"), "no program").expect("writes");
    fs::set_permissions(root.join("bin/broken"), fs::Permissions::from_mode(0o755)).expect("sets");
    fs::write(root.join("bin/text"), "no program").expect("writes");
}
