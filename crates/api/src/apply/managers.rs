//! Managed fields of updates and patches: whoever changes a field owns it.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    compare::{Comparison, compare},
    create::manage_create,
    entries::{self, Entry, Operation},
};
use crate::schema::Type;

/// More managers than this that updated, and the oldest are put together.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";
/// Longest name of a manager, in bytes.
const MAX_NAME: usize = 128;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// See [`manager_name`]; empty is recorded as `unknown`.
    pub name: &'a str,
    /// The version the request was made in, for instance `apps/v1`.
    pub api_version: &'a str,
    /// For instance `status`; empty for the object itself.
    pub subresource: &'a str,
    /// When.
    pub now: Timestamp,
}

impl Manager<'_> {
    pub(super) fn shown_name(&self) -> &str {
        if self.name.is_empty() { "unknown" } else { self.name }
    }

    /// Whole seconds.
    pub(super) fn time(&self) -> String {
        Timestamp::from_second(self.now.as_second()).unwrap_or(self.now).to_string()
    }

    pub(super) fn entry(&self, operation: Operation, set: super::FieldSet) -> Entry {
        Entry {
            manager: self.shown_name().to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: None,
            set,
            raw: None,
        }
    }
}

/// The manager of a request: `fieldManager`, else what the User-Agent has before its first slash.
pub fn manager_name(field_manager: Option<&str>, user_agent: &str) -> String {
    if let Some(name) = field_manager.filter(|n| !n.is_empty()) {
        return name.to_owned();
    }
    let mut name = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        name.push(c);
    }
    name
}

/// What is wrong with a `fieldManager` parameter: upstream's words, to follow `fieldManager: Invalid value: …: `.
pub fn validate_manager_name(name: &str) -> Option<String> {
    if name.len() > MAX_NAME {
        return Some(format!("may not be more than {MAX_NAME} bytes"));
    }
    let position = name.chars().position(|c| c.is_control() || (c.is_whitespace() && c != ' '))?;
    Some(format!("should only contain printable characters (position {position})"))
}

/// Brings the managed fields of `new`, which is about to replace `live`, up to date: `manager` takes what
/// it changes, others lose it. `None` is a create. The client may edit the list itself or, with an empty
/// list, end its tracking.
pub fn manage_update(of: &'static Type, live: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let Some(live) = live else {
        return manage_create(of, new, manager);
    };
    let held = entries::raw_of(live);
    // Through a subresource the list can't be edited.
    let given = if manager.subresource.is_empty() { entries::raw_of(new) } else { None };
    let base = match given {
        Some(given) if entries::is_reset(given) => Vec::new(),
        Some(given) if Some(given) != held => match entries::read(given) {
            Some(read) if !read.is_empty() => read,
            _ => held.and_then(entries::read).unwrap_or_default(),
        },
        _ => {
            // The common case: if nothing changed, neither does the list.
            let change = compare(of, Some(live), new, manager.subresource);
            if change.is_empty() {
                entries::set_raw(new, held.cloned());
                return;
            }
            let base = held.and_then(entries::read_heads).unwrap_or_default();
            return record(new, base, &change, manager);
        }
    };
    let change = compare(of, Some(live), new, manager.subresource);
    record(new, base, &change, manager);
}

fn record(new: &mut Value, base: Vec<Entry>, change: &Comparison, manager: &Manager<'_>) {
    if base.is_empty() {
        // Nobody tracks this object (any more).
        entries::set_raw(new, None);
        return;
    }
    let mut entries = disown(base, change);
    take(&mut entries, change, manager);
    cap(&mut entries);
    entries::write(new, entries);
}

/// All managers lose what changed or went away.
pub(super) fn disown(mut entries: Vec<Entry>, change: &Comparison) -> Vec<Entry> {
    let taken = change.added.union(&change.modified).union(&change.removed);
    for entry in entries.iter_mut().filter(|e| e.may_overlap(&taken)) {
        entry.load();
        entry.set = entry.set.difference(&taken);
    }
    entries.retain(|e| e.raw.is_some() || !e.set.is_empty());
    entries
}

/// The manager takes what it added and modified.
pub(super) fn take(entries: &mut Vec<Entry>, change: &Comparison, manager: &Manager<'_>) {
    let mine = change.added.union(&change.modified);
    if mine.is_empty() {
        return;
    }
    let mut entry = manager.entry(Operation::Update, mine);
    entry.time = Some(manager.time());
    match entries.iter_mut().find(|e| e.is_same_manager(&entry)) {
        Some(before) => {
            before.load();
            entry.set = entry.set.union(&before.set);
            *before = entry;
        }
        None => entries.push(entry),
    }
}

/// Puts the oldest updaters of one version together until few enough are left.
fn cap(entries: &mut Vec<Entry>) {
    let count = |entries: &[Entry]| entries.iter().filter(|e| e.operation == Operation::Update).count();
    if count(entries) <= MAX_UPDATE_MANAGERS {
        return;
    }
    let (mut updaters, mut kept): (Vec<_>, Vec<_>) =
        std::mem::take(entries).into_iter().partition(|e| e.operation == Operation::Update);
    updaters.iter_mut().for_each(Entry::load);
    updaters.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    let mut excess = updaters.len() - MAX_UPDATE_MANAGERS;
    // Per version: the oldest entry alone stays as it is; the second makes both a bucket.
    let mut buckets: Vec<Entry> = Vec::new();
    for entry in updaters {
        let bucket = buckets.iter_mut().find(|b| b.api_version == entry.api_version);
        match bucket {
            Some(bucket) if excess > 0 => {
                bucket.manager = ANCIENT.to_owned();
                bucket.subresource = String::new();
                bucket.set = bucket.set.union(&entry.set);
                bucket.time = entry.time;
                excess -= 1;
            }
            None if excess > 0 => buckets.push(entry),
            _ => kept.push(entry),
        }
    }
    kept.extend(buckets);
    *entries = kept;
}
