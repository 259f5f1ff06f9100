//! A machine made of namespaces, and clients and servers for it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use network::service::Protocol;
use network::{HostPort, Network, NetworkConfig, PodAttach, PodNetwork};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// The node's address on the wire to the other machine.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The other machine.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// How long anything may take that happens at once.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The machine this test's thread lives on from now on.
pub struct Machine {
    directory: tempfile::TempDir,
    /// The other machine's namespace.
    pub outside: PathBuf,
    /// This machine's namespace.
    pub own: PathBuf,
}

impl Machine {
    /// Moves the calling thread to a fresh machine with a wire to another.
    pub fn new() -> Machine {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("tests of the network need root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (outside, own) = (directory.path().join("outside"), directory.path().join("own"));
        hold(&own);
        let path = outside.clone();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            hold(&path);
        })
        .join()
        .unwrap();
        ip("link set lo up");
        ip("link add wire type veth peer name wire-far");
        // By path: a namespace's number would need a process in it.
        let far = format!("link set wire-far netns {}", outside.display());
        assert!(Command::new("ip").args(far.split(' ')).status().is_ok_and(|s| s.success()) || move_by_pid(&outside));
        ip(&format!("addr add {NODE}/24 dev wire"));
        ip("link set wire up");
        at(&outside, || {
            ip("link set lo up");
            ip(&format!("addr add {CLIENT}/24 dev wire-far"));
            ip("link set wire-far up");
            ip(&format!("route add default via {NODE}"));
        });
        Machine { directory, outside, own }
    }

    /// A configuration whose ranges are 10.`n`.0.0/16 and 10.`n + 1`.0.0/16.
    pub fn config(&self, name: &str, n: u8) -> NetworkConfig {
        NetworkConfig {
            bridge_name: None,
            mtu: None,
            name: name.to_owned(),
            data_dir: self.directory.path().join(name).join("data"),
            run_dir: self.directory.path().join(name).join("run"),
            pod_cidr: format!("10.{n}.0.0/16").parse().unwrap(),
            gateway: None,
            alone: false,
            reserved: Vec::new(),
            service_cidr: format!("10.{}.0.0/16", n + 1).parse().unwrap(),
            node_ip: NODE,
            cluster_dns: Some(Ipv4Addr::new(10, n + 1, 0, 10)),
            isolation: None,
        }
    }

    pub fn open(&self) -> Network {
        Network::open(self.config("test", 42)).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The namespaces are held by mounts inside the directory, which could not be removed with them.
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(target).starts_with(self.directory.path()) {
                let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }
}

/// Whether bridged packets pass the IP hooks too, as on machines with br_netfilter loaded.
pub fn set_bridge_netfilter(on: bool) {
    let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if Path::new(path).exists() {
        fs::write(path, if on { "1" } else { "0" }).unwrap();
    }
}

fn hold(path: &Path) {
    File::create(path).unwrap();
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// For an `ip` that knows no paths: a process inside the namespace lends its number.
fn move_by_pid(namespace: &Path) -> bool {
    let mut child = at(namespace, || Command::new("sleep").arg("5").spawn().unwrap());
    ip(&format!("link set wire-far netns {}", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

/// Runs `ip` and insists.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `work` in a namespace, on a thread of its own.
pub fn at<T: Send + 'static>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(namespace).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

pub fn attach(network: &Network, id: &str) -> PodNetwork {
    network.attach(&PodAttach { id: id.to_owned(), host_ports: vec![] }).unwrap()
}

pub fn host_port(protocol: Protocol, host_port: u16, container_port: u16) -> HostPort {
    HostPort { protocol, host_ip: None, host_port, container_port }
}

/// What a server told about itself and about whom it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub server: String,
    pub client: SocketAddr,
}

fn parse_answer(line: &str) -> Answer {
    let (server, client) = line.trim().split_once(' ').expect("a server's answer");
    Answer { server: server.to_owned(), client: client.parse().unwrap() }
}

/// A TCP server that says its name and the client's address on each connection, then echoes. It ends with the process.
pub fn serve_tcp(namespace: &Path, port: u16, name: &str) {
    let listener = at(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, name) = (stream.unwrap(), name.clone());
            std::thread::spawn(move || -> io::Result<()> {
                writeln!(stream, "{name} {}", stream.peer_addr()?)?;
                let mut buffer = [0; 512];
                loop {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(()),
                        length => stream.write_all(&buffer[..length])?,
                    }
                }
            });
        }
    });
}

/// A UDP server that answers each datagram with its name and the client's address.
pub fn serve_udp(namespace: &Path, port: u16, name: &str) {
    let socket = at(namespace, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {client}").as_bytes(), client);
        }
    });
}

/// An open conversation with a TCP server.
pub struct Conversation {
    stream: BufReader<TcpStream>,
    pub answer: Answer,
}

impl Conversation {
    /// Whether the server still answers on this connection.
    pub fn echo(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(b"ping\n")?;
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        assert_eq!(line, "ping\n");
        Ok(())
    }
}

pub fn talk_tcp(namespace: &Path, server: impl Into<SocketAddr>) -> io::Result<Conversation> {
    let server = server.into();
    at(namespace, move || {
        let stream = TcpStream::connect_timeout(&server, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        Ok(Conversation { answer: parse_answer(&line), stream })
    })
}

pub fn ask_tcp(namespace: &Path, server: impl Into<SocketAddr>) -> io::Result<Answer> {
    talk_tcp(namespace, server).map(|conversation| conversation.answer)
}

pub fn ask_udp(namespace: &Path, server: impl Into<SocketAddr>) -> io::Result<Answer> {
    let server = server.into();
    at(namespace, move || ask_udp_here(server))
}

/// Asks from the calling thread's namespace, from a fresh port.
pub fn ask_udp_here(server: SocketAddr) -> io::Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    ask_on(&socket)
}

/// Asks on a connected socket.
pub fn ask_on(socket: &UdpSocket) -> io::Result<Answer> {
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.send(b"?")?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    Ok(parse_answer(&String::from_utf8_lossy(&buffer[..length])))
}
