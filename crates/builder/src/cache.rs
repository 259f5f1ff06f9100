//! What earlier builds did, found again by what they did it from and to.

use std::path::Path;
use std::time::{Duration, SystemTime};

use engine::content::{Content, ContentError, Layer, Pin};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Names a step: the image it starts from, the instruction, and the sums of the files it uses.
#[derive(Clone)]
pub(crate) struct Key(Sha256);

impl Key {
    /// A step on that image (`None` for nothing), of a build with that clock.
    pub fn new(parent: Option<&str>, clamp: Option<i64>) -> Self {
        let key = Self(Sha256::new()).text("step 1").text(parent.unwrap_or("scratch"));
        key.text(&clamp.map(|clamp| clamp.to_string()).unwrap_or_default())
    }

    /// Adds a part; its length goes first, so that parts can't run into each other.
    pub fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    /// The name of its record.
    pub fn id(&self) -> String {
        format!("{PREFIX}{}", hex::encode(self.0.clone().finalize()))
    }
}

/// How the names of records begin; the rest is hexadecimal.
pub(crate) const PREFIX: &str = "build-";

/// What a step did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When, RFC 3339: a step taken from the cache keeps its time, and so the image its id.
    pub created: String,
    /// The layer it made, if it made one.
    pub layer: Option<Layer>,
    /// The instruction, for people.
    pub step: String,
}

/// The record of a step, if its layer is still here.
pub(crate) fn find(content: &Content, key: &Key) -> Option<Record> {
    let id = key.id();
    let record: Record = serde_json::from_value(content.pinned(&id)?.note).ok()?;
    if record.layer.as_ref().is_some_and(|layer| !content.has_layer(layer)) {
        return None;
    }
    content.touch_pin(&id);
    Some(record)
}

/// Keeps a record, and its layer from being collected.
pub(crate) fn keep(content: &Content, key: &Key, record: &Record) -> Result<(), ContentError> {
    keep_as(content, &key.id(), record)
}

/// The same by its name.
pub(crate) fn keep_as(content: &Content, id: &str, record: &Record) -> Result<(), ContentError> {
    let note = serde_json::to_value(record).expect("a record is always JSON");
    content.pin(id, &Pin { layers: record.layer.iter().cloned().collect(), note })
}

/// One record of the build cache, as `docker system df` and `docker builder prune` see it.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    /// Its name.
    pub id: String,
    /// The instruction.
    pub description: String,
    /// Bytes of its layer, or of a cache mount's files.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// The directories of cache mounts.
pub(crate) fn mounts(directory: &Path) -> Vec<CacheEntry> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id = entry.file_name().into_string().ok()?;
            let used = entry.metadata().ok()?.modified().ok()?;
            Some(CacheEntry { id, description: "cache mount".into(), size: size(&entry.path()), used })
        })
        .collect()
}

/// Removes the directories of cache mounts that did not change for `unused`. No build may be running.
pub(crate) fn prune_mounts(directory: &Path, unused: Duration, now: SystemTime) -> Vec<CacheEntry> {
    let old = |entry: &CacheEntry| now.duration_since(entry.used).unwrap_or_default() >= unused;
    let gone = |entry: &CacheEntry| std::fs::remove_dir_all(directory.join(&entry.id)).is_ok();
    mounts(directory).into_iter().filter(old).filter(gone).collect()
}

fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        _ => entry.metadata().map_or(0, |metadata| metadata.len()),
    };
    entries.map(of).sum()
}

/// All records.
pub(crate) fn entries(content: &Content) -> Vec<CacheEntry> {
    let own = content.pins().into_iter().filter(|(id, ..)| id.starts_with(PREFIX));
    own.filter_map(|(id, pin, used)| {
        let record: Record = serde_json::from_value(pin.note).ok()?;
        Some(CacheEntry { id, description: record.step, size: record.layer.map_or(0, |layer| layer.size), used })
    })
    .collect()
}

/// Forgets the records that were not used for `unused`, then the longest unused until no more than `keep` bytes are
/// left. Returns what was forgotten.
pub(crate) fn prune(
    content: &Content,
    unused: Duration,
    keep: u64,
    now: SystemTime,
) -> Result<Vec<CacheEntry>, ContentError> {
    let mut entries = entries(content);
    entries.sort_by_key(|entry| entry.used);
    let mut left: u64 = entries.iter().map(|entry| entry.size).sum();
    let mut gone = Vec::new();
    for entry in entries {
        let idle = now.duration_since(entry.used).unwrap_or_default() >= unused;
        if idle && (left > keep || keep == 0) {
            content.unpin(&entry.id)?;
            left -= entry.size;
            gone.push(entry);
        }
    }
    if !gone.is_empty() {
        content.collect()?;
    }
    Ok(gone)
}
