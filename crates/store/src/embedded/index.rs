//! What the store knows in memory: where each version of each key lies in the log, and the values that
//! were written or asked for last. As etcd's tree index, it holds keys but not (all) values.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::log::Place;
use crate::{Entry, Error, Revision};

/// All versions of all keys that can still be read.
pub(super) struct Index {
    keys: BTreeMap<Arc<str>, Slot>,
    /// Versions that nothing needs once `since` is before the oldest readable revision; `since` ascends.
    superseded: VecDeque<Superseded>,
    cache: Cache,
    /// Of the last committed transaction.
    pub revision: Revision,
    /// The oldest revision that can be read.
    pub oldest: Revision,
}

/// The versions of one key.
struct Slot {
    latest: Version,
    /// The latest value, if it is in memory.
    value: Option<Bytes>,
    /// Read since the cache last looked.
    touched: AtomicBool,
    /// Before `latest`, ascending.
    older: VecDeque<Version>,
}

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub place: Place,
    /// 0 marks a deletion.
    pub create_revision: Revision,
}

struct Superseded {
    since: Revision,
    key: Arc<str>,
    place: Place,
}

/// An entry whose value may have to be fetched.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub key: Arc<str>,
    pub version: Version,
    pub value: Option<Bytes>,
}

impl Index {
    pub fn new(cache_bytes: usize) -> Self {
        Self {
            keys: BTreeMap::new(),
            superseded: VecDeque::new(),
            cache: Cache { queue: VecDeque::new(), bytes: 0, budget: cache_bytes },
            revision: 0,
            oldest: 0,
        }
    }

    /// The revision to read: checks that `at` is neither forgotten nor to come.
    pub fn readable(&self, at: Option<Revision>) -> Result<Revision, Error> {
        match at {
            Some(asked) if asked < self.oldest => Err(Error::Compacted { asked, oldest: self.oldest }),
            Some(asked) if asked > self.revision => Err(Error::Future { asked, current: self.revision }),
            Some(asked) => Ok(asked),
            None => Ok(self.revision),
        }
    }

    /// The latest version of a key.
    pub fn latest(&self, key: &str) -> Option<Found> {
        let (key, slot) = self.keys.get_key_value(key)?;
        slot.found(key, Revision::MAX)
    }

    /// The version of a key that was the latest at a revision.
    pub fn at(&self, key: &str, revision: Revision) -> Option<Found> {
        let (key, slot) = self.keys.get_key_value(key)?;
        slot.found(key, revision)
    }

    /// The keys in `start..end` at a revision: at most `limit` (0: all), and how many follow.
    pub fn range(&self, start: &str, end: &str, revision: Revision, limit: usize) -> (Vec<Found>, u64) {
        if start >= end {
            return (Vec::new(), 0);
        }
        let mut slots = self.keys.range::<str, _>((Bound::Included(start), Bound::Excluded(end)));
        let mut page = Vec::new();
        while limit == 0 || page.len() < limit {
            let Some((key, slot)) = slots.next() else { break };
            page.extend(slot.found(key, revision));
        }
        let remaining = slots.filter(|(_, slot)| slot.version_at(revision).is_some_and(Version::live)).count();
        (page, remaining as u64)
    }

    /// Takes in one change. Revisions never go down.
    pub fn apply(&mut self, key: &Arc<str>, version: Version, value: Option<Bytes>) {
        self.revision = self.revision.max(version.place.revision);
        let since = version.place.revision;
        let size = value.as_ref().map(Bytes::len);
        match self.keys.get_mut(&**key) {
            Some(slot) => {
                if slot.latest.live() {
                    let place = slot.latest.place;
                    self.superseded.push_back(Superseded { since, key: key.clone(), place });
                }
                slot.older.push_back(slot.latest);
                slot.latest = version;
                slot.value = value;
            }
            None => {
                let slot = Slot { latest: version, value, touched: AtomicBool::new(false), older: VecDeque::new() };
                self.keys.insert(key.clone(), slot);
            }
        }
        if !version.live() {
            self.superseded.push_back(Superseded { since, key: key.clone(), place: version.place });
        }
        if let Some(size) = size {
            self.cached(key.clone(), version.place, size);
        }
    }

    /// Remembers a value that was fetched, unless the key has changed since.
    pub fn remember(&mut self, key: &Arc<str>, place: Place, value: &Bytes) {
        if let Some(slot) = self.keys.get_mut(&**key)
            && slot.latest.place == place
            && slot.value.is_none()
        {
            slot.value = Some(value.clone());
            self.cached(key.clone(), place, value.len());
        }
    }

    /// Forgets what only reads and watches before `oldest` need, and says which rows that frees: at most
    /// `limit`, so that nobody waits long; call again until none are left.
    pub fn compact(&mut self, oldest: Revision, limit: usize) -> Vec<Place> {
        self.oldest = self.oldest.max(oldest);
        let count = self.superseded.partition_point(|s| s.since < self.oldest).min(limit);
        let mut freed = Vec::with_capacity(count);
        for gone in self.superseded.drain(..count) {
            freed.push(gone.place);
            let Some(slot) = self.keys.get_mut(&*gone.key) else { continue };
            if slot.latest.place == gone.place {
                self.keys.remove(&*gone.key);
            } else if slot.older.front().is_some_and(|v| v.place == gone.place) {
                slot.older.pop_front();
                if slot.older.is_empty() {
                    slot.older.shrink_to_fit();
                }
            }
        }
        if self.superseded.len() * 4 < self.superseded.capacity() {
            self.superseded.shrink_to_fit();
        }
        freed
    }

    /// The budget of values kept in memory, in bytes.
    pub fn cache_budget(&self) -> usize {
        self.cache.budget
    }

    fn cached(&mut self, key: Arc<str>, place: Place, size: usize) {
        let size = size + CACHE_OVERHEAD;
        self.cache.bytes += size;
        self.cache.queue.push_back((key, place, size));
        while self.cache.bytes > self.cache.budget {
            let Some((key, place, size)) = self.cache.queue.pop_front() else { break };
            // Versions that were replaced have left their slot already; the queue merely counted them.
            let current = self.keys.get_mut(&*key).filter(|slot| slot.latest.place == place);
            match current {
                Some(slot) if slot.touched.swap(false, Ordering::Relaxed) && slot.value.is_some() => {
                    self.cache.queue.push_back((key, place, size));
                }
                Some(slot) => {
                    slot.value = None;
                    self.cache.bytes -= size;
                }
                None => self.cache.bytes -= size,
            }
        }
    }
}

/// What a cached value takes beside its bytes, so that many small ones count too.
const CACHE_OVERHEAD: usize = 64;

/// Values in memory, first in first out, with a second chance for those that were read.
struct Cache {
    queue: VecDeque<(Arc<str>, Place, usize)>,
    bytes: usize,
    budget: usize,
}

impl Slot {
    fn version_at(&self, revision: Revision) -> Option<&Version> {
        if self.latest.place.revision <= revision {
            return Some(&self.latest);
        }
        let later = self.older.partition_point(|v| v.place.revision <= revision);
        self.older.get(later.checked_sub(1)?)
    }

    fn found(&self, key: &Arc<str>, revision: Revision) -> Option<Found> {
        let version = *self.version_at(revision).filter(|v| v.live())?;
        let mut value = None;
        if version.place == self.latest.place {
            self.touched.store(true, Ordering::Relaxed);
            value = self.value.clone();
        }
        Some(Found { key: key.clone(), version, value })
    }
}

impl Version {
    /// Whether this is a put.
    pub fn live(&self) -> bool {
        self.create_revision != 0
    }
}

impl Found {
    /// The entry, if its value is at hand.
    pub fn entry(&self) -> Option<Entry> {
        Some(Entry {
            key: self.key.clone(),
            value: self.value.clone()?,
            create_revision: self.version.create_revision,
            mod_revision: self.version.place.revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(revision: Revision) -> Place {
        Place { revision, part: 0 }
    }

    fn put(index: &mut Index, key: &str, revision: Revision, create: Revision) {
        let version = Version { place: place(revision), create_revision: create };
        index.apply(&Arc::from(key), version, Some(Bytes::from(vec![0; 10])));
    }

    fn delete(index: &mut Index, key: &str, revision: Revision) {
        index.apply(&Arc::from(key), Version { place: place(revision), create_revision: 0 }, None);
    }

    fn seen(index: &Index, key: &str, at: Revision) -> Option<Revision> {
        index.at(key, at).map(|f| f.version.place.revision)
    }

    #[test]
    fn each_revision_sees_the_version_of_its_time() {
        let mut index = Index::new(1000);
        put(&mut index, "a", 1, 1);
        put(&mut index, "a", 3, 1);
        delete(&mut index, "a", 5);
        put(&mut index, "a", 7, 7);
        let all: Vec<_> = (0..=8).map(|at| seen(&index, "a", at)).collect();
        assert_eq!(all, [None, Some(1), Some(1), Some(3), Some(3), None, None, Some(7), Some(7)]);
    }

    #[test]
    fn compaction_frees_what_no_later_read_or_watch_needs() {
        let mut index = Index::new(1000);
        put(&mut index, "a", 1, 1);
        put(&mut index, "a", 3, 1);
        delete(&mut index, "a", 5);
        // A watch from 3 still shows version 1 as the one before.
        assert_eq!(index.compact(3, 100), []);
        assert_eq!(index.compact(4, 100), [place(1)]);
        // A watch from 5 still shows the deletion and what was deleted.
        assert_eq!(index.compact(5, 100), []);
        assert_eq!(index.compact(6, 100), [place(3), place(5)]);
        assert!(index.keys.is_empty(), "a deleted key leaves nothing behind");
    }

    #[test]
    fn compaction_spares_a_key_that_came_back() {
        let mut index = Index::new(1000);
        put(&mut index, "a", 1, 1);
        delete(&mut index, "a", 2);
        put(&mut index, "a", 3, 3);
        assert_eq!(index.compact(3, 100), [place(1), place(2)]);
        assert_eq!(seen(&index, "a", 3), Some(3));
    }

    #[test]
    fn the_cache_stays_within_its_budget_and_keeps_what_is_read() {
        let mut index = Index::new(3 * (10 + CACHE_OVERHEAD));
        put(&mut index, "hot", 1, 1);
        for revision in 2..100 {
            assert!(index.latest("hot").is_some_and(|f| f.value.is_some()), "lost before revision {revision}");
            put(&mut index, &format!("cold{revision}"), revision, revision);
            let held: usize = index.keys.values().filter_map(|s| s.value.as_ref()).map(Bytes::len).sum();
            assert!(held <= 30, "{held} bytes held");
        }
        assert!(index.latest("cold2").is_some_and(|f| f.value.is_none()));
    }

    #[test]
    fn a_page_says_how_many_keys_follow() {
        let mut index = Index::new(1000);
        for (i, key) in ["a", "b", "c", "d"].iter().enumerate() {
            put(&mut index, key, i as u64 + 1, i as u64 + 1);
        }
        delete(&mut index, "c", 5);
        let (page, remaining) = index.range("a", "z", 5, 1);
        assert_eq!((page.len(), remaining), (1, 2));
        let (page, remaining) = index.range("b", "d", 4, 0);
        assert_eq!((page.len(), remaining), (2, 0));
    }
}
