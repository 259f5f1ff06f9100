//! What a controller has done but its cache does not show yet. Acting before it shows would do it twice.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::queue::Key;

#[derive(Default)]
struct Pending {
    /// The newest version among the pods written.
    version: u64,
    /// UIDs of pods whose deletion was asked for, and their names.
    deleted: HashMap<String, Key>,
}

/// By the object on whose behalf things were done.
#[derive(Default)]
pub struct Expectations(Mutex<HashMap<Key, Pending>>);

impl Expectations {
    /// A pod was made or changed and got this version.
    pub fn wrote(&self, key: &Key, version: u64) {
        let mut all = self.0.lock();
        let pending = all.entry(key.clone()).or_default();
        pending.version = pending.version.max(version);
    }

    /// A pod's deletion is about to be asked for.
    pub fn deletes(&self, key: &Key, pod: Key, uid: &str) {
        self.0.lock().entry(key.clone()).or_default().deleted.insert(uid.to_owned(), pod);
    }

    /// It was refused.
    pub fn does_not_delete(&self, key: &Key, uid: &str) {
        if let Some(pending) = self.0.lock().get_mut(key) {
            pending.deleted.remove(uid);
        }
    }

    /// Whether the cache shows all of it: `seen` tells whether a version has been seen, `lives` whether a pod of
    /// that name and UID is in the cache and not yet being deleted.
    pub fn met(&self, key: &Key, seen: impl Fn(u64) -> bool, lives: impl Fn(&Key, &str) -> bool) -> bool {
        let mut all = self.0.lock();
        let Some(pending) = all.get_mut(key) else { return true };
        pending.deleted.retain(|uid, pod| lives(pod, uid));
        let met = seen(pending.version) && pending.deleted.is_empty();
        if met {
            all.remove(key);
        }
        met
    }

    /// The object is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_waited_for_until_the_cache_shows_it() {
        let expectations = Expectations::default();
        let key = Key::new("n", "rs");
        assert!(expectations.met(&key, |_| false, |_, _| true));
        expectations.wrote(&key, 7);
        expectations.deletes(&key, Key::new("n", "p"), "u1");
        assert!(!expectations.met(&key, |v| v <= 6, |_, _| true));
        assert!(!expectations.met(&key, |v| v <= 7, |_, _| true));
        assert!(expectations.met(&key, |v| v <= 7, |_, _| false));
        assert!(expectations.met(&key, |_| false, |_, _| true));
    }

    #[test]
    fn a_refused_deletion_is_not_waited_for() {
        let expectations = Expectations::default();
        let key = Key::new("n", "rs");
        expectations.deletes(&key, Key::new("n", "p"), "u1");
        expectations.does_not_delete(&key, "u1");
        assert!(expectations.met(&key, |_| true, |_, _| true));
    }
}
