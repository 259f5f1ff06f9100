//! Stored responses, in bounded memory: what is asked for most stays (W-TinyLFU, by `moka`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::freshness::Lifetime;
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
        self.vary.iter().all(|(name, value)| joined(request, name) == *value)
    }

    fn size(&self) -> usize {
        std::mem::size_of::<Self>()
            + self.text.len()
            + self.fields.len() * std::mem::size_of::<Field>()
            + self.body.len()
    }
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
}

/// Variants of one URL that are kept.
const VARIANTS: usize = 64;

impl Store {
    pub(super) fn new(config: &config::Cache) -> Self {
        let evicted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evicted);
        let weigh = |key: &Key, variants: &Variants| {
            let size: usize = variants.iter().map(|e| e.size()).sum();
            u32::try_from(key.len() + size + 200).unwrap_or(u32::MAX)
        };
        let entries =
            Cache::builder().max_capacity(config.memory.0).weigher(weigh).eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        let unstorable = Cache::builder().max_capacity(10_000).time_to_live(std::time::Duration::from_secs(30));
        Self { entries: entries.build(), unstorable: unstorable.build(), under_way: Mutex::default(), evicted }
    }

    pub(super) fn sizes(&self) -> (u64, u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size(), self.evicted.load(Ordering::Relaxed))
    }

    /// What is stored for a request like this.
    pub(crate) fn find(&self, key: &[u8], request: &Request) -> Option<Arc<Entry>> {
        let variants = self.entries.get(key)?;
        variants.iter().find(|entry| entry.fits(request)).cloned()
    }

    pub(crate) fn insert(&self, key: &Key, entry: Entry) {
        self.unstorable.invalidate(key);
        let entry = Arc::new(entry);
        self.entries.entry(Arc::clone(key)).and_upsert_with(|known| {
            let known = known.map(|k| k.into_value()).unwrap_or_default();
            let others = known.iter().filter(|e| e.vary != entry.vary).take(VARIANTS - 1).cloned();
            Arc::new(std::iter::once(Arc::clone(&entry)).chain(others).collect())
        });
    }

    pub(crate) fn remove(&self, key: &[u8]) -> bool {
        self.entries.remove(key).is_some()
    }

    /// Drops whatever bears one of the tags. Returns how many URLs that were.
    pub(crate) fn remove_tagged(&self, tags: &[String]) -> usize {
        let bears = |variants: &Variants| variants.iter().any(|e| e.tags.iter().any(|t| tags.contains(t)));
        let keys: Vec<Key> = self.entries.iter().filter(|(_, v)| bears(v)).map(|(key, _)| Key::clone(&key)).collect();
        for key in &keys {
            self.entries.invalidate(key);
        }
        keys.len()
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
