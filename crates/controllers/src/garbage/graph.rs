//! Who owns whom, by UID.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::queue::Key;

/// An owner as its dependent names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: String,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// `blockOwnerDeletion`.
    pub blocks: bool,
}

/// What is known of an object that has owners or is being deleted.
#[derive(Clone, Debug)]
pub struct Node {
    /// Index of its kind.
    pub kind: u32,
    pub key: Key,
    /// Its resourceVersion.
    pub version: String,
    pub owners: Vec<Owner>,
    pub deleting: bool,
    /// Deleting, and holds the finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// Deleting, and holds the finalizer `orphan`.
    pub orphan: bool,
}

/// What an owner is to its dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It keeps them.
    Alive,
    /// It is being deleted in the foreground.
    WaitsForDependents,
    /// It is no more.
    Gone,
    /// Never seen.
    Unknown,
    /// Its UID is another's: of another kind, another name or another namespace.
    Elsewhere,
}

/// What is kept of every object: its kind, and a hash of its namespace and name.
#[derive(Clone, Copy)]
struct Seen {
    kind: u32,
    place: u32,
}

fn place(namespace: &str, name: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    (namespace, name).hash(&mut hasher);
    hasher.finish() as u32
}

#[derive(Default)]
pub struct Graph {
    alive: HashMap<String, Seen>,
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    /// Takes note of an object; returns the UIDs that are to be looked at because of it.
    pub fn insert(&mut self, uid: &str, node: Node) -> Vec<String> {
        let place = place(&node.key.namespace, &node.key.name);
        self.alive.insert(uid.to_owned(), Seen { kind: node.kind, place });
        let mut affected = Vec::new();
        if let Some(before) = self.nodes.remove(uid) {
            for owner in &before.owners {
                if !node.owners.iter().any(|o| o.uid == owner.uid) {
                    self.forget_dependent(&owner.uid, uid);
                    // A foreground deletion may have waited for this one.
                    affected.push(owner.uid.clone());
                }
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
        }
        if !node.owners.is_empty() || node.foreground || node.orphan {
            affected.push(uid.to_owned());
        }
        if !node.owners.is_empty() || node.deleting {
            self.nodes.insert(uid.to_owned(), node);
        }
        affected
    }

    /// An object is gone; returns its dependents, and its owners (which may have waited for it).
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        self.alive.remove(uid);
        let mut affected: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in node.owners {
                self.forget_dependent(&owner.uid, uid);
                affected.push(owner.uid);
            }
        }
        affected
    }

    /// The objects of a kind that a complete list no longer has.
    pub fn missing_of(&self, kind: u32, listed: &[String]) -> Vec<String> {
        let listed: HashSet<&str> = listed.iter().map(String::as_str).collect();
        self.alive
            .iter()
            .filter(|(uid, seen)| seen.kind == kind && !listed.contains(uid.as_str()))
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    pub fn knows(&self, uid: &str) -> bool {
        self.alive.contains_key(uid)
    }

    pub fn node(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    /// What `owner` is to an object in `namespace`, if it is of the kind that `is_kind` knows by its index.
    pub fn owner_state(&self, owner: &Owner, namespace: &str, is_kind: impl Fn(u32) -> bool) -> OwnerState {
        let Some(seen) = self.alive.get(&owner.uid) else { return OwnerState::Unknown };
        // Owners stand beside what they own, or in no namespace.
        let is_here = [namespace, ""].iter().any(|namespace| place(namespace, &owner.name) == seen.place);
        match self.nodes.get(&owner.uid) {
            _ if !is_here || !is_kind(seen.kind) => OwnerState::Elsewhere,
            Some(node) if node.foreground => OwnerState::WaitsForDependents,
            _ => OwnerState::Alive,
        }
    }

    /// Dependents, and whether each blocks its owner's deletion.
    pub fn dependents(&self, uid: &str) -> Vec<(String, bool)> {
        let blocks = |dependent: &String| {
            self.nodes.get(dependent).is_some_and(|n| n.owners.iter().any(|o| o.uid == uid && o.blocks))
        };
        self.dependents.get(uid).into_iter().flatten().map(|d| (d.clone(), blocks(d))).collect()
    }

    fn forget_dependent(&mut self, owner: &str, dependent: &str) {
        if let Some(all) = self.dependents.get_mut(owner) {
            all.remove(dependent);
            if all.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(owners: &[&str]) -> Node {
        let owner = |uid: &&str| Owner {
            uid: uid.to_string(),
            api_version: "v1".into(),
            kind: "K".into(),
            name: "x".into(),
            blocks: true,
        };
        Node {
            kind: 0,
            key: Key::new("n", "x"),
            version: "1".into(),
            owners: owners.iter().map(owner).collect(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    fn state(graph: &Graph, namespace: &str) -> OwnerState {
        graph.owner_state(&node(&["owner"]).owners[0], namespace, |kind| kind == 0)
    }

    #[test]
    fn an_owner_is_known_by_all_that_names_it() {
        let mut graph = Graph::default();
        graph.insert("owner", node(&[]));
        assert_eq!((state(&graph, "n"), state(&graph, "m")), (OwnerState::Alive, OwnerState::Elsewhere));
        graph.insert("owner", Node { kind: 1, ..node(&[]) });
        assert_eq!(state(&graph, "n"), OwnerState::Elsewhere);
        graph.insert("owner", Node { key: Key::new("", "x"), ..node(&[]) });
        assert_eq!(state(&graph, "m"), OwnerState::Alive, "an owner in no namespace is everyone's");
        graph.insert("owner", Node { key: Key::new("n", "y"), ..node(&[]) });
        assert_eq!(state(&graph, "n"), OwnerState::Elsewhere);
    }

    #[test]
    fn an_owners_end_concerns_its_dependents() {
        let mut graph = Graph::default();
        assert!(graph.insert("owner", node(&[])).is_empty());
        assert_eq!(graph.insert("child", node(&["owner"])), ["child"]);
        assert_eq!(state(&graph, "n"), OwnerState::Alive);
        assert_eq!(graph.remove("owner"), ["child"]);
        assert_eq!(state(&graph, "n"), OwnerState::Unknown);
    }

    #[test]
    fn a_dependents_end_concerns_an_owner_that_may_wait_for_it() {
        let mut graph = Graph::default();
        graph.insert("owner", Node { deleting: true, foreground: true, ..node(&[]) });
        graph.insert("child", node(&["owner"]));
        assert_eq!(state(&graph, "n"), OwnerState::WaitsForDependents);
        assert_eq!(graph.dependents("owner"), [("child".to_owned(), true)]);
        assert_eq!(graph.remove("child"), ["owner"]);
        assert!(graph.dependents("owner").is_empty());
    }

    #[test]
    fn what_a_complete_list_lacks_is_gone() {
        let mut graph = Graph::default();
        graph.insert("a", node(&[]));
        graph.insert("b", node(&[]));
        assert_eq!(graph.missing_of(0, &["b".into()]), ["a"]);
        assert!(graph.missing_of(1, &[]).is_empty());
    }
}
