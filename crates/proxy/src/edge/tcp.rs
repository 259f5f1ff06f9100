//! TCP: a connection to an endpoint for each of a client's.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{Open, establish};
use super::{Worker, tunnel};
use crate::io::Input;
use crate::pool::Wish;

/// Attempts to connect, each to another endpoint where there is one.
const ATTEMPTS: usize = 3;

pub(super) async fn serve(worker: Rc<Worker>, at: SocketAddr, stream: TcpStream, peer: SocketAddr, open: Open) {
    let started = Instant::now();
    let Some(((stream, _), conn)) = establish(Rc::clone(&worker), at, stream, peer).await else { return };
    let Some((_site, listener)) = conn.now() else { return };
    let Some(pool) = listener.pool.clone() else { return };
    let Ok(_permit) = pool.admit().await else { return };
    let point = pool.config.ring.point(conn.peer_text.as_bytes());
    let mut tried = Vec::new();
    let mut error = "no endpoint of the pool is well".to_owned();
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let Some(lease) = pool.choose(&Wish { point, sticky: None, tried: &tried }) else { break };
        match pool.connector.connect(&lease.endpoint, conn.peer, conn.local).await {
            Ok(other) => {
                lease.endpoint.succeeded();
                found = Some((lease, other));
                break;
            }
            Err(failed) => {
                error = failed.to_string();
                pool.failed(&lease.endpoint);
                tried.push(lease.endpoint.id);
            }
        }
    }
    let mut record = serving::Record { protocol: "tcp", client: conn.peer.to_string(), ..Default::default() };
    if let Some((lease, other)) = found {
        let patience = listener.config.limits.tunnel_timeout.0;
        // Told as they go: a connection to a database may last for days.
        let count = |bytes: usize, forth: bool| {
            let sum = if forth { &listener.metrics.bytes_in } else { &listener.metrics.bytes_out };
            sum.fetch_add(bytes as u64, Ordering::Relaxed);
        };
        let (there, back) = tunnel::carry(&stream, Input::default(), &other, Input::default(), patience, count).await;
        (record.bytes_in, record.bytes_out) = (there, back);
        record.upstream = lease.endpoint.address.to_string();
    } else {
        record.error = error;
    }
    let log = &worker.shared.log;
    if log.is_on() {
        record.duration_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        log.write(record);
    }
    drop(open);
}
