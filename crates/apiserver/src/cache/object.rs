//! One object and one change, shared by everyone who reads them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use store::Revision;

use crate::{encode, protobuf, scan};

/// Field selectors of a kind: (label, JSON pointer).
pub(crate) type Selectable = &'static [(&'static str, &'static str)];

/// An object as stored.
pub(crate) struct Cached {
    /// The store's key.
    pub key: Arc<str>,
    /// The stored bytes: JSON with its resourceVersion.
    pub bytes: Bytes,
    /// Its resourceVersion.
    pub revision: Revision,
    /// What selectors look at, taken from the bytes when a selector first asks.
    facts: OnceLock<Value>,
}

impl Cached {
    pub fn new(key: Arc<str>, bytes: Bytes, revision: Revision) -> Cached {
        Cached { key, bytes, revision, facts: OnceLock::new() }
    }

    /// The object as a tree.
    pub fn parse(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("the store holds only what was encoded from a tree")
    }

    /// The object cut down to its name, labels and selectable fields.
    pub fn facts(&self, selectable: Selectable) -> &Value {
        self.facts.get_or_init(|| {
            let always = ["/metadata/name", "/metadata/namespace", "/metadata/labels"];
            let pointers: Vec<&str> =
                always.into_iter().chain(selectable.iter().map(|(_, pointer)| *pointer)).collect();
            scan::pick(&self.bytes, &pointers)
        })
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

impl ChangeKind {
    /// As a watch event's `type`.
    pub fn word(self) -> &'static str {
        match self {
            ChangeKind::Added => "ADDED",
            ChangeKind::Modified => "MODIFIED",
            ChangeKind::Deleted => "DELETED",
        }
    }
}

/// One change of one object.
pub(crate) struct Change {
    /// The revision of the change.
    pub revision: Revision,
    /// What happened, to someone who sees all objects.
    pub kind: ChangeKind,
    /// The object after the change; after a delete its last state with the revision of the delete.
    pub object: Arc<Cached>,
    /// The object before.
    pub previous: Option<Arc<Cached>>,
    frame: OnceLock<Bytes>,
    lean_frame: OnceLock<Bytes>,
    protobuf_frame: OnceLock<Bytes>,
}

impl Change {
    /// A put.
    pub fn put(object: Arc<Cached>, previous: Option<Arc<Cached>>) -> Change {
        let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        Change {
            revision: object.revision,
            kind,
            object,
            previous,
            frame: OnceLock::new(),
            lean_frame: OnceLock::new(),
            protobuf_frame: OnceLock::new(),
        }
    }

    /// A delete at `revision`.
    pub fn delete(previous: Arc<Cached>, revision: Revision) -> Change {
        let last = Cached::new(previous.key.clone(), encode::restamped(&previous.bytes, revision), revision);
        Change {
            revision,
            kind: ChangeKind::Deleted,
            object: Arc::new(last),
            previous: Some(previous),
            frame: OnceLock::new(),
            lean_frame: OnceLock::new(),
            protobuf_frame: OnceLock::new(),
        }
    }

    /// The watch frame of the change, made once for all watchers.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| frame(self.kind.word(), &self.object.bytes)).clone()
    }

    /// The same without managed fields, for those who do without.
    pub fn lean_frame(&self) -> Bytes {
        let lean = || scan::without_managers(&self.object.bytes).map(|object| frame(self.kind.word(), &object));
        self.lean_frame.get_or_init(|| lean().unwrap_or_else(|| self.frame())).clone()
    }

    /// The same in protobuf.
    pub fn protobuf_frame(&self) -> Bytes {
        self.protobuf_frame.get_or_init(|| protobuf::event(self.kind.word(), &self.object.bytes)).clone()
    }

    /// Bytes that the change keeps alive.
    pub fn weight(&self) -> usize {
        self.object.bytes.len() + self.previous.as_ref().map_or(0, |previous| previous.bytes.len()) + 256
    }
}

/// `{"type":…,"object":…}` and a newline.
pub(crate) fn frame(word: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + word.len() + 24);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}
