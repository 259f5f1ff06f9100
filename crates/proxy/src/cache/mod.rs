//! An HTTP cache shared by all clients (RFC 9111).

mod fetch;
pub mod freshness;
mod store;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::address::Network;
use crate::config;

pub use fetch::Fetch;
pub(crate) use fetch::split_tags;
use store::Store;
pub use store::{Entry, Key};

/// A cache at work.
pub struct Cache {
    pub(crate) config: config::Cache,
    pub(crate) store: Store,
    purgers: Vec<Network>,
    pub(crate) hits: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) revalidated: AtomicU64,
    pub(crate) passed: AtomicU64,
}

/// What a cache did.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "they are told by the metrics' help")]
pub struct Counts {
    pub hits: u64,
    pub stale: u64,
    pub misses: u64,
    pub revalidated: u64,
    pub passed: u64,
    pub evicted: u64,
    pub bytes: u64,
    pub entries: u64,
}

impl Cache {
    /// An empty cache.
    pub fn new(config: config::Cache) -> Self {
        if config.disk.is_some() {
            tracing::warn!(cache = config.name, "there is no tier on disk yet: what leaves memory is fetched again");
        }
        Self {
            store: Store::new(&config),
            purgers: config.purge_from.iter().filter_map(|n| Network::parse(n)).collect(),
            hits: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            revalidated: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            config,
        }
    }

    /// What routes call it.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether who asks may purge.
    pub fn may_purge(&self, address: std::net::IpAddr) -> bool {
        self.purgers.iter().any(|network| network.contains(address))
    }

    /// What it did by now.
    pub fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (entries, bytes, evicted) = self.store.sizes();
        Counts {
            hits: load(&self.hits),
            stale: load(&self.stale),
            misses: load(&self.misses),
            revalidated: load(&self.revalidated),
            passed: load(&self.passed),
            evicted,
            bytes,
            entries,
        }
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}
