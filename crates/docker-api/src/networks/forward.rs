//! The side of published ports that speaks IPv6: the kernel's rules lead packets of IPv4 to a container, and these
//! connections are carried there, as dockerd's own proxy does.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use network::service::Protocol;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// How long a conversation of datagrams may be silent.
const SILENCE: Duration = Duration::from_secs(90);
/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;
/// The longest datagram.
const DATAGRAM: usize = 65_535;

/// A port of the host that is kept, and where in the container it leads.
pub(super) struct Door {
    pub socket: OwnedFd,
    pub protocol: Protocol,
    pub container_port: u16,
}

/// Carries what comes through doors to a container until dropped. Needs a runtime.
pub(super) fn open(doors: Vec<Door>, container: IpAddr) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let runtime = tokio::runtime::Handle::current();
    let _inside = runtime.enter();
    for door in doors {
        let to = SocketAddr::new(container, door.container_port);
        let opened = match door.protocol {
            Protocol::Tcp => {
                listen(door.socket).map(|listener| drop(tasks.spawn_on(connections(listener, to), &runtime)))
            }
            Protocol::Udp => take(door.socket).map(|socket| drop(tasks.spawn_on(datagrams(socket, to), &runtime))),
            Protocol::Sctp => Ok(()),
        };
        if let Err(error) = opened {
            tracing::warn!(%to, %error, "a published port is not served to IPv6");
        }
    }
    tasks
}

fn listen(socket: OwnedFd) -> io::Result<TcpListener> {
    // SAFETY: the descriptor is this socket's own; a failure changes nothing.
    if unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn take(socket: OwnedFd) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::from(socket);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

async fn connections(listener: TcpListener, to: SocketAddr) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((mut client, _)) => {
                    open.spawn(async move {
                        let Ok(mut server) = TcpStream::connect(to).await else { return };
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    });
                }
                // No descriptors are left, say: those that end make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn datagrams(socket: UdpSocket, to: SocketAddr) {
    let socket = Arc::new(socket);
    let clients: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                let known = clients.lock().await.get(&client).cloned();
                let server = match known {
                    Some(server) => server,
                    None => {
                        let Ok(server) = connect(to).await else { continue };
                        let server = Arc::new(server);
                        clients.lock().await.insert(client, server.clone());
                        answering.spawn(answer(socket.clone(), server.clone(), client, clients.clone()));
                        server
                    }
                };
                let _ = server.send(&buffer[..length]).await;
            }
            Some(_) = answering.join_next() => {}
        }
    }
}

async fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Carries a server's answers to a client until neither has said anything for long.
async fn answer(
    socket: Arc<UdpSocket>,
    server: Arc<UdpSocket>,
    client: SocketAddr,
    clients: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>,
) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(Ok(length)) = tokio::time::timeout(SILENCE, server.recv(&mut buffer)).await {
        let _ = socket.send_to(&buffer[..length], client).await;
    }
    clients.lock().await.remove(&client);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener as Server, TcpStream as Client};

    use super::*;

    /// A socket that is bound to some port of this machine.
    fn door(kind: i32, protocol: Protocol, container_port: u16) -> (Door, u16) {
        let (socket, port): (OwnedFd, u16) = match kind {
            libc::SOCK_STREAM => {
                let socket = Server::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
                let port = socket.local_addr().unwrap().port();
                (socket.into(), port)
            }
            _ => {
                let socket = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
                let port = socket.local_addr().unwrap().port();
                (socket.into(), port)
            }
        };
        (Door { socket, protocol, container_port }, port)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_and_datagrams_are_carried_both_ways() {
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (tcp, tcp_port) = door(libc::SOCK_STREAM, Protocol::Tcp, server.local_addr().unwrap().port());
        let echo = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (udp, udp_port) = door(libc::SOCK_DGRAM, Protocol::Udp, echo.local_addr().unwrap().port());
        let tasks = open(vec![tcp, udp], Ipv4Addr::LOCALHOST.into());
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            write!(stream, "{text} back").unwrap();
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 100];
            let (length, client) = echo.recv_from(&mut buffer).unwrap();
            echo.send_to(&buffer[..length], client).unwrap();
        });
        let asked = tokio::task::spawn_blocking(move || {
            let mut client = Client::connect((Ipv6Addr::LOCALHOST, tcp_port)).unwrap();
            client.write_all(b"there and").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            let socket = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send_to(b"datagram", (Ipv6Addr::LOCALHOST, udp_port)).unwrap();
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer).unwrap();
            (text, buffer[..length].to_vec())
        });
        assert_eq!(asked.await.unwrap(), ("there and back".to_owned(), b"datagram".to_vec()));
        drop(tasks);
    }
}
