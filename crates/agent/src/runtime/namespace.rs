//! Connections from inside another network namespace: a socket stays in the namespace it was made in.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream},
    path::PathBuf,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use tokio::{net::TcpStream, sync::oneshot};

/// A listener on loopback answers at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `port` on loopback, within `namespace` if one is given.
pub async fn connect(namespace: Option<PathBuf>, port: u16) -> io::Result<TcpStream> {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: it enters the namespace and ends there.
    std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
        let _ = sender.send(connect_here(namespace, port));
    })?;
    let stream = receiver.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn connect_here(namespace: Option<PathBuf>, port: u16) -> io::Result<StdStream> {
    if let Some(path) = namespace {
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    }
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    StdStream::connect_timeout(&v4, TIMEOUT).or_else(|error| {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        // The first refusal is the one to tell of.
        StdStream::connect_timeout(&v6, TIMEOUT).map_err(|_| error)
    })
}
