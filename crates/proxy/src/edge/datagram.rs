//! UDP: datagrams of one client address are a session with one endpoint.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::config::Protocol;
use crate::pool::Wish;

/// Largest datagram.
const LARGEST: usize = 65_535;
/// Datagrams that may wait for a session's socket.
const WAITING: usize = 64;

pub(super) async fn serve(worker: Rc<Worker>, at: SocketAddr, socket: UdpSocket, token: CancellationToken) {
    let socket = Rc::new(socket);
    let sessions: Rc<RefCell<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>> = Rc::default();
    let mut buffer = vec![0u8; LARGEST];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = token.cancelled() => return,
        };
        // An error here is an earlier datagram's (ICMP), not the socket's.
        let Ok((length, peer)) = received else { continue };
        let site = worker.site();
        let Some(listener) = site.listeners.iter().find(|l| l.address == at && l.config.protocol == Protocol::Udp)
        else {
            continue;
        };
        listener.metrics.bytes_in.fetch_add(length as u64, Ordering::Relaxed);
        let known = sessions.borrow().get(&peer).cloned();
        let sender = match known {
            Some(sender) => sender,
            None => {
                if sessions.borrow().len() >= listener.config.limits.connections {
                    listener.metrics.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                listener.metrics.accepted.fetch_add(1, Ordering::Relaxed);
                let Some(pool) = listener.pool.clone() else { continue };
                let point = pool.config.ring.point(peer.ip().to_canonical().to_string().as_bytes());
                let Some(lease) = pool.choose(&Wish { point, ..Default::default() }) else { continue };
                let (sender, receiver) = mpsc::channel(WAITING);
                sessions.borrow_mut().insert(peer, sender.clone());
                let patience = listener.config.limits.tunnel_timeout.0.min(std::time::Duration::from_secs(300));
                let (socket, sessions, metrics) =
                    (Rc::clone(&socket), Rc::clone(&sessions), std::sync::Arc::clone(&listener.metrics));
                tokio::task::spawn_local(async move {
                    metrics.open.fetch_add(1, Ordering::Relaxed);
                    let sent = session(&socket, peer, lease.endpoint.address, receiver, patience).await;
                    if sent.is_err() {
                        pool.failed(&lease.endpoint);
                    }
                    metrics.bytes_out.fetch_add(sent.unwrap_or(0), Ordering::Relaxed);
                    metrics.open.fetch_sub(1, Ordering::Relaxed);
                    sessions.borrow_mut().remove(&peer);
                });
                sender
            }
        };
        // A session that cannot keep up loses datagrams, as the network would.
        let _ = sender.try_send(buffer[..length].to_vec());
    }
}

/// Carries a session until nothing moves for a while.
async fn session(
    socket: &UdpSocket,
    client: SocketAddr,
    endpoint: SocketAddr,
    mut waiting: mpsc::Receiver<Vec<u8>>,
    patience: std::time::Duration,
) -> std::io::Result<u64> {
    let any: SocketAddr =
        if endpoint.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let other = UdpSocket::bind(any).await?;
    other.connect(endpoint).await?;
    let mut buffer = vec![0u8; LARGEST];
    let mut back = 0;
    loop {
        let moved = async {
            tokio::select! {
                datagram = waiting.recv() => match datagram {
                    Some(datagram) => other.send(&datagram).await.map(|_| true),
                    None => Ok(false),
                },
                received = other.recv(&mut buffer) => match received {
                    Ok(length) => {
                        back += length as u64;
                        socket.send_to(&buffer[..length], client).await.map(|_| true)
                    }
                    Err(error) => Err(error),
                },
            }
        };
        match tokio::time::timeout(patience, moved).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Ok(back),
            Ok(Err(error)) => return Err(error),
        }
    }
}
