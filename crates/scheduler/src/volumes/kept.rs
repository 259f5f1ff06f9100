//! The objects of a kind, as a watch shows them.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Resource, runtime::watcher};

/// Namespace (empty for the cluster's own) and name.
pub(crate) type Name = (String, String);

/// All objects of a kind.
#[derive(Clone)]
pub(crate) struct Kept<K> {
    objects: BTreeMap<Name, K>,
    /// What the list under way has shown; what it doesn't show is gone when it ends.
    listed: BTreeSet<Name>,
    known: bool,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listed: BTreeSet::new(), known: false }
    }
}

impl<K: Resource> Kept<K> {
    /// Takes in what the watch says; whether anything may have changed.
    pub fn hear(&mut self, event: watcher::Event<K>) -> bool {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(object) => {
                self.listed.insert(name(&object));
                self.put(object);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.objects.retain(|name, _| listed.contains(name));
                self.known = true;
                return true;
            }
            watcher::Event::Apply(object) => {
                self.put(object);
                return true;
            }
            watcher::Event::Delete(object) => {
                self.objects.remove(&name(&object));
                return true;
            }
        }
        false
    }

    fn put(&mut self, mut object: K) {
        object.meta_mut().managed_fields = None;
        self.objects.insert(name(&object), object);
    }

    /// Whether a complete list has been seen.
    pub fn known(&self) -> bool {
        self.known
    }

    pub fn get(&self, name: &Name) -> Option<&K> {
        self.objects.get(name)
    }

    pub fn all(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }
}

fn name(object: &impl Resource) -> Name {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
