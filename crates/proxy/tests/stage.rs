//! What the tests share: proxies in this process, servers that do as a closure says, clients that write raw bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use proxy::Proxy;
use proxy::config::Config;
use serving::{Flags, Serving};

pub const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

/// A proxy; it ends with the test.
pub struct Stage {
    pub proxy: Proxy,
    pub serving: Serving,
    pub runtime: tokio::runtime::Runtime,
}

impl Stage {
    pub fn new(yaml: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let flags =
            Cli::parse_from(["proxy", "--admin", "off", "--access-log", "off", "--threads", "1", "--drain", "2"]).flags;
        let serving = Serving::detached(flags);
        let proxy = runtime.block_on(async { Proxy::start(Config::parse(yaml).unwrap(), &serving) }).unwrap();
        Self { proxy, serving, runtime }
    }

    /// A proxy with one route to one pool of these endpoints. `route`, `pool` and `more` are YAML that is added.
    pub fn simple(endpoints: &[SocketAddr], route: &str, pool: &str, more: &str) -> Self {
        let endpoints: Vec<String> = endpoints.iter().map(|e| format!("{{address: '{e}'}}")).collect();
        Self::new(&format!(
            "listeners: [{{address: '127.0.0.1:0', routes: [{{to: [{{pool: app}}]{}{route}}}]}}]\npools: [{{name: app, endpoints: [{}]{}{pool}}}]\n{more}",
            if route.is_empty() { "" } else { ", " },
            endpoints.join(", "),
            if pool.is_empty() { "" } else { ", " },
        ))
    }

    pub fn address(&self) -> SocketAddr {
        self.proxy.addresses()[0]
    }

    pub fn reload(&self, yaml: &str) {
        self.runtime.block_on(async { self.proxy.reload(Config::parse(yaml).unwrap()) }).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.stopping().cancel();
    }
}

/// A server: each connection is handled by the closure in a thread of its own.
pub fn server(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    handle_on(listener, handle);
    address
}

fn handle_on(listener: TcpListener, handle: impl Fn(TcpStream) + Send + Sync + 'static) {
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            std::thread::spawn(move || handle(stream));
        }
    });
}

/// An HTTP server: each request's head and body become an answer, written as it is. The connection stays open.
pub fn app(answer: impl Fn(&str, &[u8]) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, answer);
    address
}

/// The same on a listener of one's own.
pub fn serve_on(listener: TcpListener, answer: impl Fn(&str, &[u8]) -> String + Send + Sync + 'static) {
    handle_on(listener, move |mut stream| {
        let mut input = Vec::new();
        while let Some((head, body)) = read_message(&mut stream, &mut input, false) {
            if stream.write_all(answer(&head, &body).as_bytes()).is_err() {
                return;
            }
        }
    });
}

/// A server that answers with its name and counts.
pub fn named(name: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let address = app(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        ok(name)
    });
    (address, count)
}

/// A server that tells the request's head back.
pub fn mirror_of_heads() -> SocketAddr {
    app(|head, body| ok(&format!("{head}{}", String::from_utf8_lossy(body))))
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A client's connection.
pub struct Client {
    pub stream: TcpStream,
    input: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then_some(v.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, input: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer; `None` if the connection ended before it did.
    pub fn receive(&mut self) -> Option<Answer> {
        let (head, body) = read_message(&mut self.stream, &mut self.input, true)?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, head, body })
    }

    pub fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.receive().expect("an answer")
    }

    /// All that still comes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.input);
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}

/// One request on a connection of its own.
pub fn ask(address: SocketAddr, request: &str) -> Answer {
    Client::new(address).ask(request)
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
}

/// Reads a message: its head, and its body by the lengths it tells.
pub fn read_message(stream: &mut TcpStream, input: &mut Vec<u8>, response: bool) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(at) = input.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, input)?;
    };
    let head = String::from_utf8_lossy(&input[..end]).into_owned();
    input.drain(..end);
    let lower = head.to_ascii_lowercase();
    let value = |name: &str| lower.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let status: u16 = if response { lower.split(' ').nth(1)?.parse().ok()? } else { 0 };
    if matches!(status, 100..=199 | 204 | 304) {
        return Some((head, Vec::new()));
    }
    if value("transfer-encoding") == Some("chunked") {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = input.windows(2).position(|w| w == b"\r\n") {
                    break at;
                }
                more(stream, input)?;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&input[..line]).ok()?.split(';').next()?, 16).ok()?;
            while input.len() < line + 2 + size + 2 {
                more(stream, input)?;
            }
            if size == 0 {
                // Trailers, up to an empty line.
                while !input[line..].windows(4).any(|w| w == b"\r\n\r\n") {
                    more(stream, input)?;
                }
                let end = line + input[line..].windows(4).position(|w| w == b"\r\n\r\n")? + 4;
                input.drain(..end);
                return Some((head, body));
            }
            body.extend_from_slice(&input[line + 2..line + 2 + size]);
            input.drain(..line + 2 + size + 2);
        }
    }
    match value("content-length").map(|v| v.parse::<usize>().unwrap()) {
        Some(length) => {
            while input.len() < length {
                more(stream, input)?;
            }
            Some((head, input.drain(..length).collect()))
        }
        None if response => {
            while more(stream, input).is_some() {}
            Some((head, std::mem::take(input)))
        }
        None => Some((head, Vec::new())),
    }
}

fn more(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 65_536];
    match stream.read(&mut buffer) {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            input.extend_from_slice(&buffer[..read]);
            Some(())
        }
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An address that is this test's as long as it has it: proxies, which share their ports, can listen there, and the system gives it to nobody else.
pub struct Kept {
    pub address: SocketAddr,
    _socket: socket2::Socket,
}

impl Kept {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { address: socket.local_addr().unwrap().as_socket().unwrap(), _socket: socket }
    }
}

/// An address at which nothing listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
