//! An engine of a test's own, and the stock client to speak to it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The engine's process and everything it makes; gone when dropped.
pub struct World {
    directory: tempfile::TempDir,
    engine: Child,
    options: &'static [&'static str],
    mounted: bool,
}

/// What a client's command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The output of a command that must succeed, without the last newline.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.trim_end().to_owned()
    }

    /// The complaint of a command that must fail with this code.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr
    }
}

impl World {
    /// An engine without images.
    pub fn empty() -> Self {
        Self::with_options(&[])
    }

    /// The same with more options.
    pub fn with_options(options: &'static [&'static str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let engine = start(directory.path(), options);
        Self { directory, engine, options, mounted: false }
    }

    /// An engine with the image `busybox` whose containers have ids of their own.
    pub fn remapped() -> Self {
        let world = Self::with_options(&["--userns-remap", "default"]);
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(world.directory.path(), everybody).expect("the directory is ours");
        world.fill();
        world
    }

    /// An engine with `busybox` on a file system of that many bytes.
    pub fn on(bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let target = std::ffi::CString::new(directory.path().to_str().expect("UTF-8")).expect("no NUL");
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no NUL");
        // SAFETY: all four are strings with a NUL at their end.
        let mounted =
            unsafe { libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()) };
        assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
        let engine = start(directory.path(), &[]);
        let world = Self { directory, engine, options: &[], mounted: true };
        world.fill();
        world
    }

    /// An engine with the image `busybox`.
    pub fn new() -> Self {
        let world = Self::empty();
        world.fill();
        world
    }

    fn fill(&self) {
        let tar = self.path("busybox.tar");
        busybox(&tar);
        self.docker(&["import", tar.to_str().unwrap(), "busybox"]).ok();
    }

    /// Writes a root file system of busybox alone.
    pub fn busybox_at(path: &Path) {
        busybox(path);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A range of this test's own for a network, and a part of it with two addresses.
    pub fn subnet(&self) -> (String, String) {
        let text = std::fs::read_to_string(self.path("numbers")).expect("written at the start");
        let (first, second) = text.split_once(' ').expect("two numbers");
        let first = 100 + first.parse::<u32>().expect("a number") % 50;
        (format!("10.{first}.{second}.128/25"), format!("10.{first}.{second}.204/31"))
    }

    /// A client's command, ready to be changed.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.path("docker.sock").display()))
            .env("DOCKER_CONFIG", self.path("client"))
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs a client's command to its end.
    pub fn docker(&self, args: &[&str]) -> Outcome {
        finish(self.client(args), b"")
    }

    /// The same with something to read.
    pub fn docker_with(&self, args: &[&str], input: &[u8]) -> Outcome {
        finish(self.client(args), input)
    }

    /// Runs a command of [`World::client`]'s making to its end.
    pub fn finish(&self, command: Command, input: &[u8]) -> Outcome {
        finish(command, input)
    }

    /// Kills the engine, as a crash would, and starts it again.
    pub fn crash_and_restart(&mut self) {
        self.engine.kill().expect("it runs");
        self.engine.wait().expect("it is a child");
        self.engine = start(self.directory.path(), self.options);
    }

    /// Asks until the answer is the expected one.
    #[track_caller]
    pub fn until(&self, args: &[&str], expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let outcome = self.docker(args);
            if outcome.stdout.trim() == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{args:?} never said {expected:?} but {outcome:?}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Interrupted, the engine takes everything off the host.
        let pid = Pid::from_raw(i32::try_from(self.engine.id()).expect("a process id"));
        let _ = kill(pid, Signal::SIGINT);
        let _ = self.engine.wait();
        if self.mounted {
            let target = std::ffi::CString::new(self.directory.path().to_str().expect("UTF-8")).expect("no NUL");
            // SAFETY: a string with a NUL at its end.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Two numbers that no other test at the same time has.
fn numbers() -> (u32, u32) {
    let pid = std::process::id();
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    (pid % 50 + next * 50, pid / 50 % 250)
}

fn start(directory: &Path, options: &[&str]) -> Child {
    let tests = std::env::current_exe().expect("this program");
    let program = tests.ancestors().nth(2).expect("target/…/deps/main").join("examples/engine");
    let record = directory.join("numbers");
    let (first, second) = match std::fs::read_to_string(&record) {
        Ok(text) => {
            let (first, second) = text.split_once(' ').expect("two numbers");
            (first.parse().expect("a number"), second.parse().expect("a number"))
        }
        Err(_) => numbers(),
    };
    std::fs::write(&record, format!("{first} {second}")).expect("the directory is writable");
    let socket = directory.join("docker.sock");
    let _ = std::fs::remove_file(&socket);
    let engine = Command::new(&program)
        .args(["--name", &format!("test-{first}-{second}")])
        .arg("--data-dir")
        .arg(directory.join("data"))
        .arg("--socket")
        .arg(&socket)
        .args(["--bridge", &format!("10.{}.{second}.0/25", 200 + first % 50)])
        .args(["--pool", &format!("10.{}.{second}.128/25", 200 + first % 50)])
        .args(options)
        // Registries of this machine are not asked by way of a proxy: this one answers nobody.
        .env("http_proxy", "http://127.0.0.1:9")
        .env("https_proxy", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(directory.join("engine.log")).expect("a log"))
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "the engine does not answer");
        std::thread::yield_now();
    }
    engine
}

/// Runs a command with input to its end, which must come soon.
fn finish(mut command: Command, input: &[u8]) -> Outcome {
    use std::io::Write;
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the docker client is installed");
    if let Some(mut stdin) = child.stdin.take() {
        // A client whose request is refused early does not read all.
        let _ = stdin.write_all(input);
    }
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(Box::new(child.stdout.take().expect("piped")));
    let stderr = read(Box::new(child.stderr.take().expect("piped")));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(60)).is_err() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    let status = child.wait().expect("it is a child");
    let _ = done.send(());
    let _ = watchdog.join();
    let code = status.code().unwrap_or(-1);
    Outcome { code, stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }
}

fn root_header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A root file system of busybox alone.
fn busybox(target: &Path) {
    let mut tar = tar::Builder::new(std::fs::File::create(target).expect("a file"));
    let mut directory = |name: &str, mode: u32| {
        let mut header = root_header();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty()).expect("an entry");
    };
    for name in ["bin", "etc", "root", "usr"] {
        directory(name, 0o755);
    }
    directory("tmp", 0o1777);
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut header = root_header();
    header.set_mode(0o755);
    header.set_size(program.len() as u64);
    tar.append_data(&mut header, "bin/busybox", program.as_slice()).expect("an entry");
    for applet in [
        "sh", "cat", "echo", "env", "false", "head", "hostname", "httpd", "id", "ip", "kill", "ls", "mkdir", "mount",
        "nslookup", "ping", "ps", "pwd", "rm", "sleep", "stty", "test", "touch", "true", "wget", "trap", "grep", "seq",
        "od", "dd",
    ] {
        let mut header = root_header();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("an entry");
    }
    for (name, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\n"),
        ("etc/group", "root:x:0:\ncrew:x:77:me\n"),
    ] {
        let mut header = root_header();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).expect("an entry");
    }
    tar.finish().expect("the archive ends");
}
