//! A builder with a busybox image in a directory of its own, removed with everything it left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use builder::{BuildError, BuildOutput, BuildRequest, Builder, Classic, Context, Event, Progress, Source};
use engine::content::{Content, Image};
use engine::{Engine, EngineConfig, ShimCommand};

/// Nothing in these tests takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A tmpfs, unmounted whatever happens.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(path: &Path, bytes: u64) -> Self {
        use rustix::mount::{MountFlags, mount};
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no NUL");
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).expect("mounts");
        Self(path.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).expect("unmounts");
    }
}

/// One test's builder.
pub struct World {
    _mount: Option<Mount>,
    pub directory: tempfile::TempDir,
    pub engine: Engine,
    pub content: Content,
    pub builder: Builder,
    pub cgroup: String,
}

/// What a build did.
pub struct Built {
    pub output: BuildOutput,
    pub image: Image,
    pub events: Vec<Event>,
}

impl Built {
    /// The texts of the steps that were taken from the cache.
    pub fn cached(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let mut current: BTreeMap<usize, String> = BTreeMap::new();
        for event in &self.events {
            match event {
                Event::Step { stage, text, .. } => drop(current.insert(*stage, text.clone())),
                Event::Cached { stage } => steps.extend(current.get(stage).cloned()),
                _ => {}
            }
        }
        steps
    }

    /// What programs wrote.
    pub fn said(&self) -> String {
        said(&self.events)
    }

    /// The whole as Docker's classic builder prints it.
    pub fn classic(&self) -> String {
        let mut classic = Classic::new();
        self.events.iter().flat_map(|event| classic.render(event.clone())).map(|piece| piece.text).collect()
    }

    /// What the image's history says, newest last, without the base's.
    pub fn history(&self) -> Vec<String> {
        self.image.config.history.iter().filter_map(|entry| entry.created_by.clone()).collect()
    }
}

pub fn said(events: &[Event]) -> String {
    let bytes = events.iter().filter_map(|event| match event {
        Event::Output { bytes, .. } => Some(bytes.clone()),
        _ => None,
    });
    String::from_utf8_lossy(&bytes.flatten().collect::<Vec<u8>>()).into_owned()
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl World {
    /// With the image `base`.
    pub async fn new() -> Self {
        Self::within(tempfile::Builder::new().prefix("hythe-builder-").tempdir().expect("a directory"), None).await
    }

    /// The same on a file system of that many bytes.
    pub async fn on_tmpfs(bytes: u64) -> Self {
        let directory = tempfile::Builder::new().prefix("hythe-builder-").tempdir().expect("a directory");
        let mount = Mount::tmpfs(directory.path(), bytes);
        Self::within(directory, Some(mount)).await
    }

    async fn within(directory: tempfile::TempDir, mount: Option<Mount>) -> Self {
        let cgroup = format!("hythe-build-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config = EngineConfig {
            data_dir: directory.path().join("engine"),
            run_dir: directory.path().join("run"),
            cgroup_root: cgroup.clone(),
            shim: ShimCommand { program: env!("CARGO_BIN_EXE_builder-shim").into(), args: Vec::new() },
        };
        let engine = Engine::open(config).await.expect("opens");
        let content = Content::open(directory.path().join("content")).expect("opens");
        let tar = directory.path().join("base.tar");
        busybox(&tar);
        content.import(&tar, Some("base")).expect("imports");
        let builder = Builder::open(engine.clone(), content.clone(), directory.path().join("builder")).await;
        let world = Self { builder: builder.expect("opens"), _mount: mount, directory, engine, content, cgroup };
        fs::create_dir(world.path("context")).expect("makes");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the context.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("context").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        fs::write(&path, text).expect("writes");
        path
    }

    /// A request for that Dockerfile on the context.
    pub fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            context: Context::Directory(self.path("context")),
            dockerfile: Source::Text(dockerfile.to_owned()),
            ..BuildRequest::default()
        }
    }

    pub async fn try_build(&self, request: BuildRequest) -> (Result<BuildOutput, BuildError>, Vec<Event>) {
        let (progress, events) = recorder();
        let result = tokio::time::timeout(PATIENCE, self.builder.build(request, progress)).await.expect("in time");
        let events = events.lock().expect("nobody panicked").clone();
        (result, events)
    }

    pub async fn build_with(&self, request: BuildRequest) -> Built {
        let (result, events) = self.try_build(request).await;
        let output = result
            .unwrap_or_else(|error| panic!("{error}\n{}\n{events:#?}", error.excerpt.clone().unwrap_or_default()));
        let image = self.content.image(&output.image).expect("the image is here");
        Built { output, image, events }
    }

    pub async fn build(&self, dockerfile: &str) -> Built {
        self.build_with(self.request(dockerfile)).await
    }

    pub async fn fail(&self, dockerfile: &str) -> (BuildError, Vec<Event>) {
        let (result, events) = self.try_build(self.request(dockerfile)).await;
        (result.expect_err("fails"), events)
    }

    /// The directories of an image's layers, the topmost first.
    pub fn layers(&self, image: &Image) -> Vec<PathBuf> {
        image.config.rootfs.diff_ids.iter().rev().map(|id| self.content.layer_directory(id).expect("here")).collect()
    }

    /// The directory of the last layer.
    pub fn top(&self, image: &Image) -> PathBuf {
        self.layers(image).remove(0)
    }

    /// A file as the image has it. (No whiteouts or links on the way.)
    pub fn find(&self, image: &Image, path: &str) -> Option<PathBuf> {
        self.layers(image).into_iter().map(|layer| layer.join(path)).find(|path| path.symlink_metadata().is_ok())
    }

    pub fn read(&self, image: &Image, path: &str) -> String {
        let path = self.find(image, path).unwrap_or_else(|| panic!("{path} is missing"));
        fs::read_to_string(path).expect("reads")
    }

    /// Checks that builds left no sandbox, workspace, mount or cgroup.
    pub async fn end(self) {
        assert!(self.engine.sandboxes().is_empty(), "a sandbox is left");
        self.engine.purge().await.expect("purges");
        let left: Vec<_> = fs::read_dir(self.path("builder/work")).expect("reads").flatten().collect();
        assert!(left.is_empty(), "a workspace is left: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let below = format!("{}/", self.directory.path().display());
        assert!(!mounts.contains(&below), "a mount is left:\n{mounts}");
        let ingest: Vec<_> = fs::read_dir(self.path("content/ingest")).expect("reads").flatten().collect();
        assert!(ingest.is_empty(), "half a blob is left: {ingest:?}");
    }
}

impl Drop for World {
    /// After a failed test: kill what carries this test's name.
    fn drop(&mut self) {
        let mut open: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join(&self.cgroup))
            .chain([Path::new("/sys/fs/cgroup").join(&self.cgroup)])
            .filter(|path| path.is_dir())
            .collect();
        let mut all = Vec::new();
        while let Some(directory) = open.pop() {
            let below = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
            open.extend(below.filter(|path| path.is_dir()));
            for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                let _ = rustix::process::kill_process(
                    rustix::process::Pid::from_raw(pid.parse().expect("a number")).expect("not 0"),
                    rustix::process::Signal::KILL,
                );
            }
            all.push(directory);
        }
        all.sort();
        for directory in all.iter().rev() {
            for _ in 0..500 {
                if fs::remove_dir(directory).is_ok() || !directory.exists() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}

/// A place for events.
pub fn recorder() -> (Progress, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = events.clone();
    (Arc::new(move |event| sink.lock().expect("nobody panicked").push(event)), events)
}

fn busybox(tar: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    for name in ["bin", "etc", "tmp", "root", "home/web"] {
        fs::create_dir_all(root.join(name)).expect("makes");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let programs = "sh sleep cat echo true false id env pwd ls mkdir rm mv cp touch chmod chown ln stat dd tar grep test \
                    hostname wc tr head sha256sum find mkfifo readlink printf";
    for program in programs.split_whitespace() {
        symlink("busybox", root.join("bin").join(program)).expect("links");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/home/web:/bin/sh\n")
        .expect("writes");
    fs::write(root.join("etc/group"), "root:x:0:\nstaff:x:34:\nlogs:x:50:web\n").expect("writes");
    fs::write(root.join("etc/motd"), "hello\n").expect("writes");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("sets");
    let mut archive = tar::Builder::new(fs::File::create(tar).expect("makes"));
    archive.follow_symlinks(false);
    archive.append_dir_all(".", root).expect("packs");
    archive.finish().expect("packs");
}
