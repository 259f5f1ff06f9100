//! `merge.txt`: what the Kubernetes types say about merging that the JSON schema of the types does not carry.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What is known of one type or one field of a type.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    /// A list that is owned as a whole, or a map or struct that is.
    pub atomic: bool,
    /// A list whose items are a set.
    pub set: bool,
    /// A list of objects that these fields identify.
    pub map: Option<Vec<String>>,
    /// Strategic merge joins the lists, by this key; empty for scalars.
    pub merge: Option<String>,
    /// Strategic merge clears what the patch does not retain.
    pub retain_keys: bool,
    /// Strategic merge replaces the struct.
    pub replace: bool,
    /// The schema's default, as JSON.
    pub default: Option<String>,
}

/// All facts, by type name or by type name, dot, field name.
pub struct Facts(BTreeMap<String, Fact>);

impl Facts {
    pub fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let mut words = line.split(' ');
            let subject = words.next().expect("a split has a first part");
            let mut fact = Fact::default();
            for word in words {
                match word.split_once('=').unwrap_or((word, "")) {
                    ("atomic", "") => fact.atomic = true,
                    ("set", "") => fact.set = true,
                    ("map", keys) => fact.map = Some(keys.split(',').map(String::from).collect()),
                    ("merge", key) => fact.merge = Some(key.into()),
                    ("retainKeys", "") => fact.retain_keys = true,
                    ("replace", "") => fact.replace = true,
                    ("default", json) => fact.default = Some(json.into()),
                    _ => panic!("merge.txt: {line}: unknown fact {word}"),
                }
            }
            assert!(all.insert(subject.to_string(), fact).is_none(), "merge.txt names {subject} twice");
        }
        Self(all)
    }

    pub fn of_type(&self, name: &str) -> Fact {
        self.0.get(name).cloned().unwrap_or_default()
    }

    pub fn of_field(&self, name: &str, field: &str) -> Fact {
        self.0.get(&format!("{name}.{field}")).cloned().unwrap_or_default()
    }

    /// Every fact must speak of a type or field that exists, and of one that it fits.
    pub fn must_apply_to(&self, schema: &Map<String, Value>) {
        let mut faults = Vec::new();
        for (subject, fact) in &self.0 {
            if schema.contains_key(subject) {
                continue;
            }
            let (owner, field) = subject.rsplit_once('.').expect("a subject has a dot");
            let Some(property) = schema.get(owner).map(|t| &t["properties"][field]).filter(|p| !p.is_null()) else {
                faults.push(subject.clone());
                continue;
            };
            if (fact.set || fact.map.is_some() || fact.merge.is_some()) && property["type"] != "array" {
                faults.push(format!("{subject} is no list"));
            }
        }
        assert!(faults.is_empty(), "merge.txt does not fit the schema: {faults:#?}");
    }
}
