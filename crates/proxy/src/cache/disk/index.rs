//! Which file stands for what.

use std::collections::HashMap;

use crate::cache::store::VARIANTS;
use crate::cache::{Entry, Key};

/// A file.
#[derive(Debug)]
pub(super) struct Record {
    id: u64,
    /// On disk.
    size: u64,
    stored: u64,
    vary: Vec<(String, Option<Vec<u8>>)>,
    tags: Vec<String>,
    /// Its place among all.
    slot: usize,
}

impl Record {
    pub(super) fn new(id: u64, size: u64, entry: &Entry) -> Self {
        Self { id, size, stored: entry.stored, vary: entry.vary.clone(), tags: entry.tags.clone(), slot: 0 }
    }
}

/// All files, by what they stand for.
#[derive(Debug, Default)]
pub(super) struct Index {
    records: HashMap<Key, Vec<Record>>,
    /// All of them in no order, so that some can be drawn.
    slots: Vec<(Key, u64)>,
    bytes: u64,
}

/// How many are looked at to find one that is worth little.
const DRAWN: usize = 8;

impl Index {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The latest variant that fits.
    pub(super) fn find(&self, key: &[u8], fits: impl Fn(&[(String, Option<Vec<u8>>)]) -> bool) -> Option<u64> {
        let fitting = self.records.get(key)?.iter().filter(|record| fits(&record.vary));
        fitting.max_by_key(|record| record.stored).map(|record| record.id)
    }

    /// Whether just this is there.
    pub(super) fn has(&self, key: &[u8], entry: &Entry) -> bool {
        self.same(key, entry).is_some_and(|record| record.stored == entry.stored)
    }

    /// Whether a later one of the same is there.
    pub(super) fn has_newer(&self, key: &[u8], entry: &Entry) -> bool {
        self.same(key, entry).is_some_and(|record| record.stored > entry.stored)
    }

    fn same(&self, key: &[u8], entry: &Entry) -> Option<&Record> {
        self.records.get(key)?.iter().find(|record| record.vary == entry.vary)
    }

    /// Takes out what an entry stands in place of. Returns the files.
    pub(super) fn replace(&mut self, key: &Key, entry: &Entry) -> Vec<u64> {
        let older = self.same(key, entry).map(|record| record.id);
        older.into_iter().filter(|id| self.remove(key, *id)).collect()
    }

    /// Adds a file. Returns those that it replaces.
    pub(super) fn insert(&mut self, key: &Key, entry: &Entry, mut record: Record) -> Vec<u64> {
        let mut gone = self.replace(key, entry);
        let oldest = self.records.get(key).filter(|all| all.len() >= VARIANTS).and_then(|all| {
            let oldest = all.iter().min_by_key(|record| record.stored);
            oldest.map(|record| record.id)
        });
        gone.extend(oldest.filter(|id| self.remove(key, *id)));
        record.slot = self.slots.len();
        self.slots.push((Key::clone(key), record.id));
        self.bytes += record.size;
        self.records.entry(Key::clone(key)).or_default().push(record);
        gone
    }

    /// Takes a file out. Returns whether it was there.
    pub(super) fn remove(&mut self, key: &[u8], id: u64) -> bool {
        let Some(all) = self.records.get_mut(key) else { return false };
        let Some(at) = all.iter().position(|record| record.id == id) else { return false };
        let record = all.swap_remove(at);
        if all.is_empty() {
            self.records.remove(key);
        }
        self.bytes -= record.size;
        self.slots.swap_remove(record.slot);
        if let Some((moved, id)) = self.slots.get(record.slot)
            && let Some(moved) = self.records.get_mut(moved).and_then(|all| all.iter_mut().find(|r| r.id == *id))
        {
            moved.slot = record.slot;
        }
        true
    }

    /// Takes out all variants of a URL. Returns how many URLs that were, and the files.
    pub(super) fn remove_key(&mut self, key: &[u8]) -> (usize, Vec<u64>) {
        let ids: Vec<u64> = self.records.get(key).into_iter().flatten().map(|record| record.id).collect();
        for id in &ids {
            self.remove(key, *id);
        }
        (usize::from(!ids.is_empty()), ids)
    }

    /// Takes out the URLs of which a variant bears one of the tags.
    pub(super) fn remove_tagged(&mut self, tags: &[String]) -> (usize, Vec<u64>) {
        let bears = |all: &[Record]| all.iter().any(|record| record.tags.iter().any(|tag| tags.contains(tag)));
        let keys: Vec<Key> =
            self.records.iter().filter(|(_, all)| bears(all)).map(|(key, _)| Key::clone(key)).collect();
        let ids = keys.iter().flat_map(|key| self.remove_key(key).1).collect();
        (keys.len(), ids)
    }

    /// Of a few that are drawn the one that is worth least, and how much that is.
    pub(super) fn victim(&self, worth: impl Fn(&[u8]) -> u8) -> Option<(Key, u64, u8)> {
        if self.slots.is_empty() {
            return None;
        }
        let drawn = (0..DRAWN).map(|_| &self.slots[rand::random_range(0..self.slots.len())]);
        drawn.map(|(key, id)| (Key::clone(key), *id, worth(key))).min_by_key(|(_, _, worth)| *worth)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn entry(stored: u64, vary: &str) -> Entry {
        Entry {
            status: 200,
            text: Vec::new(),
            fields: Vec::new(),
            body: Default::default(),
            lifetime: Default::default(),
            stored,
            vary: vec![("x".into(), Some(vary.into()))],
            tags: vec![format!("tag-{vary}")],
        }
    }

    fn key(n: u64) -> Key {
        Arc::from(n.to_string().as_bytes())
    }

    #[test]
    fn places_and_bytes_stay_true_whatever_is_added_and_removed() {
        let mut index = Index::default();
        for id in 0..400 {
            let entry = entry(id, &(id % 3).to_string());
            index.insert(&key(id % 40), &entry, Record::new(id, 10, &entry));
            if id % 7 == 0 {
                index.remove(&key(id % 40), id);
            }
            if id % 50 == 0 {
                index.remove_key(&key(3));
            }
            let all: usize = index.records.values().map(Vec::len).sum();
            assert_eq!((all, index.bytes), (index.slots.len(), all as u64 * 10));
            for (key, records) in &index.records {
                assert!(records.iter().all(|r| index.slots[r.slot] == (key.clone(), r.id)));
                assert!(!records.is_empty());
            }
        }
        let (urls, files) = index.remove_tagged(&["tag-1".to_owned()]);
        assert!(urls > 0 && files.len() >= urls);
        assert!(index.records.values().flatten().all(|r| r.tags != ["tag-1"]));
    }

    #[test]
    fn what_is_asked_for_least_goes_first() {
        let mut index = Index::default();
        assert!(index.victim(|_| 0).is_none());
        for id in 0..4 {
            let entry = entry(id, "a");
            index.insert(&key(id), &entry, Record::new(id, 10, &entry));
        }
        let cold = key(2);
        // Of 8 drawn of 4, the cold one is missing once in ten times.
        let found = (0..200).filter(|_| index.victim(|k| u8::from(*k != *cold)).unwrap().1 == 2).count();
        assert!(found > 120, "{found}");
    }
}
