//! `PURGE`: what is stored is dropped, here and at the other replicas.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answers::answer;
use super::exchange::Exchange;
use super::reply::Reply;
use super::upstream::{Failure, Served};
use crate::address::host_port;
use crate::cache::{Cache, Key, split_tags};
use crate::replica;

/// Says that the request comes from a replica, which has told all the others itself.
const RELAYED: &str = "hythe-purge-relayed";
/// A replica that does not answer for so long has not purged.
const PATIENCE: Duration = Duration::from_secs(5);

/// Drops a URL, or whatever bears one of the tags that the request names; answers when it is gone everywhere.
pub(super) async fn purge(
    cache: &Arc<Cache>,
    x: &Exchange<'_>,
    key: &Key,
    reply: &mut Reply<'_>,
) -> Result<Served, Failure> {
    let peers = &cache.config.purge_peers;
    let relayed = !peers.is_empty() && x.request.header(RELAYED).is_some();
    let allowed =
        cache.may_purge(x.client) || (relayed && addresses(x, peers).await.0.iter().any(|peer| is_at(peer, x.client)));
    let (status, text) = if !allowed {
        (403, "who asks may not purge".to_owned())
    } else if relayed || peers.is_empty() {
        (200, format!("purged {}", here(cache, x, key).await))
    } else {
        // One after the other: the replica is among its own peers, and would count twice what both purges find.
        let purged = here(cache, x, key).await;
        let (others, missing) = elsewhere(cache, x).await;
        match missing.is_empty() {
            true => (200, format!("purged {}", purged + others)),
            false => (502, format!("purged {}, but not at {}", purged + others, missing.join(", "))),
        }
    };
    answer(x, reply, status, &text, &[]).await
}

async fn here(cache: &Arc<Cache>, x: &Exchange<'_>, key: &Key) -> usize {
    let named = cache.config.tag_headers.iter().filter_map(|name| x.request.header(&name.to_ascii_lowercase()));
    let tags: Vec<String> = named.flat_map(split_tags).collect();
    // What is on disk must be gone when the answer says so.
    let (store, key) = (Arc::clone(cache), Arc::clone(key));
    let purging = tokio::task::spawn_blocking(move || match tags.is_empty() {
        true => usize::from(store.store.purge(&key)),
        false => store.store.purge_tagged(&tags),
    });
    purging.await.unwrap_or(0)
}

/// Has the other replicas do the same. Returns how much they had, and which of them can't be said to have done it.
async fn elsewhere(cache: &Cache, x: &Exchange<'_>) -> (usize, Vec<String>) {
    let (addresses, mut missing) = addresses(x, &cache.config.purge_peers).await;
    let mut request = b"PURGE ".to_vec();
    request.extend_from_slice(x.request.target());
    request.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    request.extend_from_slice(x.request.host.of(&x.request.text));
    for name in &cache.config.tag_headers {
        if let Some(value) = x.request.header(&name.to_ascii_lowercase()) {
            request.extend_from_slice(format!("\r\n{name}: ").as_bytes());
            request.extend_from_slice(value);
        }
    }
    request.extend_from_slice(format!("\r\n{RELAYED}: 1\r\nconnection: close\r\n\r\n").as_bytes());
    let keeps = cache.config.disk.is_some();
    let each = join_all(addresses.iter().map(|address| one(*address, &request, keeps))).await;
    let mut purged = 0;
    for (address, answer) in addresses.iter().zip(each) {
        match answer {
            Ok(count) => purged += count,
            Err(error) => {
                tracing::warn!(replica = %address, %error, "a replica did not purge");
                missing.push(address.to_string());
            }
        }
    }
    (purged, missing)
}

async fn one(address: SocketAddr, request: &[u8], keeps: bool) -> io::Result<usize> {
    let asked = async {
        let mut stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            // Nobody is there, and memory alone went with whoever was.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && !keeps => return Ok(0),
            Err(error) => return Err(error),
        };
        let answer = replica::ask(&mut stream, request).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let count = text.split_whitespace().find_map(|word| word.parse().ok());
        match (answer.status, count) {
            (200, Some(count)) => Ok(count),
            _ => Err(io::Error::other(format!("status {}: {}", answer.status, text.trim()))),
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The replicas' addresses now, and the names that have none that could be learnt.
async fn addresses(x: &Exchange<'_>, peers: &[String]) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut all, mut missing) = (Vec::new(), Vec::new());
    for peer in peers {
        // The configuration was checked.
        let Some((host, port)) = host_port(peer) else { continue };
        match x.site.names.addresses(host).await {
            Ok(found) => all.extend(found.records.into_iter().map(|address| SocketAddr::new(address, port))),
            Err(error) => {
                tracing::warn!(%error, "replicas that should purge are not known");
                missing.push(peer.clone());
            }
        }
    }
    all.sort();
    all.dedup();
    (all, missing)
}

fn is_at(peer: &SocketAddr, client: IpAddr) -> bool {
    peer.ip().to_canonical() == client.to_canonical()
}
