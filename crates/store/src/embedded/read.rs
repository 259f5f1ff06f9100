//! Gets and ranges: what to read comes from the index, values that are not in memory from the log.

use super::{Shared, index::Found, log::Snapshot};
use crate::{Entry, Error, Page, Revision};

/// Missing values up to this many are read on the caller's thread.
const INLINE: usize = 64;

/// One key, now or at a revision.
pub(super) fn get(shared: &Shared, key: &str, at: Option<Revision>) -> Result<Option<Entry>, Error> {
    retry_once(|| {
        let (found, snapshot) = {
            let index = shared.index.read();
            let revision = index.readable(at)?;
            let found = match at {
                None => index.latest(key),
                Some(_) => index.at(key, revision),
            };
            let Some(found) = found else { return Ok(None) };
            if let Some(entry) = found.entry() {
                return Ok(Some(entry));
            }
            // Taken while the index is held: compaction frees rows only after it has left the index.
            (found, shared.log.snapshot()?)
        };
        let entry = fetch(&snapshot, &found)?;
        if at.is_none() {
            shared.index.write().remember(&found.key, found.version.place, &entry.value);
        }
        Ok(Some(entry))
    })
}

/// The keys in `start..end`, now or at a revision.
pub(super) async fn range(
    shared: &std::sync::Arc<Shared>,
    start: &str,
    end: &str,
    at: Option<Revision>,
    limit: usize,
) -> Result<Page, Error> {
    let select = || {
        let index = shared.index.read();
        let revision = index.readable(at)?;
        let (found, remaining) = index.range(start, end, revision, limit);
        let missing = found.iter().filter(|f| f.value.is_none()).count();
        let snapshot = if missing > 0 { Some(shared.log.snapshot()?) } else { None };
        Ok((found, remaining, revision, missing, snapshot))
    };
    let (found, remaining, revision, missing, snapshot) = retry_once(select)?;
    let entries = match snapshot {
        None => found.iter().filter_map(Found::entry).collect(),
        Some(snapshot) if missing <= INLINE => fill(shared, &snapshot, &found, at)?,
        Some(snapshot) => {
            let shared = shared.clone();
            let task = tokio::task::spawn_blocking(move || fill(&shared, &snapshot, &found, at));
            task.await.map_err(|e| Error::Read(e.to_string()))??
        }
    };
    Ok(Page { entries, revision, more: remaining > 0, remaining })
}

/// The entry of a version that the snapshot is known to have.
pub(super) fn fetch(snapshot: &Snapshot, found: &Found) -> Result<Entry, Error> {
    let place = found.version.place;
    let entry = snapshot.entry(place)?;
    let mut entry =
        entry.ok_or_else(|| Error::Read(format!("{} of revision {} is gone", found.key, place.revision)))?;
    entry.key = found.key.clone();
    Ok(entry)
}

fn fill(shared: &Shared, snapshot: &Snapshot, found: &[Found], at: Option<Revision>) -> Result<Vec<Entry>, Error> {
    let (mut entries, mut fetched, mut bytes) = (Vec::with_capacity(found.len()), Vec::new(), 0);
    for found in found {
        if let Some(entry) = found.entry() {
            entries.push(entry);
            continue;
        }
        let entry = fetch(snapshot, found)?;
        bytes += entry.value.len();
        fetched.push(entries.len());
        entries.push(entry);
    }
    // A walk over everything must not push out what is read all the time.
    let mut index = shared.index.write();
    if at.is_none() && bytes <= index.cache_budget() / 4 {
        for n in fetched {
            index.remember(&found[n].key, found[n].version.place, &entries[n].value);
        }
    }
    Ok(entries)
}

/// A read that meets the writer reopening the file after a failed write succeeds when repeated.
fn retry_once<T>(read: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    match read() {
        Err(Error::Read(_)) => read(),
        other => other,
    }
}
