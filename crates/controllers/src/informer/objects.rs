//! The objects of a kind by name, and by the object that controls them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{Resource, ResourceExt};

use crate::{ownership::controller_of, queue::Key};

/// Who controls an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Controller {
    Uid(String),
    /// Nobody; adoptable by what lives in this namespace.
    NobodyIn(String),
}

impl Controller {
    fn of(object: &impl Resource) -> Self {
        match controller_of(object) {
            Some(owner) => Self::Uid(owner.uid.clone()),
            None => Self::NobodyIn(object.namespace().unwrap_or_default()),
        }
    }
}

/// The cache's content.
pub struct Objects<K> {
    all: BTreeMap<Key, Arc<K>>,
    by_controller: HashMap<Controller, BTreeSet<Key>>,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), by_controller: HashMap::new() }
    }
}

impl<K: Resource> Objects<K> {
    /// Takes an object in; returns what had its name.
    pub fn insert(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let key = Key::of(&*object);
        let before = self.remove(&key);
        self.by_controller.entry(Controller::of(&*object)).or_default().insert(key.clone());
        self.all.insert(key, object);
        before
    }

    /// Takes it out.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let object = self.all.remove(key)?;
        let controller = Controller::of(&*object);
        if let Some(keys) = self.by_controller.get_mut(&controller) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_controller.remove(&controller);
            }
        }
        Some(object)
    }

    pub fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.all.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<K>)> {
        self.all.iter()
    }

    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        let from = Key::new(namespace, "");
        self.all.range(from..).take_while(move |(k, _)| k.namespace == namespace).map(|(_, o)| o)
    }

    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.under(&Controller::Uid(uid.to_owned()))
    }

    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.under(&Controller::NobodyIn(namespace.to_owned()))
    }

    fn under(&self, controller: &Controller) -> Vec<Arc<K>> {
        let keys = self.by_controller.get(controller);
        keys.into_iter().flatten().filter_map(|key| self.all.get(key).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: Option<&str>) -> Arc<Pod> {
        let owners: Vec<_> = owner
            .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}))
            .into_iter()
            .collect();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": owners}}))
                .unwrap(),
        )
    }

    #[test]
    fn objects_are_found_by_who_controls_them_and_move_when_that_changes() {
        let mut objects = Objects::default();
        objects.insert(pod("a", Some("u")));
        objects.insert(pod("b", None));
        let names = |found: Vec<Arc<Pod>>| found.iter().map(|p| p.name_any()).collect::<Vec<_>>();
        assert_eq!(names(objects.controlled_by("u")), ["a"]);
        assert_eq!(names(objects.orphans("n")), ["b"]);
        objects.insert(pod("a", None));
        assert!(objects.controlled_by("u").is_empty());
        assert_eq!(names(objects.orphans("n")), ["a", "b"]);
        objects.remove(&Key::new("n", "a"));
        assert_eq!(names(objects.orphans("n")), ["b"]);
    }
}
