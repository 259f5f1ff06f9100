//! Fields that stand twice in text whose type is not known: patches, and YAML as a whole.
//!
//! Upstream: `UnmarshalStrict` of `sigs.k8s.io/json` and of `sigs.k8s.io/yaml`.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    notes::{Notes, Path},
    walk::MapKey,
};
use crate::{schema::Type, status::quoted};

/// Each place in YAML takes a pass over the text: no more than so many are looked for,
const MOST_PLACES: usize = 100;
/// and no more bytes are read for it.
const MOST_READ: usize = 32 << 20;

/// What stands twice in a patch of an object of that type, such as `duplicate field "spec.paused"`. Nothing for text
/// that is no JSON.
pub fn in_json(of: &'static Type, text: &[u8]) -> Vec<String> {
    read(of, text, Level::Any)
}

/// The same for the operations of a JSON patch, and what they have beside their four fields:
/// `json patch unknown field "[0].foo"`.
pub fn in_json_patch(of: &'static Type, text: &[u8]) -> Vec<String> {
    read(of, text, Level::Operations).into_iter().map(|issue| format!("json patch {issue}")).collect()
}

fn read(of: &'static Type, text: &[u8], level: Level) -> Vec<String> {
    let mut notes = Notes::default();
    let node = Node { level, path: &Path::Root(of), notes: &mut notes };
    match node.deserialize(&mut serde_json::Deserializer::from_slice(text)) {
        Ok(()) => notes.issues,
        Err(_) => Vec::new(),
    }
}

/// What stands twice in YAML, of which JSON is a part, by the line of the second value:
/// `line 10: key "paused" already set in map`.
pub fn in_yaml(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < MOST_PLACES.min(1 + MOST_READ / text.len().max(1)) {
        let mut search = Search { passed: found.len(), key: None };
        let end = Place(&mut search).deserialize(serde_yaml_ng::Deserializer::from_slice(text));
        let (Err(error), Some(key)) = (end, search.key) else { break };
        let line = error.location().map_or(0, |location| location.line());
        found.push(format!("line {line}: key {} already set in map", quoted(&key)));
    }
    found
}

/// What a value of JSON is part of.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Any,
    Operations,
    Operation,
}

struct Node<'p, 'n> {
    level: Level,
    path: &'p Path<'p>,
    notes: &'n mut Notes,
}

/// A value that holds no others.
macro_rules! plain {
    ($($visit:ident: $of:ty),*) => {
        $(fn $visit<E>(self, _: $of) -> Result<(), E> {
            Ok(())
        })*
    };
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    plain!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let level = if self.level == Level::Operations { Level::Operation } else { Level::Any };
        let mut index = 0;
        loop {
            let path = Path::Item(self.path, index);
            let Some(()) = access.next_element_seed(Node { level, path: &path, notes: &mut *self.notes })? else {
                return Ok(());
            };
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if self.level == Level::Operation && !matches!(key.as_str(), "op" | "path" | "from" | "value") {
                self.notes.issue("unknown", self.path, &key);
                access.next_value::<IgnoredAny>()?;
                continue;
            }
            if keys.contains(&key) {
                self.notes.issue("duplicate", self.path, &key);
            }
            let path = Path::Key(self.path, &key);
            access.next_value_seed(Node { level: Level::Any, path: &path, notes: &mut *self.notes })?;
            keys.insert(key);
        }
        Ok(())
    }
}

/// A search that ends, with an error that bears the line, at the first place after those that are passed over.
struct Search {
    passed: usize,
    key: Option<String>,
}

struct Place<'s>(&'s mut Search);

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Place<'_> {
    fn reached<E: Error>(&self) -> Result<(), E> {
        if self.0.key.is_some() { Err(E::custom("it stands twice")) } else { Ok(()) }
    }
}

macro_rules! reached {
    ($($visit:ident: $of:ty),*) => {
        $(fn $visit<E: Error>(self, _: $of) -> Result<(), E> {
            self.reached()
        })*
    };
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    reached!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.reached()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        self.reached()?;
        while access.next_element_seed(Place(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        self.reached()?;
        let mut keys = HashSet::new();
        while let Some(key) = access.next_key_seed(MapKey)? {
            if keys.contains(&key) {
                match self.0.passed.checked_sub(1) {
                    Some(rest) => self.0.passed = rest,
                    None => self.0.key = Some(key.clone()),
                }
            }
            access.next_value_seed(Place(&mut *self.0))?;
            keys.insert(key);
        }
        Ok(())
    }
}
