//! UDP: datagrams of one client address are a session with one endpoint.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serving::Record;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::connection::Open;
use crate::config::Protocol;
use crate::metrics::ListenerMetrics;
use crate::pool::Wish;

/// Largest datagram.
const LARGEST: usize = 65_535;
/// Datagrams that may wait for a session's socket.
const WAITING: usize = 64;
/// A session in which nothing moves is forgotten after this time at the latest.
const LONGEST: Duration = Duration::from_secs(300);
/// When a listener ends, an answer is still passed on that comes within this time of its question. Who never answers is not waited for longer.
const LAST_ANSWER: Duration = Duration::from_secs(1);

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
                listener.metrics.open.fetch_add(1, Ordering::Relaxed);
                let open = Open::new(Arc::clone(&listener.metrics), worker.shared.serving.guard());
                let session = Session {
                    socket: Rc::clone(&socket),
                    client: peer,
                    endpoint: lease.endpoint.address,
                    patience: listener.config.limits.tunnel_timeout.0.min(LONGEST),
                    metrics: Arc::clone(&listener.metrics),
                    token: token.clone(),
                    there: 0,
                    back: 0,
                };
                let (sessions, worker) = (Rc::clone(&sessions), Rc::clone(&worker));
                tokio::task::spawn_local(async move {
                    let record = session.served(receiver).await;
                    if !record.error.is_empty() {
                        pool.failed(&lease.endpoint);
                    }
                    worker.shared.log.write(record);
                    sessions.borrow_mut().remove(&peer);
                    drop(open);
                });
                sender
            }
        };
        // A session that cannot keep up loses datagrams, as the network would.
        let _ = sender.try_send(buffer[..length].to_vec());
    }
}

/// What moves between a client and its endpoint.
struct Session {
    socket: Rc<UdpSocket>,
    client: SocketAddr,
    endpoint: SocketAddr,
    patience: Duration,
    metrics: Arc<ListenerMetrics>,
    token: CancellationToken,
    /// Bytes from the client.
    there: u64,
    /// Bytes to the client.
    back: u64,
}

impl Session {
    /// Carries datagrams until nothing moves for a while, or until the listener ends. Tells what happened.
    async fn served(mut self, waiting: mpsc::Receiver<Vec<u8>>) -> Record {
        let started = Instant::now();
        let ended = self.carry(waiting).await;
        Record {
            protocol: "udp",
            client: self.client.to_string(),
            bytes_in: self.there,
            bytes_out: self.back,
            duration_ms: (started.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            upstream: self.endpoint.to_string(),
            error: ended.err().map(|error| error.to_string()).unwrap_or_default(),
            ..Record::default()
        }
    }

    async fn carry(&mut self, mut waiting: mpsc::Receiver<Vec<u8>>) -> std::io::Result<()> {
        let any: SocketAddr =
            if self.endpoint.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let other = UdpSocket::bind(any).await?;
        other.connect(self.endpoint).await?;
        let mut buffer = vec![0u8; LARGEST];
        let token = self.token.clone();
        let (mut ending, mut asked) = (false, None);
        loop {
            let until = match asked {
                _ if !ending => Instant::now() + self.patience,
                Some(asked) => asked + LAST_ANSWER,
                None => return Ok(()),
            };
            tokio::select! {
                datagram = waiting.recv() => {
                    let Some(datagram) = datagram else { return Ok(()) };
                    other.send(&datagram).await?;
                    self.there += datagram.len() as u64;
                    asked = Some(Instant::now());
                }
                received = other.recv(&mut buffer) => {
                    let length = received?;
                    self.socket.send_to(&buffer[..length], self.client).await?;
                    self.back += length as u64;
                    self.metrics.bytes_out.fetch_add(length as u64, Ordering::Relaxed);
                    asked = None;
                }
                () = token.cancelled(), if !ending => ending = true,
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
    }
}
