//! What a controller has done but its cache does not show yet. Acting before it shows would do it twice.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::queue::Key;

#[derive(Default)]
struct Pending {
    /// The newest version among the pods created.
    version: u64,
    /// UIDs of pods whose deletion was asked for.
    deleted: HashSet<String>,
}

/// By the object on whose behalf things were done.
#[derive(Default)]
pub struct Expectations(Mutex<HashMap<Key, Pending>>);

impl Expectations {
    /// A pod was created and got this version.
    pub fn created(&self, key: &Key, version: u64) {
        let mut all = self.0.lock();
        let pending = all.entry(key.clone()).or_default();
        pending.version = pending.version.max(version);
    }

    /// A pod's deletion was asked for.
    pub fn deleted(&self, key: &Key, uid: &str) {
        self.0.lock().entry(key.clone()).or_default().deleted.insert(uid.to_owned());
    }

    /// Whether the cache shows all of it: `seen` tells whether a version has been seen, `lives` whether a pod of
    /// that UID is in the cache and not yet being deleted.
    pub fn met(&self, key: &Key, seen: impl Fn(u64) -> bool, lives: impl Fn(&str) -> bool) -> bool {
        let mut all = self.0.lock();
        let Some(pending) = all.get_mut(key) else { return true };
        pending.deleted.retain(|uid| lives(uid));
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
        assert!(expectations.met(&key, |_| false, |_| true));
        expectations.created(&key, 7);
        expectations.deleted(&key, "u1");
        assert!(!expectations.met(&key, |v| v <= 6, |_| true));
        assert!(!expectations.met(&key, |v| v <= 7, |_| true));
        assert!(expectations.met(&key, |v| v <= 7, |_| false));
        assert!(expectations.met(&key, |_| false, |_| true));
    }
}
