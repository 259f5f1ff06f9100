//! Pools: who serves, who of them is well, and who is next.

pub mod balance;
pub mod connect;
pub mod discovery;
mod endpoint;
pub mod health;
mod reuse;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hash_ring::{Placement, Ring};
use names::Names;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Balance};
use discovery::Source;

pub use balance::Wish;
pub use connect::{ConnectError, Connector};
pub use endpoint::{Endpoint, Lease, digest, now_millis};
pub use reuse::{Idle, reuse, shelve};

/// A pool at work.
pub struct Pool {
    /// Tells its connections from those of a pool that had the same name before.
    pub id: u64,
    /// What it was told.
    pub config: config::Pool,
    /// How its endpoints are connected to.
    pub connector: Connector,
    members: RwLock<Arc<Members>>,
    turn: AtomicUsize,
    slots: Option<Semaphore>,
    pending: AtomicUsize,
    /// Requests refused because the pool was full.
    pub overflows: AtomicU64,
    /// Requests for which there was no endpoint.
    pub empty: AtomicU64,
    /// Attempts after the first.
    pub retries: AtomicU64,
    /// What has to be looked up.
    sources: Vec<Source>,
    /// Whether it is known who is there: a name was looked up, or there is none.
    looked: watch::Sender<bool>,
    ended: CancellationToken,
}

/// The endpoints of a moment.
#[derive(Default)]
pub struct Members {
    /// All of them.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Indices in the order of their turns, for `balance: weighted`.
    pub turns: Vec<u16>,
    /// Their places, for `balance: hash`.
    pub ring: Option<Ring>,
}

impl Members {
    /// These endpoints, with what the pool's way of balancing needs to know of them.
    pub fn new(config: &config::Pool, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let weights = || endpoints.iter().map(|e| e.weight()).collect::<Vec<_>>();
        let turns = if config.balance == Balance::Weighted { balance::turns(&weights()) } else { Vec::new() };
        let ring = (config.balance == Balance::Hash).then(|| {
            let named = endpoints.iter().zip(balance::bounded(&weights()));
            let named = named.map(|(e, weight)| hash_ring::Member::new(ring_name(config, &endpoints, e), weight));
            Ring::new(config.ring.distribution, &named.collect::<Vec<_>>())
        });
        Self { endpoints, turns, ring }
    }
}

/// What an endpoint is known by on the ring: as it is configured, so that it keeps its keys when its address changes, or
/// by its address where several have one name.
fn ring_name(config: &config::Pool, endpoints: &[Arc<Endpoint>], endpoint: &Endpoint) -> String {
    let alone = endpoints.iter().filter(|e| e.authority == endpoint.authority).count() == 1;
    let address = endpoint.address.ip().to_string();
    let host = if alone { endpoint.host.as_str() } else { address.as_str() };
    match config.ring.distribution {
        Placement::NginxConsistent if host.contains(':') => format!("[{host}]:{}", endpoint.address.port()),
        Placement::NginxConsistent => format!("{host}:{}", endpoint.address.port()),
        _ => hash_ring::twemproxy_name(host, endpoint.address.port()),
    }
}

/// An endpoint as configuration or discovery names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub address: SocketAddr,
    /// What it is called: for TLS and `Host`.
    pub host: String,
    /// Its share.
    pub weight: u32,
    /// It gets nothing new.
    pub drain: bool,
}

/// The pool has no room, and enough wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool is full")]
pub struct Full;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Pool {
    /// A pool; endpoints that `former` knew by the same address keep their health and counts.
    ///
    /// # Errors
    /// When files that TLS needs cannot be read.
    pub fn new(config: config::Pool, former: Option<&Self>) -> Result<Arc<Self>, String> {
        let connector = Connector::new(&config)?;
        let slots = (config.max_requests > 0).then(|| Semaphore::new(config.max_requests));
        let known: Vec<Member> = former
            .filter(|former| former.config.discovery == config.discovery || config.discovery.is_none())
            .map(|former| former.members().endpoints.iter().map(|e| e.member()).collect())
            .unwrap_or_default();
        let sources = Source::all(&config.endpoints, config.discovery.as_ref(), &known);
        let looked = sources.is_empty() || sources.iter().any(|source| !source.known().is_empty());
        let pool = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            connector,
            members: RwLock::new(former.map(Self::members).unwrap_or_default()),
            turn: AtomicUsize::new(0),
            slots,
            pending: AtomicUsize::new(0),
            overflows: AtomicU64::new(0),
            empty: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            sources,
            looked: watch::Sender::new(looked),
            ended: CancellationToken::new(),
            config,
        };
        let mut members = pool.fixed_members();
        members.extend(pool.sources.iter().flat_map(|source| source.known().iter().cloned()));
        pool.set_members(&members);
        Ok(Arc::new(pool))
    }

    /// Endpoints that need no looking up.
    fn fixed_members(&self) -> Vec<Member> {
        let fixed = |endpoint: &config::Endpoint| {
            let (host, port) = crate::address::host_port(&endpoint.address)?;
            let address = SocketAddr::new(host.parse().ok()?, port);
            Some(Member { address, host: host.to_owned(), weight: endpoint.weight, drain: endpoint.drain })
        };
        self.config.endpoints.iter().filter_map(fixed).collect()
    }

    /// Starts what keeps the pool true: look-ups and health checks. They end with the pool.
    pub fn start(self: &Arc<Self>, names: &Names) {
        let pool = Arc::downgrade(self);
        discovery::follow(names, self.fixed_members(), self.sources.clone(), &self.ended, move |members| {
            if let Some(pool) = pool.upgrade() {
                pool.set_members(members);
                pool.looked.send_replace(true);
            }
        });
        if self.config.health.is_some() {
            health::start(self, self.ended.clone());
        }
    }

    /// Waits until something is known of who is there, for as long as a connection may take. Costs nothing afterwards.
    pub async fn looked(&self) {
        if !self.sources.is_empty() && !*self.looked.borrow() {
            let known = async { self.looked.subscribe().wait_for(|looked| *looked).await.is_ok() };
            let _ = tokio::time::timeout(self.config.connect_timeout.0, known).await;
        }
    }

    /// The endpoints of this moment.
    pub fn members(&self) -> Arc<Members> {
        self.members.read().clone()
    }

    /// Takes these for the endpoints. Those that stay keep what is known of them.
    pub fn set_members(&self, members: &[Member]) {
        let former = self.members();
        let known: HashMap<(SocketAddr, &str), &Arc<Endpoint>> =
            former.endpoints.iter().map(|e| ((e.address, e.host.as_str()), e)).collect();
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(members.len());
        for member in members {
            if endpoints.iter().any(|e| e.address == member.address && e.host == member.host) {
                continue;
            }
            let endpoint = known.get(&(member.address, member.host.as_str())).map_or_else(
                || {
                    // The first ones of a pool have not been restarted; there is nothing to be slow for.
                    let fresh = !former.endpoints.is_empty();
                    Arc::new(Endpoint::new(member, fresh))
                },
                |endpoint| Arc::clone(endpoint),
            );
            endpoint.set(member.weight, member.drain);
            endpoints.push(endpoint);
        }
        *self.members.write() = Arc::new(Members::new(&self.config, endpoints));
    }

    /// The next endpoint. `None`: none is there, or none is well.
    pub fn choose(&self, wish: &Wish<'_>) -> Option<Lease> {
        let members = self.members.read();
        let now = now_millis();
        let turn = || self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = balance::choose(&self.config, &members, wish, now, turn, rand::random)
            // One that is left out for a while is better than none, or than one that failed this very request.
            .or_else(|| balance::choose(&self.config, &members, wish, u64::MAX, turn, rand::random));
        let Some(chosen) = chosen else {
            self.empty.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        Some(Lease::new(Arc::clone(&members.endpoints[chosen])))
    }

    /// Waits for room, and in the beginning for names to be looked up. Where nothing bounds the pool this costs nothing.
    ///
    /// # Errors
    /// [`Full`], at once when enough wait already, or when it took too long.
    pub async fn admit(&self) -> Result<Option<SemaphorePermit<'_>>, Full> {
        self.looked().await;
        let Some(slots) = &self.slots else { return Ok(None) };
        if let Ok(permit) = slots.try_acquire() {
            return Ok(Some(permit));
        }
        let full = || {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            Full
        };
        if self.pending.fetch_add(1, Ordering::AcqRel) >= self.config.max_pending {
            self.pending.fetch_sub(1, Ordering::AcqRel);
            return Err(full());
        }
        let waited = tokio::time::timeout(self.config.pending_timeout.0, slots.acquire()).await;
        self.pending.fetch_sub(1, Ordering::AcqRel);
        match waited {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(full()),
        }
    }

    /// An endpoint failed a request or a connection: whether it is now left out for a while.
    pub fn failed(&self, endpoint: &Endpoint) -> bool {
        let outlier = &self.config.outlier;
        if !endpoint.failed(outlier.failures) {
            return false;
        }
        let members = self.members();
        let now = now_millis();
        let out = members.endpoints.iter().filter(|e| e.is_ejected(now)).count() + 1;
        if out >= members.endpoints.len() || out * 100 > members.endpoints.len() * outlier.max_percent as usize {
            return false;
        }
        endpoint.eject(now, outlier.ejection.0);
        tracing::warn!(pool = self.config.name, endpoint = %endpoint.address, "endpoint is left out for a while: it failed {} times in a row", outlier.failures);
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
