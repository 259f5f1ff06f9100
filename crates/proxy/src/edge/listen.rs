//! Sockets: opened for all threads before any serves, followed when the site changes, closed when it is time.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol as Transport, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::{Shared, StartError, Worker, connection, datagram, tcp};
use crate::config::Protocol;
use crate::site::{Listener, Site};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// The sockets of one thread.
pub(super) type Sockets = Vec<(Protocol, SocketAddr, Socket)>;

/// Opens each listener once for each thread. Ports that the system is to choose are chosen here.
pub(super) fn open(site: &mut Site, threads: usize) -> Result<Vec<Sockets>, StartError> {
    let mut all: Vec<Sockets> = (0..threads.max(1)).map(|_| Vec::new()).collect();
    for listener in &mut site.listeners {
        let mut address = listener.address;
        for sockets in &mut all {
            let socket =
                bind(listener.config.protocol, address).map_err(|source| StartError::Listen { address, source })?;
            if address.port() == 0 {
                address = socket.local_addr().ok().and_then(|a| a.as_socket()).unwrap_or(address);
            }
            sockets.push((listener.config.protocol, address, socket));
        }
        if address != listener.address
            && let Some(listener) = Arc::get_mut(listener)
        {
            listener.address = address;
        }
    }
    Ok(all)
}

/// Whether the new addresses of a site can be listened on: tried before anything changes.
pub(super) fn probe(site: &mut Site, former: &Site) -> Result<(), StartError> {
    for listener in &mut site.listeners {
        let known = former
            .listeners
            .iter()
            .any(|l| l.address == listener.address && l.config.protocol == listener.config.protocol);
        if known {
            continue;
        }
        let address = listener.address;
        let socket =
            bind(listener.config.protocol, address).map_err(|source| StartError::Listen { address, source })?;
        if address.port() == 0
            && let Some(chosen) = socket.local_addr().ok().and_then(|a| a.as_socket())
            && let Some(listener) = Arc::get_mut(listener)
        {
            listener.address = chosen;
        }
    }
    Ok(())
}

fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Socket> {
    let (kind, transport) = match protocol {
        Protocol::Udp => (Type::DGRAM, Transport::UDP),
        _ => (Type::STREAM, Transport::TCP),
    };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(transport))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    if protocol != Protocol::Udp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// What one thread does until the container ends.
pub(super) fn thread(shared: Arc<Shared>, sockets: Sockets) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a thread cannot serve");
            return;
        }
    };
    runtime.block_on(serve(shared, sockets));
    runtime.shutdown_background();
}

/// Serves the site in force, listener by listener, and follows its changes.
async fn serve(shared: Arc<Shared>, sockets: Sockets) {
    let worker = Worker::new(Arc::clone(&shared));
    let mut changed = shared.changed.subscribe();
    let stopping = shared.serving.stopping().clone();
    let mut running: HashMap<(bool, SocketAddr), (CancellationToken, tokio::task::JoinHandle<()>)> = HashMap::new();
    let mut first: HashMap<(bool, SocketAddr), Socket> =
        sockets.into_iter().map(|(protocol, address, socket)| ((protocol == Protocol::Udp, address), socket)).collect();
    loop {
        let site = worker.site();
        let wanted: Vec<(bool, SocketAddr)> =
            site.listeners.iter().map(|l| (l.config.protocol == Protocol::Udp, l.address)).collect();
        running.retain(|key, (token, _)| {
            let stays = wanted.contains(key);
            if !stays {
                token.cancel();
            }
            stays
        });
        for listener in &site.listeners {
            let key = (listener.config.protocol == Protocol::Udp, listener.address);
            if running.contains_key(&key) {
                continue;
            }
            let socket = match first.remove(&key) {
                Some(socket) => Ok(socket),
                None => bind(listener.config.protocol, listener.address),
            };
            match socket {
                Ok(socket) => {
                    let token = stopping.child_token();
                    let task = tokio::task::spawn_local(accept(Rc::clone(&worker), key, socket, token.clone()));
                    running.insert(key, (token, task));
                }
                Err(error) => tracing::error!(listener = listener.name, %error, "cannot be listened on"),
            }
        }
        drop(site);
        tokio::select! {
            () = stopping.cancelled() => break,
            gone = changed.changed() => if gone.is_err() { break },
        }
    }
    for (_, (_, task)) in running {
        // It ends at once; what it accepted goes on.
        let _ = task.await;
    }
    // Connections end by themselves, or with the container's patience.
    let patience = shared.serving.flags().drain;
    let idle = async {
        while connection::open_here() > 0 {
            connection::one_ended().await;
        }
    };
    let _ = tokio::time::timeout(patience, idle).await;
}

async fn accept(worker: Rc<Worker>, key: (bool, SocketAddr), socket: Socket, token: CancellationToken) {
    if key.0 {
        match UdpSocket::from_std(socket.into()) {
            Ok(socket) => datagram::serve(worker, key.1, socket, token).await,
            Err(error) => tracing::error!(%error, "a socket cannot be used"),
        }
        return;
    }
    let listener = match TcpListener::from_std(socket.into()) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a socket cannot be used");
            return;
        }
    };
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => take(&worker, key.1, stream, peer),
                Err(error) => pause(&error).await,
            },
            () = token.cancelled() => break,
        }
    }
    // Those that the system has already accepted for us are served, not reset.
    while let Some(Ok((stream, peer))) = futures::FutureExt::now_or_never(listener.accept()) {
        take(&worker, key.1, stream, peer);
    }
}

/// Out of descriptors or memory: others must end before more can begin. Anything else was the connection's own fault.
async fn pause(error: &io::Error) {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM
    if matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12)) {
        tracing::warn!(%error, "no connection can be accepted for now");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn take(worker: &Rc<Worker>, address: SocketAddr, stream: TcpStream, peer: SocketAddr) {
    let site = worker.site();
    let Some(listener) = find(&site, address) else { return };
    let metrics = Arc::clone(&listener.metrics);
    metrics.accepted.fetch_add(1, Ordering::Relaxed);
    if metrics.open.fetch_add(1, Ordering::Relaxed) >= listener.config.limits.connections as u64 {
        metrics.open.fetch_sub(1, Ordering::Relaxed);
        metrics.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let open = connection::Open::new(metrics, worker.shared.serving.guard());
    // Small writes must not wait for one another.
    let _ = stream.set_nodelay(true);
    let worker = Rc::clone(worker);
    let protocol = listener.config.protocol;
    tokio::task::spawn_local(async move {
        match protocol {
            Protocol::Tcp => tcp::serve(worker, address, stream, peer, open).await,
            _ => connection::serve(worker, address, stream, peer, open).await,
        }
    });
}

/// The listener at an address.
pub(super) fn find(site: &Site, address: SocketAddr) -> Option<&Arc<Listener>> {
    site.listeners.iter().find(|l| l.at(address) && l.config.protocol != Protocol::Udp)
}
