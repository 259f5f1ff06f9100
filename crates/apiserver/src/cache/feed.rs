//! The one watch that feeds all caches, and compaction behind it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::StreamExt;
use store::{Event, Revision, Store};
use tokio::time::Instant;

use super::{Cache, ROOT};

/// Revisions kept for watches from the past.
const KEEP: Revision = 50_000;
/// A compaction runs each time so many revisions beyond [`KEEP`] have piled up.
const COMPACT_EVERY: Revision = 50_000;
/// Watchers that ask for bookmarks get one when this time has passed since the last and something changed …
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// … or so many revisions.
const BOOKMARK_REVISIONS: Revision = 2_000;
/// How long changes are kept in memory for watches at least, and twice as long at most; upstream's `eventFreshDuration`.
/// Whoever starts from further back reads the store's log.
const FRESH: Duration = Duration::from_secs(75);
/// Pause before following again after the store failed.
const RETRY: Duration = Duration::from_millis(500);

/// Loads the caches, then follows in a task of its own.
pub(super) async fn start(cache: &Arc<Cache>) -> Result<(), store::Error> {
    let watch = load(cache).await?;
    tokio::spawn(follow(Arc::downgrade(cache), cache.store.clone(), watch));
    Ok(())
}

async fn load(cache: &Arc<Cache>) -> Result<store::Watch, store::Error> {
    let end = end_of(ROOT);
    let page = cache.store.range(ROOT, &end, None, 0).await?;
    let watch = cache.store.watch(ROOT, page.revision + 1).await?;
    let mut entries: HashMap<&'static str, Vec<store::Entry>> =
        cache.kinds.keys().map(|prefix| (*prefix, Vec::new())).collect();
    for entry in page.entries {
        if let Some(of_kind) = entries.get_mut(prefix_of(&entry.key)) {
            of_kind.push(entry);
        }
    }
    for (prefix, entries) in entries {
        cache.kind(prefix).reset(entries.into_iter(), page.revision);
    }
    cache.applied.send_replace(page.revision);
    Ok(watch)
}

async fn follow(cache: Weak<Cache>, store: Arc<dyn Store>, mut watch: store::Watch) {
    let mut compacted = store.revision().saturating_sub(KEEP);
    let mut bookmarked = (Instant::now(), store.revision());
    let mut aged = bookmarked;
    loop {
        let next = watch.next().await;
        let Some(cache) = cache.upgrade() else { return };
        match next {
            Some(Ok(events)) => {
                let Some(revision) = events.last().map(|e| e.revision) else { continue };
                apply(&cache, events);
                cache.applied.send_replace(revision);
                if revision - bookmarked.1 >= BOOKMARK_REVISIONS || bookmarked.0.elapsed() >= BOOKMARK_EVERY {
                    bookmarked = (Instant::now(), revision);
                    cache.bookmark.send_replace(revision);
                }
                // Changes drive this: where none come, a node's lease among them, nothing piles up either.
                if aged.0.elapsed() >= FRESH {
                    for kind in cache.kinds.values() {
                        kind.forget(aged.1);
                    }
                    aged = (Instant::now(), revision);
                }
                if revision - compacted >= KEEP + COMPACT_EVERY {
                    compacted = revision - KEEP;
                    let store = store.clone();
                    tokio::spawn(async move {
                        if let Err(error) = store.compact(compacted).await {
                            tracing::warn!(%error, "the store could not be compacted; it will be tried again");
                        }
                    });
                }
            }
            Some(Err(store::Error::Closed)) | None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "the watch on the store broke; loading everything again");
                watch = loop {
                    match load(&cache).await {
                        Ok(watch) => break watch,
                        Err(store::Error::Closed) => return,
                        Err(error) => tracing::warn!(%error, "the store could not be loaded; trying again"),
                    }
                    tokio::time::sleep(RETRY).await;
                };
            }
        }
    }
}

/// Puts a batch into the caches of its kinds, then wakes their watchers.
fn apply(cache: &Cache, events: Vec<Event>) {
    let kind_of = |event: &Event| {
        let key = event.current.as_ref().or(event.previous.as_ref()).map(|entry| entry.key.clone());
        key.and_then(|key| cache.kinds.get(prefix_of(&key)).cloned())
    };
    let mut events = events.into_iter().peekable();
    let mut woken = Vec::new();
    while let Some(event) = events.next() {
        let Some(kind) = kind_of(&event) else { continue };
        // Runs of one kind are applied under one lock.
        let mut run = vec![event];
        while let Some(next) = events.next_if(|next| kind_of(next).is_some_and(|k| Arc::ptr_eq(&k, &kind))) {
            run.push(next);
        }
        kind.apply(run.into_iter());
        if !woken.iter().any(|k| Arc::ptr_eq(k, &kind)) {
            woken.push(kind);
        }
    }
    for kind in woken {
        kind.wake();
    }
}

/// The storage prefix in a key.
fn prefix_of(key: &str) -> &str {
    key.strip_prefix(ROOT).and_then(|rest| rest.split('/').next()).unwrap_or("")
}

/// The end of the range of keys that begin with `prefix`.
pub(crate) fn end_of(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    String::from_utf8(end).expect("prefixes end in '/', whose successor is '0'")
}
