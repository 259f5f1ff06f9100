//! One instance for one test.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Long enough for a busy machine of two cores; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Tests run beside each other: each takes a slot, which decides its ports and networks. What a run that was killed has
/// left routed is not taken.
struct Slot {
    number: u16,
    _lock: File,
}

impl Slot {
    fn take() -> Self {
        let dir = std::env::temp_dir().join("hythe-tests");
        fs::create_dir_all(&dir).unwrap();
        let begin = Instant::now();
        loop {
            for number in 0..8 {
                let lock = File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(dir.join(format!("slot-{number}")))
                    .unwrap();
                if lock.try_lock().is_ok() && !is_routed(number) {
                    return Self { number, _lock: lock };
                }
            }
            assert!(begin.elapsed() < PATIENCE * 4, "no slot is free of tests and of routes to its range");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The pods' addresses of a slot.
fn pods_of(number: u16) -> String {
    format!("10.{}.0.0/16", 120 + number)
}

/// Whether this machine already has a route for the pods of a slot.
fn is_routed(number: u16) -> bool {
    let pods = pods_of(number).parse().unwrap();
    network::routes().iter().any(|route| route.range == pods)
}

/// A running instance. Dropping it ends and removes everything.
pub struct Cluster {
    slot: Slot,
    dir: tempfile::TempDir,
    /// The data directory is a file system of its own.
    mounted: bool,
}

impl Cluster {
    /// Starts an instance with the busybox image in it and waits until its node is Ready.
    pub fn up() -> Self {
        let cluster = Self::prepare();
        cluster.import("busybox", "busybox:1");
        cluster.start();
        cluster
    }

    /// An instance that has not been started.
    pub fn prepare() -> Self {
        Self { slot: Slot::take(), dir: tempfile::tempdir().unwrap(), mounted: false }
    }

    /// An instance that has not been started, on a file system of that size.
    pub fn prepare_on(size: &str) -> Self {
        let mut cluster = Self::prepare();
        fs::create_dir(cluster.data_dir()).unwrap();
        let options = format!("size={size}");
        nix::mount::mount(
            Some("tmpfs"),
            &cluster.data_dir(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        cluster.mounted = true;
        cluster
    }

    pub fn start(&self) {
        let output = self.try_start(&[]);
        assert!(output.status.success(), "up: {}{}\n{}", text(&output.stdout), text(&output.stderr), self.log());
    }

    pub fn try_start(&self, more: &[&str]) -> Output {
        let (port, pods, services) = (self.port().to_string(), self.pod_cidr(), self.service_cidr());
        let (http, https) = (self.edge_http().to_string(), self.edge_https().to_string());
        let mut arguments = vec![
            "up",
            "--edge-http-port",
            &http,
            "--edge-https-port",
            &https,
            "--detach",
            "--port",
            &port,
            "--pod-cidr",
            &pods,
            "--service-cidr",
            &services,
            "--node-name",
            "node",
        ];
        if !more.contains(&"--registry-port") {
            arguments.extend(["--registry-port", "0"]);
        }
        let kubelet = self.kubelet_port().to_string();
        if !more.contains(&"--kubelet-port") {
            arguments.extend(["--kubelet-port", &kubelet]);
        }
        let healthz = self.healthz_port().to_string();
        arguments.extend(["--healthz-port", &healthz]);
        if !more.contains(&"--docker-socket") {
            arguments.extend(["--docker-socket", "none"]);
        }
        arguments.extend(more);
        self.try_hythe(&arguments)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A directory of the test's own.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    pub fn port(&self) -> u16 {
        17_443 + self.slot.number
    }

    pub fn pod_cidr(&self) -> String {
        pods_of(self.slot.number)
    }

    pub fn service_cidr(&self) -> String {
        format!("10.{}.0.0/16", 140 + self.slot.number)
    }

    /// A node port that no other test uses.
    pub fn node_port(&self, index: u16) -> u16 {
        30_100 + self.slot.number * 100 + index
    }

    /// Where Ingresses and Gateways are reached on 127.0.0.1.
    pub fn edge_http(&self) -> u16 {
        self.node_port(90)
    }

    /// The same with TLS.
    pub fn edge_https(&self) -> u16 {
        self.node_port(91)
    }

    /// Where the node's agent is reached.
    pub fn kubelet_port(&self) -> u16 {
        self.node_port(99)
    }

    /// Where it says that it is well.
    pub fn healthz_port(&self) -> u16 {
        self.node_port(98)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    pub fn token(&self) -> String {
        fs::read_to_string(self.data_dir().join("admin.token")).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.data_dir().join("hythe.log")).unwrap_or_default()
    }

    /// The daemon's process.
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.data_dir().join("hythe.pid")).unwrap().trim().parse().unwrap()
    }

    /// Kills the daemon at once, as a crash would.
    pub fn kill_daemon(&self) {
        let pid = self.pid();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("the daemon's end", || !Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid));
    }

    pub fn import(&self, file: &str, name: &str) {
        let archive = images().join(format!("{file}.tar"));
        assert!(archive.exists(), "{} is missing: run `make images`", archive.display());
        self.hythe(&["image", "import", archive.to_str().unwrap(), name]);
    }

    pub fn hythe_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hythe"));
        command.arg("--data-dir").arg(self.data_dir()).stdin(Stdio::null());
        // Nothing that the tests speak to may be asked by way of a proxy: this one answers nobody.
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env(name, "http://127.0.0.1:9");
        }
        command
    }

    pub fn try_hythe(&self, arguments: &[&str]) -> Output {
        self.hythe_command().args(arguments).output().unwrap()
    }

    pub fn hythe(&self, arguments: &[&str]) -> String {
        succeed("hythe", arguments, self.try_hythe(arguments))
    }

    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command(arguments).output().unwrap()
    }

    /// Runs kubectl, which must succeed, and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        if !output.status.success() {
            eprintln!("{}", self.story());
        }
        succeed("kubectl", arguments, output)
    }

    /// Runs kubectl, which must fail, and returns what it complains.
    pub fn kubectl_fails(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }

    pub fn apply(&self, yaml: &str) -> String {
        succeed("kubectl", &["apply", "-f", "-"], self.pipe(&["apply", "-f", "-"], yaml))
    }

    /// kubectl with something on its standard input.
    pub fn pipe(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.kubectl_command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // kubectl takes what begins with a brace for JSON; these are YAML.
        let yaml = format!("---\n{input}");
        let bytes = if input.starts_with("{a") { yaml.as_bytes() } else { input.as_bytes() };
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap()
    }

    /// kubectl in the background.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        Running(self.kubectl_command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn wait_ready(&self, pod: &str) {
        self.kubectl(&["wait", "--for=condition=Ready", pod, "--timeout=90s"]);
    }

    /// A jsonpath of `what`: `pod/web`, or words such as `pod -l app=web`.
    pub fn jsonpath(&self, what: &str, path: &str) -> String {
        let path = format!("jsonpath={path}");
        let words: Vec<&str> = ["get"].into_iter().chain(what.split(' ')).chain(["-o", &path]).collect();
        self.kubectl(&words)
    }

    /// Waits until a jsonpath of an object says so.
    pub fn until(&self, what: &str, path: &str, expected: &str) {
        let mut last = String::new();
        let done = holds(|| {
            let output = self.try_kubectl(&["get", what, "-o", &format!("jsonpath={path}")]);
            last = text(&output.stdout) + &text(&output.stderr);
            last == expected
        });
        assert!(done, "{what} {path} is {last:?}, not {expected:?}\n{}", self.story());
    }

    /// What happened, for a test that fails.
    pub fn story(&self) -> String {
        let pods = self.try_kubectl(&["get", "pods", "-A", "-o", "wide"]);
        let events = self.try_kubectl(&["get", "events", "-A"]);
        let tail: Vec<String> = self.log().lines().rev().take(60).map(str::to_owned).collect();
        let tail: Vec<String> = tail.into_iter().rev().collect();
        format!("{}{}--- log\n{}", text(&pods.stdout), text(&events.stdout), tail.join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
        let output = self.try_hythe(&["down", "--purge"]);
        if !output.status.success() {
            eprintln!("down --purge: {}", text(&output.stderr));
        }
        if self.mounted {
            let _ = nix::mount::umount2(&self.data_dir(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// A program in the background that does not outlive its test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Reads its standard output until `word` has come.
    pub fn read_until(&mut self, word: &str) -> String {
        let out = self.0.stdout.as_mut().unwrap();
        let mut all = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&all).contains(word) {
            match out.read(&mut byte) {
                Ok(1) => all.push(byte[0]),
                _ => panic!("ended before {word:?}: {}", String::from_utf8_lossy(&all)),
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// Where `make images` put them.
pub fn images() -> PathBuf {
    std::env::var_os("HYTHE_TEST_IMAGES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images"), PathBuf::from)
}

/// A pod of busybox that runs a shell script.
pub fn busybox(name: &str, script: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: \
         [{{name: c, image: 'busybox:1', command: [sh, -c, {script:?}]}}]}}}}\n---\n"
    )
}

/// One HTTP GET; the body of a 200, else the error.
pub fn http_get(address: &str, path: &str) -> Result<String, String> {
    let fail = |e: std::io::Error| e.to_string();
    let address: std::net::SocketAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3)).map_err(fail)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(fail)?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .map_err(fail)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(fail)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    if head.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(head.lines().next().unwrap_or_default().to_owned())
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for something that no event tells of.
#[track_caller]
pub fn eventually(what: &str, test: impl FnMut() -> bool) {
    assert!(holds(test), "{what}: not within {PATIENCE:?}");
}

pub fn holds(mut test: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if test() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[track_caller]
fn succeed(program: &str, arguments: &[&str], output: Output) -> String {
    assert!(output.status.success(), "{program} {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| s.rsplit(") ").next().is_some_and(|s| s.starts_with('Z')))
}
