//! `wire.txt`: the numbers of fields in upstream's protobuf messages, and which fields keep a zero value in JSON.
//!
//! One line a message, sorted by its name: `name=number` is a field that Go leaves out of JSON while it is zero
//! (`omitempty`), with `*` behind it a pointer, with `!` one that is always written, with `?` a list whose defaults are for
//! its absence alone, so that an empty one must reach the checks, with `@` a list within a message of its own;
//! `>message=number` is one whose fields stand in the outer object in JSON.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde_json::{Map, Value};

/// The file.
pub struct Wire {
    messages: BTreeMap<String, Vec<Entry>>,
    used: RefCell<BTreeSet<String>>,
}

struct Entry {
    name: String,
    number: u32,
    marks: String,
}

impl Wire {
    pub fn parse(text: &str) -> Self {
        let mut messages = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let name = words.next().expect("a split has a first part").to_owned();
            let mut entries: Vec<Entry> = words
                .map(|word| {
                    let (name, number) = word.split_once('=').expect("a field has a number");
                    let digits = number.trim_end_matches(['*', '!', '?', '@']);
                    let marks = number[digits.len()..].to_owned();
                    Entry { name: name.to_owned(), number: digits.parse().expect("a number is a number"), marks }
                })
                .collect();
            entries.sort_by_key(|entry| entry.number);
            assert!(messages.insert(name, entries).is_none(), "wire.txt: {line}: twice");
        }
        Self { messages, used: RefCell::default() }
    }

    /// The `message` of a type, as Rust source; its fields are known by their place in the table.
    pub fn message(&self, name: &str, fields: &[(&String, &Value)]) -> String {
        match self.messages.contains_key(name) {
            true => format!("Some({})", self.slots(name, fields)),
            false => "None".into(),
        }
    }

    fn slots(&self, name: &str, fields: &[(&String, &Value)]) -> String {
        self.used.borrow_mut().insert(name.to_owned());
        let mut out = "&[".to_owned();
        for Entry { name: field, number, marks } in self.messages.get(name).expect("a message that is named has a line")
        {
            let holds = match field.strip_prefix('>') {
                Some(inner) => format!("Holds::Inline({})", self.slots(inner, fields)),
                None => {
                    // Fields newer than the schema are left alone.
                    let Some(at) = fields.iter().position(|(name, _)| *name == field) else { continue };
                    let items = marks.contains('@').then_some("Items");
                    match items.or_else(|| union(fields[at].1)) {
                        Some(union) => format!("Holds::Union({at}, Union::{union})"),
                        None => format!("Holds::Field({at})"),
                    }
                }
            };
            write!(out, "Slot {{ number: {number}, holds: {holds} }}, ").expect("writing to a String does not fail");
        }
        out.push(']');
        out
    }

    /// Whether a zero value of a field stays in JSON: behind a pointer, where it is always written or tells something, and
    /// in types that are not upstream's.
    pub fn keeps_zero(&self, message: &str, field: &str) -> bool {
        let Some(entries) = self.messages.get(message) else { return true };
        entries.iter().all(|entry| match entry.name.strip_prefix('>') {
            Some(inner) => self.keeps_zero(inner, field),
            None => entry.name != field || entry.marks.contains(['*', '!', '?']),
        })
    }

    /// Every line must be of use.
    pub fn must_apply_to(&self, schema: &Map<String, Value>) {
        let used = self.used.borrow();
        let idle: Vec<&String> =
            self.messages.keys().filter(|name| !used.contains(*name) && !schema.contains_key(*name)).collect();
        assert!(idle.is_empty(), "wire.txt speaks of messages that nothing holds: {idle:#?}");
    }
}

/// What JSON writes in place of a message of alternatives, by the name of the type.
fn union(property: &Value) -> Option<&'static str> {
    let reference = |property: &Value| property["$ref"].as_str().map(str::to_owned);
    let of = reference(property).or_else(|| reference(&property["additionalProperties"]))?;
    Some(match of.rsplit('.').next()? {
        "JSONSchemaPropsOrArray" => "OrList",
        "JSONSchemaPropsOrBool" => "OrBoolean",
        "JSONSchemaPropsOrStringArray" => "OrStrings",
        "CustomResourceSubresourceStatus" => "Empty",
        _ => return None,
    })
}
