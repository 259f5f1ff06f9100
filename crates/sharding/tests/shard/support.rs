//! Servers, proxies and clients for tests. Everything listens on unix sockets in a directory of its own.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use serving::Serving;
use sharding::Arguments;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries until it succeeds.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(Instant::now() < deadline, "{what} has not happened");
        std::thread::yield_now();
    }
}

/// A server process, ended with the test.
pub struct Process {
    child: Child,
    pub socket: PathBuf,
}

impl Process {
    fn start(mut command: Command, socket: PathBuf) -> Process {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = Process { child: child.expect("it is installed (scripts/deps.sh test)"), socket };
        eventually("the server's socket", || UnixStream::connect(&process.socket).ok());
        process
    }

    /// A Redis server without a port.
    pub fn redis(directory: &Path, name: &str, more: &[&str]) -> Process {
        let socket = directory.join(format!("{name}.sock"));
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        command.arg("--dir").arg(directory).args(more);
        Process::start(command, socket)
    }

    /// A memcached server without a port.
    pub fn memcached(directory: &Path, name: &str) -> Process {
        Process::memcached_with(directory, name, &[])
    }

    pub fn memcached_with(directory: &Path, name: &str, more: &[&str]) -> Process {
        let socket = directory.join(format!("{name}.sock"));
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-U", "0", "-t", "1", "-s"]).arg(&socket).args(more);
        Process::start(command, socket)
    }

    /// nutcracker with this configuration, which listens at `socket`.
    pub fn nutcracker(directory: &Path, configuration: &str, socket: PathBuf) -> Process {
        let file = directory.join("nutcracker-for-comparison.yml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("nutcracker");
        // Its port for statistics: on an address of its own, since it cannot be turned off.
        command.args(["-a", "127.87.0.1", "-s", "22222", "-c"]).arg(&file);
        Process::start(command, socket)
    }

    /// Stops it from running without ending it, or lets it run again.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    pub fn client(&self) -> Client {
        Client::unix(&self.socket)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

/// A proxy in this process.
pub struct Proxy {
    pub directory: Arc<tempfile::TempDir>,
    pub serving: Serving,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy with this configuration; `DIR` in it stands for the directory.
    pub fn start(directory: &Arc<tempfile::TempDir>, configuration: &str) -> Proxy {
        Proxy::start_with(directory, configuration, &[])
    }

    pub fn start_with(directory: &Arc<tempfile::TempDir>, configuration: &str, flags: &[&str]) -> Proxy {
        let file = directory.path().join("nutcracker.yaml");
        write(directory, configuration);
        let file = file.to_str().unwrap();
        let mut command = vec!["shard", "--config", file, "--admin", "off", "--access-log", "off"];
        command.extend(flags);
        if !flags.contains(&"--threads") {
            command.extend(["--threads", "2"]);
        }
        let arguments = Cli::parse_from(command).arguments;
        let serving = Serving::detached(arguments.flags.clone());
        let running = serving.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(sharding::serve(arguments, running)).unwrap();
        });
        let proxy = Proxy { directory: directory.clone(), serving, thread: Some(thread) };
        eventually("the proxy's readiness", || (proxy.admin("GET", "/readyz").0 == 200).then_some(()));
        proxy
    }

    /// Asks the admin port.
    pub fn admin(&self, method: &str, path: &str) -> (u16, String) {
        let request = http::Request::builder().method(method).uri(path).body(bytes::Bytes::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let answer = self.serving.admin().answer(request).await;
            let status = answer.status().as_u16();
            let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    /// A number that the metrics tell, summed over what matches.
    pub fn metric(&self, start: &str) -> f64 {
        let (_, text) = self.admin("GET", "/metrics");
        let matching = text.lines().filter(|line| line.starts_with(start));
        matching.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Puts another configuration in force, or tells why not.
    pub fn reload(&self, configuration: &str) -> Result<(), String> {
        write(&self.directory, configuration);
        match self.admin("POST", "/-/reload") {
            (200, _) => Ok(()),
            (_, reason) => Err(reason),
        }
    }

    pub fn client(&self) -> Client {
        self.client_of("proxy.sock")
    }

    pub fn client_of(&self, socket: &str) -> Client {
        Client::unix(&self.directory.path().join(socket))
    }
}

fn write(directory: &tempfile::TempDir, configuration: &str) {
    let text = configuration.replace("DIR", directory.path().to_str().unwrap());
    std::fs::write(directory.path().join("nutcracker.yaml"), text).unwrap();
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.stopping().cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok(), "the proxy has not ended in order");
        }
    }
}

/// Any connection.
pub trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

/// A server whose every connection does what the test says.
pub struct Puppet {
    connections: Receiver<UnixStream>,
}

impl Puppet {
    pub fn listen(directory: &Arc<tempfile::TempDir>, name: &str) -> Puppet {
        let listener = UnixListener::bind(directory.path().join(name)).unwrap();
        let (sender, connections): (Sender<UnixStream>, _) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Puppet { connections }
    }

    pub fn next(&self) -> Client {
        Client::over(self.connections.recv_timeout(Duration::from_secs(20)).expect("a connection"))
    }
}

/// One shard of Redis, at `a.sock`.
pub const ONE: &str = "db:\n  listen: DIR/proxy.sock\n  redis: true\n  servers: ['DIR/a.sock:1 a']\n";

/// A client that speaks bytes.
pub struct Client {
    pub stream: Box<dyn Connection>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn unix(path: &Path) -> Client {
        let stream = eventually("a connection", || UnixStream::connect(path).ok());
        Client::over(stream)
    }

    pub fn over(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the other side reads");
    }

    /// Reads so many bytes.
    pub fn read(&mut self, length: usize) -> String {
        while self.buffer.len() < length {
            assert!(self.more(), "ended after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        let rest = self.buffer.split_off(length);
        String::from_utf8_lossy(&std::mem::replace(&mut self.buffer, rest)).into_owned()
    }

    /// Reads up to and with these bytes.
    pub fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end.as_bytes()) {
                return self.read(at + end.len());
            }
            assert!(self.more(), "ended after {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Reads until the other side ends.
    pub fn read_to_end(&mut self) -> String {
        while self.more() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    /// Reads one RESP reply.
    pub fn reply(&mut self) -> String {
        loop {
            let scanned = sharding::protocol::resp::ReplyScanner::default().scan(&self.buffer).expect("a reply");
            if let Some(length) = scanned {
                return self.read(length);
            }
            assert!(self.more(), "ended after {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Sends a Redis command of words, and reads the reply.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(resp(command));
        self.reply()
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 65536];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("reading: {error}, after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }
}

/// A Redis command of words, as it goes over the wire.
pub fn resp(command: &str) -> Vec<u8> {
    let words: Vec<&str> = command.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| bytes.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    bytes.into_bytes()
}

/// Waits for other runs of these tests on this machine, where an address has to be a certain one.
pub fn alone(address: &str) -> std::net::TcpListener {
    eventually("the end of another run", || std::net::TcpListener::bind(address).ok())
}

pub fn directory() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}
