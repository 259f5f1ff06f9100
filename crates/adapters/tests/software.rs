//! Debian's software, started for one test and ended with it.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serving::Serving;

pub const LONG: Duration = Duration::from_secs(60);

/// A server; it is gone when this is dropped.
pub struct Server {
    child: Child,
    end: Signal,
    pub port: u16,
    pub directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), self.end);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(command: &mut Command, port: u16, directory: tempfile::TempDir) -> Server {
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
    let child = child.expect("the software is installed");
    let server = Server { child, end: Signal::SIGKILL, port, directory };
    let deadline = Instant::now() + LONG;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || std::fs::read_to_string(server.directory.path().join("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "the server does not listen: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn redis(arguments: &[&str]) -> Server {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(directory.path());
    start(command.args(arguments), port, directory)
}

/// A certificate for 127.0.0.1 and its key as `tls.crt` and `tls.key`.
pub fn certify(directory: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(directory.join("tls.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// A Redis that speaks TLS alone.
pub fn redis_with_tls() -> Server {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    certify(directory.path());
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--tls-auth-clients", "no", "--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key"]);
    command.current_dir(directory.path());
    start(&mut command, port, directory)
}

pub fn memcached() -> Server {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new("memcached");
    command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-u", "nobody"]);
    start(&mut command, port, directory)
}

/// A PostgreSQL whose user `me` logs in by a password in one of the ways that it knows.
pub fn postgres(way: &str) -> Server {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let programs = programs();
    let (data, password) = (directory.path().join("data"), directory.path().join("password"));
    std::fs::write(&password, "se'cret\n").unwrap();
    // It refuses to run as root; `nobody` may read and write here.
    let nobody = |command: &mut Command| {
        command.uid(65534).gid(65534).current_dir("/").env("LC_ALL", "C");
    };
    std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).unwrap();
    certify(directory.path());
    for file in [&password, &directory.path().join("tls.crt"), &directory.path().join("tls.key")] {
        std::os::unix::fs::chown(file, Some(65534), Some(65534)).unwrap();
    }
    let mut initdb = Command::new(programs.join("initdb"));
    initdb.args(["-U", "me", "--no-sync", "--auth-host", way, "-D"]).arg(&data).arg("--pwfile").arg(&password);
    nobody(&mut initdb);
    let made = initdb.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut command = Command::new(programs.join("postgres"));
    command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"]).arg(directory.path());
    command.args(["-c", "fsync=off", "-c", "ssl=on"]);
    for (name, file) in [("ssl_cert_file", "tls.crt"), ("ssl_key_file", "tls.key")] {
        command.arg("-c").arg(format!("{name}={}", directory.path().join(file).display()));
    }
    nobody(&mut command);
    let mut server = start(&mut command, port, directory);
    // It ends at once by this, too, but takes its shared memory back.
    server.end = Signal::SIGQUIT;
    let deadline = Instant::now() + LONG;
    let mut ready = Command::new(programs.join("pg_isready"));
    ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    while !ready.status().unwrap().success() {
        assert!(Instant::now() < deadline, "the server does not get ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.unwrap().path().join("bin")).collect();
    versions.sort();
    versions.into_iter().rfind(|path| Path::exists(&path.join("initdb"))).expect("postgresql is installed")
}

pub fn serving() -> Serving {
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: serving::Flags,
    }
    Serving::detached(Only::parse_from(["adapter"]).flags)
}

/// A page that answers the same to everyone.
pub async fn page(status: u16, body: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let status = http::StatusCode::from_u16(status).unwrap();
    tokio::spawn(http_ends::serve(listener, Default::default(), move |_, _| async move {
        http_ends::answer(status, "text/plain", body)
    }));
    address
}
