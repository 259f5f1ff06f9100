//! The cache of one kind: its objects in key order, and the last changes for watches to start from.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use parking_lot::RwLock;
use store::Revision;
use tokio::sync::watch;

use super::{
    ROOT,
    object::{Cached, Change, Selectable},
    ring::{Limits, Ring},
    route::Routes,
};

/// What is kept of the changes of one kind.
const KEPT: Limits = Limits { changes: 4096, bytes: 4 << 20 };

pub(crate) struct KindCache {
    /// `/registry/{storage prefix}/`.
    pub root: String,
    /// Whether keys have a namespace segment.
    pub namespaced: bool,
    /// Field selectors.
    pub selectable: Selectable,
    inner: RwLock<Inner>,
    changed: watch::Sender<Revision>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<Arc<str>, Arc<Cached>>,
    per_namespace: HashMap<Box<str>, usize>,
    ring: Ring,
    /// Revision of the last change.
    last: Revision,
    routes: Routes,
}

/// Objects as they were at one moment.
pub(crate) struct Snapshot {
    /// In key order.
    pub objects: Vec<Arc<Cached>>,
    /// Revision of the last change in it.
    pub last: Revision,
    /// Whether more objects follow (only with a limit).
    pub more: bool,
    /// Objects of the namespace (or of the kind, for all namespaces).
    pub total: usize,
}

/// What a watcher finds after its position.
pub(crate) enum Tail {
    /// These changes, maybe none, in order; not necessarily all.
    Changes(Vec<Arc<Change>>),
    /// Some are no longer kept.
    Gone,
}

impl KindCache {
    pub fn new(prefix: &'static str, namespaced: bool, selectable: Selectable) -> KindCache {
        KindCache {
            root: format!("{ROOT}{prefix}/"),
            namespaced,
            selectable,
            inner: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// The store's key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> Arc<str> {
        let mut key = String::with_capacity(self.root.len() + namespace.len() + name.len() + 1);
        key.push_str(&self.root);
        if self.namespaced {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name);
        key.into()
    }

    /// The prefix of keys of a namespace; of all when empty.
    pub fn prefix(&self, namespace: &str) -> String {
        if namespace.is_empty() || !self.namespaced { self.root.clone() } else { format!("{}{namespace}/", self.root) }
    }

    /// The namespace in a key of this kind; empty for cluster scope.
    pub fn namespace_of<'k>(&self, key: &'k str) -> &'k str {
        if !self.namespaced {
            return "";
        }
        key.get(self.root.len()..).and_then(|rest| rest.split_once('/')).map_or("", |(ns, _)| ns)
    }

    /// The name in a key of this kind.
    pub fn name_of<'k>(&self, key: &'k str) -> &'k str {
        key.rsplit('/').next().unwrap_or("")
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Cached>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// One object by name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<Cached>> {
        self.get(&self.key(namespace, name))
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Up to `limit` (0: all) objects of a namespace (empty: all) after the key `after`, that satisfy `wanted`.
    pub fn snapshot(
        &self,
        namespace: &str,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&Cached) -> bool,
    ) -> Snapshot {
        let prefix = self.prefix(namespace);
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix.as_str()),
        };
        let inner = self.inner.read();
        let mut total = if namespace.is_empty() || !self.namespaced {
            inner.objects.len()
        } else {
            inner.per_namespace.get(namespace).copied().unwrap_or(0)
        };
        let mut objects = Vec::with_capacity(if limit == 0 { total } else { limit.min(total) });
        let mut more = false;
        let mut range = inner.objects.range::<str, _>((start, Bound::Unbounded));
        while let Some((key, object)) = range.next() {
            if !key.starts_with(&prefix) {
                break;
            }
            if !wanted(object) {
                continue;
            }
            if limit != 0 && objects.len() == limit {
                more = true;
                if after.is_some() {
                    total = objects.len() + 1 + range.take_while(|(key, _)| key.starts_with(&prefix)).count();
                }
                break;
            }
            objects.push(object.clone());
        }
        Snapshot { objects, last: inner.last, more, total }
    }

    /// Whether watchers of one value of [`FIELD`](super::route::FIELD) are told apart.
    pub fn is_routed(&self) -> bool {
        Routes::apply_to(self.selectable)
    }

    /// Changes after `position`, at most `max`; those that concern a value of the routed field, if one is given.
    pub fn tail(&self, route: Option<&str>, position: Revision, max: usize) -> Tail {
        let inner = self.inner.read();
        let changes = inner.ring_of(route).and_then(|ring| ring.tail(position));
        changes.map_or(Tail::Gone, |changes| Tail::Changes(whole_revisions(changes, max)))
    }

    /// Whether [`KindCache::tail`] can start from there.
    pub fn covers(&self, route: Option<&str>, position: Revision) -> bool {
        self.inner.read().ring_of(route).is_some_and(|ring| ring.covers(position))
    }

    /// Revision of the last change; of the last that concerns a value of the routed field, if one is given.
    pub fn last(&self, route: Option<&str>) -> Revision {
        let inner = self.inner.read();
        route.map_or(inner.last, |value| inner.routes.ring(value).map_or(0, Ring::last))
    }

    /// Wakes on every change, or on those that concern a value of the routed field. What was given here is to be
    /// given to the other methods: a route is kept as long as the receiver is.
    pub fn changes(&self, route: Option<&str>) -> watch::Receiver<Revision> {
        let Some(value) = route else { return self.changed.subscribe() };
        let mut inner = self.inner.write();
        let Inner { routes, ring, .. } = &mut *inner;
        routes.subscribe(value, self.selectable, ring)
    }

    /// Starts over from these objects, which are the state at `revision`. Watchers from before must list again.
    pub fn reset(&self, entries: impl Iterator<Item = store::Entry>, revision: Revision) {
        let mut inner = self.inner.write();
        *inner = Inner { ring: Ring::after(revision), ..Inner::default() };
        for entry in entries {
            inner.last = inner.last.max(entry.mod_revision);
            *inner.per_namespace.entry(self.namespace_of(&entry.key).into()).or_default() += 1;
            let object = Arc::new(Cached::new(entry.key.clone(), entry.value, entry.mod_revision));
            inner.objects.insert(entry.key, object);
        }
        drop(inner);
        self.changed.send_replace(revision);
    }

    /// Takes one batch of the store's events in; wakes nobody yet.
    pub fn apply(&self, events: impl Iterator<Item = store::Event>) {
        let mut inner = self.inner.write();
        for event in events {
            let change = match event.current {
                Some(entry) => {
                    let object = Arc::new(Cached::new(entry.key.clone(), entry.value, entry.mod_revision));
                    let previous = inner.objects.insert(entry.key, object.clone());
                    if previous.is_none() {
                        *inner.per_namespace.entry(self.namespace_of(&object.key).into()).or_default() += 1;
                    }
                    Change::put(object, previous)
                }
                None => {
                    let Some(previous) = event.previous.and_then(|p| inner.objects.remove(&p.key)) else { continue };
                    let namespace = self.namespace_of(&previous.key);
                    if let Some(count) = inner.per_namespace.get_mut(namespace) {
                        *count -= 1;
                        if *count == 0 {
                            inner.per_namespace.remove(namespace);
                        }
                    }
                    Change::delete(previous, event.revision)
                }
            };
            inner.last = change.revision;
            let change = Arc::new(change);
            inner.routes.take(&change, self.selectable);
            inner.ring.push(change, KEPT);
        }
    }

    /// Lets go of the changes up to `revision`.
    pub fn forget(&self, revision: Revision) {
        let mut inner = self.inner.write();
        inner.ring.forget(revision);
        inner.routes.forget(revision);
    }

    /// Tells those who wait.
    pub fn wake(&self) {
        if self.changed.receiver_count() > 0 {
            self.changed.send_replace(self.last(None));
        }
        if self.is_routed() && self.inner.read().routes.any() {
            self.inner.write().routes.wake();
        }
    }
}

impl Inner {
    /// The changes of the kind, or of a value of the routed field while that is watched.
    fn ring_of(&self, route: Option<&str>) -> Option<&Ring> {
        route.map_or(Some(&self.ring), |value| self.routes.ring(value))
    }
}

/// The first `max` changes. A revision is never split: whoever remembers only the revision must have seen all of it.
fn whole_revisions<'c>(changes: impl Iterator<Item = &'c Arc<Change>>, max: usize) -> Vec<Arc<Change>> {
    let mut out: Vec<Arc<Change>> = Vec::new();
    for change in changes {
        if out.len() >= max && out.last().is_some_and(|last| last.revision != change.revision) {
            break;
        }
        out.push(change.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{iter, sync::Weak};

    use bytes::Bytes;

    use super::*;

    /// Puts a pod of a node, and hands back what is kept of it.
    fn put(cache: &KindCache, revision: Revision) -> Weak<Cached> {
        let key: Arc<str> = "/registry/pods/ns/pod".into();
        let value = Bytes::from_static(br#"{"metadata":{"name":"pod"},"spec":{"nodeName":"node"}}"#);
        let entry = store::Entry { key: key.clone(), value, create_revision: 1, mod_revision: revision };
        cache.apply(iter::once(store::Event { revision, current: Some(entry), previous: None }));
        Arc::downgrade(&cache.get(&key).expect("it was put just now"))
    }

    #[test]
    fn what_is_forgotten_is_told_to_nobody_and_held_by_nobody() {
        let cache = KindCache::new("pods", true, &[(super::super::ROUTED_FIELD, "/spec/nodeName")]);
        let _routed = cache.changes(Some("node"));
        let versions: Vec<_> = [1, 2, 3].into_iter().map(|revision| put(&cache, revision)).collect();
        cache.forget(2);
        for route in [None, Some("node")] {
            assert!(matches!(cache.tail(route, 1, 9), Tail::Gone), "{route:?}");
            let Tail::Changes(left) = cache.tail(route, 2, 9) else { panic!("{route:?}: the third is kept") };
            assert_eq!(left.iter().map(|change| change.revision).collect::<Vec<_>>(), [3]);
        }
        assert!(versions[0].upgrade().is_none(), "the first version is held");
        cache.forget(3);
        assert!(versions[1].upgrade().is_none(), "the second version is held");
        assert!(versions[2].upgrade().is_some(), "what is there stays");
        assert!(cache.covers(None, 3) && cache.covers(Some("node"), 3), "whoever has seen the last change goes on");
    }
}
