//! Stored responses, in bounded memory: what is asked for most stays (W-TinyLFU, by `moka`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::disk::{Disk, Drop};
use super::freshness::Lifetime;
use super::now;
use crate::config;
use crate::http1::{Field, Request};

/// What a response is stored under: scheme, host and target.
pub type Key = Arc<[u8]>;

/// A stored response.
#[derive(Debug)]
pub struct Entry {
    /// Its status.
    pub status: u16,
    /// The text of its fields.
    pub text: Vec<u8>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Its body.
    pub body: Bytes,
    /// For how long it may be used.
    pub lifetime: Lifetime,
    /// When it arrived, in milliseconds since 1970.
    pub stored: u64,
    /// Fields of the request that it depends on, with the values it is for.
    pub vary: Vec<(String, Option<Vec<u8>>)>,
    /// What it can be purged by.
    pub tags: Vec<String>,
}

impl Entry {
    /// The value of its first field of a name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|f| f.name.of(&self.text).eq_ignore_ascii_case(name.as_bytes()))
            .map(|f| f.value.of(&self.text))
    }

    /// Whether it is for a request like this.
    pub fn fits(&self, request: &Request) -> bool {
        fits(&self.vary, request)
    }

    /// Whether it can still be of use: it may be served, or there is something to renew it by.
    pub fn has_use(&self, now: u64) -> bool {
        let Lifetime { initial_age, fresh, stale_while_revalidate, stale_if_error, .. } = self.lifetime;
        let age = initial_age.saturating_add(now.saturating_sub(self.stored));
        age < fresh.saturating_add(stale_while_revalidate.max(stale_if_error))
            || self.header("etag").is_some()
            || self.header("last-modified").is_some()
    }

    fn size(&self) -> usize {
        std::mem::size_of::<Self>()
            + self.text.len()
            + self.fields.len() * std::mem::size_of::<Field>()
            + self.body.len()
    }
}

/// Whether what a response depends on is as it was.
pub(super) fn fits(vary: &[(String, Option<Vec<u8>>)], request: &Request) -> bool {
    vary.iter().all(|(name, value)| joined(request, name) == *value)
}

/// All values of a field of a request, as one list; spaces around its elements do not matter (RFC 9111 section 4.1).
pub(super) fn joined(request: &Request, name: &str) -> Option<Vec<u8>> {
    let mut all: Option<Vec<u8>> = None;
    for field in request.fields.iter().filter(|f| f.name.of(&request.text).eq_ignore_ascii_case(name.as_bytes())) {
        let all = all.get_or_insert_default();
        for element in field.value.of(&request.text).split(|b| *b == b',') {
            if !all.is_empty() {
                all.push(b',');
            }
            all.extend_from_slice(element.trim_ascii());
        }
    }
    all
}

type Variants = Arc<Vec<Arc<Entry>>>;

pub(crate) struct Store {
    entries: Cache<Key, Variants>,
    /// What lately could not be stored: others need not wait for it.
    unstorable: Cache<Key, ()>,
    under_way: Mutex<HashMap<Key, watch::Receiver<()>>>,
    evicted: Arc<AtomicU64>,
    /// Grows with everything that is dropped.
    epoch: AtomicU64,
    /// In which epoch URLs were dropped: what was asked for before is not stored after.
    dropped: Cache<Key, u64>,
    dropped_tags: Mutex<DroppedTags>,
    disk: Arc<OnceLock<Arc<Disk>>>,
}

#[derive(Default)]
struct DroppedTags {
    /// The latest, with their epochs.
    latest: VecDeque<(Vec<String>, u64)>,
    /// Nothing with tags that was asked for before is stored: who knows what was dropped then.
    floor: u64,
}

/// Variants of one URL that are kept.
pub(super) const VARIANTS: usize = 64;

impl Store {
    pub(super) fn new(config: &config::Cache) -> Self {
        let disk: Arc<OnceLock<Arc<Disk>>> = Arc::default();
        let evicted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evicted);
        let weigh = |key: &Key, variants: &Variants| {
            let size: usize = variants.iter().map(|e| e.size()).sum();
            u32::try_from(key.len() + size + 200).unwrap_or(u32::MAX)
        };
        let below = Arc::clone(&disk);
        let evict = move |key: Arc<Key>, variants: Variants, cause| {
            if cause == RemovalCause::Size {
                counter.fetch_add(1, Ordering::Relaxed);
                let now = now();
                if let Some(disk) = below.get() {
                    variants.iter().filter(|entry| entry.has_use(now)).for_each(|entry| disk.offer(&key, entry));
                }
            }
        };
        let entries = Cache::builder().max_capacity(config.memory.0).weigher(weigh).eviction_listener(evict);
        let lately = Duration::from_secs(600);
        Self {
            entries: entries.build(),
            unstorable: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(30)).build(),
            under_way: Mutex::default(),
            evicted,
            epoch: AtomicU64::new(1),
            dropped: Cache::builder().max_capacity(100_000).time_to_live(lately).build(),
            dropped_tags: Mutex::default(),
            disk,
        }
    }

    pub(super) fn sizes(&self) -> (u64, u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size(), self.evicted.load(Ordering::Relaxed))
    }

    pub(super) fn disk(&self) -> Option<&Arc<Disk>> {
        self.disk.get()
    }

    /// What is stored from now on is stored there too.
    pub(super) fn use_disk(&self, disk: Arc<Disk>) {
        // It is called once, when the cache starts.
        let _ = self.disk.set(disk);
    }

    /// What is stored for a request like this, and whether it came from disk.
    pub(crate) async fn find(&self, key: &Key, request: &Request) -> Option<(Arc<Entry>, bool)> {
        let variants = self.entries.get(key);
        let Some(disk) = self.disk() else {
            return variants?.iter().find(|entry| entry.fits(request)).map(|entry| (Arc::clone(entry), false));
        };
        disk.asked(key);
        if let Some(entry) = variants.and_then(|all| all.iter().find(|entry| entry.fits(request)).cloned()) {
            return Some((entry, false));
        }
        let found = disk.find(key, request)?;
        let began = self.epoch();
        let again = found.again;
        let (disk, path) = (Arc::clone(disk), Arc::clone(key));
        let entry = tokio::task::spawn_blocking(move || disk.read(&path, &found)).await.ok()??;
        if !self.may_keep(key, &entry, began) {
            return None;
        }
        if again {
            self.keep(key, &entry);
        }
        Some((entry, true))
    }

    /// Counts what is dropped: a fetch that begins now may store what it gets until something is dropped that it is of.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Stores what was asked for in epoch `began`, unless it was dropped since.
    pub(crate) fn insert(&self, key: &Key, entry: Arc<Entry>, began: u64) {
        self.unstorable.invalidate(key);
        if !self.may_keep(key, &entry, began) {
            return;
        }
        self.keep(key, &entry);
        if let Some(disk) = self.disk() {
            disk.offer(key, &entry);
        }
        // Dropped between the look and the storing.
        if !self.may_keep(key, &entry, began) {
            self.forget(key);
        }
    }

    fn may_keep(&self, key: &Key, entry: &Entry, began: u64) -> bool {
        if self.epoch() == began {
            return true;
        }
        if self.dropped.get(key).is_some_and(|epoch| epoch > began) {
            return false;
        }
        if entry.tags.is_empty() {
            return true;
        }
        let tags = self.dropped_tags.lock();
        began >= tags.floor
            && !tags.latest.iter().any(|(tags, epoch)| *epoch > began && entry.tags.iter().any(|t| tags.contains(t)))
    }

    /// Keeps a response in memory, in place of an older one.
    fn keep(&self, key: &Key, entry: &Arc<Entry>) {
        self.entries.entry(Arc::clone(key)).and_upsert_with(|known| {
            let known = known.map(|k| k.into_value()).unwrap_or_default();
            if known.iter().any(|e| e.vary == entry.vary && e.stored > entry.stored) {
                return known;
            }
            let others = known.iter().filter(|e| e.vary != entry.vary).take(VARIANTS - 1).cloned();
            Arc::new(std::iter::once(Arc::clone(entry)).chain(others).collect())
        });
    }

    /// Drops a URL that has changed.
    pub(crate) fn forget(&self, key: &Key) {
        self.drop_from_memory(key);
        if let Some(disk) = self.disk() {
            disk.remove(&Drop::Key(key), false);
        }
    }

    /// Drops a URL, so that it is not there after a restart either. Blocks while the disk works. Returns whether it was there.
    pub(crate) fn purge(&self, key: &Key) -> bool {
        let known = self.drop_from_memory(key);
        self.disk().is_some_and(|disk| disk.remove(&Drop::Key(key), true) > 0) || known
    }

    fn drop_from_memory(&self, key: &Key) -> bool {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        self.dropped.insert(Arc::clone(key), epoch);
        self.entries.remove(key).is_some()
    }

    /// Drops whatever bears one of the tags. Blocks. Returns how many URLs that were.
    pub(crate) fn purge_tagged(&self, tags: &[String]) -> usize {
        {
            let mut dropped = self.dropped_tags.lock();
            let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
            dropped.latest.push_back((tags.to_vec(), epoch));
            if dropped.latest.len() > 64
                && let Some((_, epoch)) = dropped.latest.pop_front()
            {
                dropped.floor = epoch;
            }
        }
        let bears = |variants: &Variants| variants.iter().any(|e| e.tags.iter().any(|t| tags.contains(t)));
        let keys: Vec<Key> = self.entries.iter().filter(|(_, v)| bears(v)).map(|(key, _)| Key::clone(&key)).collect();
        let dropped = keys.iter().filter(|key| self.entries.remove(*key).is_some()).count();
        let below = self.disk().map(|disk| disk.remove(&Drop::Tags(tags), true));
        // Most are on both, and who asks wants to know that something was there.
        dropped.max(below.unwrap_or(0))
    }

    pub(crate) fn mark_unstorable(&self, key: &Key) {
        self.unstorable.insert(Arc::clone(key), ());
    }

    /// Begins to fetch something, or tells whom to wait for. Dropping the sender tells the others.
    pub(crate) fn begin(&self, key: &Key) -> Result<Option<watch::Sender<()>>, watch::Receiver<()>> {
        if self.unstorable.contains_key(key) {
            return Ok(None);
        }
        let mut under_way = self.under_way.lock();
        if let Some(receiver) = under_way.get(key).filter(|r| r.has_changed().is_ok()) {
            return Err(receiver.clone());
        }
        let (sender, receiver) = watch::channel(());
        under_way.insert(Arc::clone(key), receiver);
        Ok(Some(sender))
    }

    pub(crate) fn done(&self, key: &Key) {
        let mut under_way = self.under_way.lock();
        under_way.remove(key);
    }
}
