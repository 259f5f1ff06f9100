//! `metadata.managedFields` as a whole: its entries, read and written.

use serde_json::{Map, Value};

use super::{element::PathElement, fieldset::FieldSet};

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339 in whole seconds and UTC, so that order by text is order by time.
    pub(super) time: Option<String>,
    pub(super) set: FieldSet,
    /// The set as it came, while nothing needs to know it: `set` is empty then.
    pub(super) raw: Option<Value>,
}

impl Entry {
    /// Reads the set if that has not been done.
    pub(super) fn load(&mut self) {
        if let Some(raw) = self.raw.take() {
            // Whoever wrote it read it first.
            self.set = FieldSet::from_fields(&raw).unwrap_or_default();
        }
    }

    /// Whether the set may hold paths that begin as those of `other` do.
    pub(super) fn may_overlap(&self, other: &FieldSet) -> bool {
        match &self.raw {
            Some(raw) => other.nodes.iter().any(|n| raw.get(n.element.to_fields_key()).is_some()),
            None => true,
        }
    }

    /// Whether both are the same manager: appliers whatever their version, updaters by version.
    pub(super) fn is_same_manager(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// The list of an object's metadata, if it has one.
pub(super) fn raw_of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields").filter(|v| !v.is_null())
}

/// An empty list, or one with an empty entry: the client asks to forget all managers.
pub(super) fn is_reset(raw: &Value) -> bool {
    match raw.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Reads all entries with their sets; any fault spoils the list, as upstream.
pub(super) fn read(raw: &Value) -> Option<Vec<Entry>> {
    let mut entries = read_heads(raw)?;
    for entry in &mut entries {
        if let Some(raw) = entry.raw.take() {
            entry.set = FieldSet::from_fields(&raw).ok()?;
        }
    }
    Some(entries)
}

/// Reads all entries of a list that this server wrote, and none of the sets.
pub(super) fn read_heads(raw: &Value) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for entry in raw.as_array()? {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let fields = match entry.get("fieldsV1") {
            Some(Value::Object(fields)) if fields.is_empty() => None,
            Some(fields @ Value::Object(_)) => Some(fields.clone()),
            Some(Value::Null) | None => None,
            Some(_) => return None,
        };
        let entry = Entry {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            set: FieldSet::default(),
            raw: fields,
        };
        entries.retain(|e| !e.is_same_manager(&entry));
        entries.push(entry);
    }
    Some(entries)
}

/// Puts the entries into an object's metadata, in upstream's order; without entries the list goes away.
pub(super) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.sort_by(|a, b| {
        let key = |e: &Entry| (e.operation, e.time.clone().unwrap_or_default());
        key(a)
            .cmp(&key(b))
            .then_with(|| a.manager.cmp(&b.manager))
            .then_with(|| a.api_version.cmp(&b.api_version))
            .then_with(|| a.subresource.cmp(&b.subresource))
    });
    let raw = entries.into_iter().map(|e| {
        let fields = e.raw.unwrap_or_else(|| e.set.to_fields());
        write_entry(&e.manager, e.operation, &e.api_version, e.time, fields, &e.subresource)
    });
    let raw: Vec<Value> = raw.collect();
    set_raw(object, (!raw.is_empty()).then_some(Value::Array(raw)));
}

/// Sets or removes the list itself.
pub(super) fn set_raw(object: &mut Value, raw: Option<Value>) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    match raw {
        Some(raw) => {
            let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(metadata) = metadata {
                // Last, as upstream's encoding has it.
                metadata.shift_remove("managedFields");
                metadata.insert("managedFields".to_owned(), raw);
            }
        }
        None => {
            if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
                metadata.shift_remove("managedFields");
            }
        }
    }
}

/// One `ManagedFieldsEntry`, its fields in upstream's order.
pub(super) fn write_entry(
    manager: &str,
    operation: Operation,
    api_version: &str,
    time: Option<String>,
    fields: Value,
    subresource: &str,
) -> Value {
    let mut entry = Map::with_capacity(7);
    let mut put = |name: &str, value: &str| entry.insert(name.to_owned(), Value::String(value.to_owned()));
    if !manager.is_empty() {
        put("manager", manager);
    }
    put("operation", if operation == Operation::Apply { "Apply" } else { "Update" });
    put("apiVersion", api_version);
    if let Some(time) = time {
        put("time", &time);
    }
    put("fieldsType", "FieldsV1");
    entry.insert("fieldsV1".to_owned(), fields);
    if !subresource.is_empty() {
        entry.insert("subresource".to_owned(), Value::String(subresource.to_owned()));
    }
    Value::Object(entry)
}

/// Drops what nobody may own from a set that came from an applied configuration.
pub(super) fn without_unowned(set: FieldSet, subresource: &str) -> FieldSet {
    use super::zero::{is_reset, is_unowned_metadata};
    let mut out = FieldSet::default();
    for mut node in set.nodes {
        let name = node.element.as_field().unwrap_or_default();
        if matches!(name, "apiVersion" | "kind") || is_reset(name, subresource) {
            continue;
        }
        if name == "metadata" {
            node.member = false;
            for below in &mut node.children.nodes {
                if below.element.as_field().is_some_and(is_unowned_metadata) {
                    below.member = false;
                }
            }
            node.children.nodes.retain(|n| n.member || !n.children.is_empty());
        }
        let element: PathElement = node.element;
        out.push(element, node.member, node.children);
    }
    out
}
