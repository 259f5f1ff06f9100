//! An HTTP cache shared by all clients (RFC 9111).

pub(crate) mod date;
mod disk;
mod fetch;
pub mod freshness;
pub(crate) mod range;
mod store;
mod targeted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::address::Network;
use crate::config;

use disk::Disk;
pub use disk::DiskCounts;
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
    pub disk: Option<DiskCounts>,
}

impl Cache {
    /// An empty cache. It has no tier on disk until it is [started](Self::start).
    pub fn new(config: config::Cache) -> Self {
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

    /// Opens its tier on disk, if it has one. What `former` has in the same place goes on.
    pub fn start(&self, former: Option<&Self>) {
        let Some(disk) = &self.config.disk else { return };
        let kept = former.filter(|f| f.config.disk.as_ref().is_some_and(|d| d.path == disk.path));
        if let Some(kept) = kept.and_then(|f| f.store.disk()) {
            kept.resize(disk.size.0);
            return self.store.use_disk(Arc::clone(kept));
        }
        match Disk::open(disk) {
            Ok(opened) => self.store.use_disk(opened),
            Err(error) => {
                let (cache, path) = (self.name(), disk.path.display());
                tracing::warn!(cache, %path, %error, "no tier on disk: memory alone is used");
            }
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
            disk: match (self.store.disk(), &self.config.disk) {
                (Some(disk), _) => Some(disk.counts()),
                // It is told that the tier is down.
                (None, Some(_)) => Some(DiskCounts::default()),
                (None, None) => None,
            },
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
