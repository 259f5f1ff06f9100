//! Objects as trees for a moment after they were written. What is new is changed at once (a pod is bound, then reported
//! running), and to read it from its bytes again would be a third of such a change.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use api::resource::Resource;
use parking_lot::Mutex;
use serde_json::Value;
use store::Revision;
use tokio::time::Instant;

use crate::{cache::Cached, version};

/// How long a tree is kept.
const LIFE: Duration = Duration::from_secs(1);
/// How many are kept.
const MOST: usize = 512;
/// The largest object that is kept, in bytes.
const LARGEST: usize = 16 << 10;

/// The trees of the objects that were written last.
#[derive(Default)]
pub(crate) struct Trees(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    trees: HashMap<Arc<str>, (Revision, Value)>,
    /// All that were kept, the oldest first.
    order: VecDeque<(Instant, Arc<str>, Revision)>,
    /// Someone will look for those whose time is over.
    swept: bool,
}

impl Trees {
    /// Keeps what was stored below `key`, of `size` bytes, with `revision`.
    pub fn keep(&self, resource: &Resource, key: &Arc<str>, revision: Revision, size: usize, mut tree: Value) {
        // Kinds with a status are written in steps.
        if size > LARGEST || !version::is_stored(resource) || resource.subresource("status").is_none() {
            return;
        }
        tree["metadata"]["resourceVersion"] = revision.to_string().into();
        let mut kept = self.0.lock();
        let oldest = if kept.order.len() == MOST { kept.drop_oldest() } else { None };
        let older = kept.trees.insert(key.clone(), (revision, tree));
        kept.order.push_back((Instant::now(), key.clone(), revision));
        let sweeps = !std::mem::replace(&mut kept.swept, true);
        drop(kept);
        drop((oldest, older));
        if sweeps {
            tokio::spawn(sweep(Arc::clone(&self.0)));
        }
    }

    /// The tree of a stored object in the served version: the one that was kept, which is not kept any longer, or as read
    /// from the bytes.
    pub fn take(&self, resource: &Resource, stored: &Cached) -> Value {
        let mut kept = self.0.lock();
        if kept.trees.get(&stored.key).is_some_and(|(revision, _)| *revision == stored.revision)
            && let Some((_, tree)) = kept.trees.remove(&stored.key)
        {
            drop(kept);
            debug_assert_eq!(tree, stored.parse());
            return tree;
        }
        drop(kept);
        version::served_tree(resource, stored)
    }
}

impl Kept {
    /// Takes out those whose time is over at `now`.
    fn drop_old(&mut self, now: Instant) -> Vec<Value> {
        let mut old = Vec::new();
        while self.order.front().is_some_and(|(since, ..)| now - *since >= LIFE) {
            old.extend(self.drop_oldest());
        }
        old
    }

    fn drop_oldest(&mut self) -> Option<Value> {
        let (_, key, revision) = self.order.pop_front()?;
        match self.trees.get(&key) {
            Some((present, _)) if *present == revision => self.trees.remove(&key).map(|(_, tree)| tree),
            _ => None,
        }
    }
}

/// Drops what was kept for long enough, until nothing is kept.
async fn sweep(kept: Arc<Mutex<Kept>>) {
    loop {
        tokio::time::sleep(LIFE).await;
        let (old, done) = {
            let mut kept = kept.lock();
            let old = kept.drop_old(Instant::now());
            let done = kept.order.is_empty();
            if done {
                // Its room, too.
                *kept = Kept::default();
            }
            (old, done)
        };
        drop(old);
        if done {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(key: &Arc<str>, revision: Revision) -> (Value, Cached) {
        let tree = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": &**key, "resourceVersion": revision.to_string()}});
        (tree.clone(), Cached::new(key.clone(), tree.to_string().into(), revision))
    }

    fn sizes(trees: &Trees) -> (usize, usize) {
        let kept = trees.0.lock();
        (kept.trees.len(), kept.order.len())
    }

    #[tokio::test]
    async fn a_tree_is_kept_for_a_moment_and_given_once() {
        let pods = api::catalogue::all().iter().find(|r| r.kind == "Pod").expect("there are pods");
        let trees = Trees::default();
        let key: Arc<str> = "/registry/pods/default/p".into();
        let (tree, object) = stored(&key, 7);
        trees.keep(pods, &key, 7, 100, tree.clone());
        let (_, newer) = stored(&key, 8);
        assert_eq!(trees.take(pods, &newer)["metadata"]["resourceVersion"], "8", "another version is read");
        assert_eq!(trees.0.lock().trees.len(), 1);
        assert_eq!(trees.take(pods, &object), tree);
        assert!(trees.0.lock().trees.is_empty());
        assert_eq!(trees.take(pods, &object), tree, "from its bytes");

        trees.keep(pods, &key, 7, LARGEST + 1, tree.clone());
        let maps = api::catalogue::all().iter().find(|r| r.kind == "ConfigMap").expect("there are ConfigMaps");
        trees.keep(maps, &key, 7, 100, tree);
        assert!(trees.0.lock().trees.is_empty());

        for n in 0..2 * MOST as u64 {
            let key: Arc<str> = format!("/registry/pods/default/{n}").into();
            trees.keep(pods, &key, n, 100, stored(&key, n).0);
        }
        assert_eq!(sizes(&trees), (MOST, MOST));
        let now = Instant::now();
        assert!(trees.0.lock().drop_old(now).is_empty());
        assert_eq!(trees.0.lock().drop_old(now + LIFE).len(), MOST);
        assert_eq!(sizes(&trees), (0, 0));
    }
}
