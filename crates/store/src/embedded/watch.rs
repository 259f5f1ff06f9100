//! Watches. The writer hands each committed revision to the groups whose prefix it touches; a group is a
//! bounded ring that all its watchers share. A watcher that starts in the past or falls out of the ring
//! reads the log instead, so it slows nobody down and holds no memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Shared, log::Place};
use crate::{Error, Event, Revision, Watch};

/// Revisions that a group keeps for watchers which have not got to them yet.
const RING: usize = 256;
/// A revision with more bytes than this is not kept in a ring but read back from the log.
const KEPT_BYTES: usize = 16 << 10;
/// What a watcher takes from the log at a time.
const HISTORY_ROWS: usize = 512;
const HISTORY_BYTES: usize = 256 << 10;

/// What a group's ring carries: one revision's events.
#[derive(Clone)]
enum Notice {
    Events(Revision, Arc<[Event]>),
    /// Too large to keep: read it from the log.
    InLog(Revision),
}

/// All groups, by prefix.
#[derive(Default)]
pub(super) struct Groups {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_prefix: HashMap<Arc<str>, broadcast::Sender<Notice>>,
    /// How many prefixes have which length: a key is looked up once for each length.
    lengths: BTreeMap<usize, usize>,
    closed: bool,
}

impl Groups {
    /// Hands out the events of one revision. `event` makes the event of the n-th changed key, or `None` if
    /// what was there before can't be read just now.
    pub fn publish<'a>(
        &self,
        revision: Revision,
        keys: impl Iterator<Item = &'a str>,
        mut event: impl FnMut(usize) -> Option<Event>,
    ) {
        let inner = self.inner.lock();
        if inner.by_prefix.is_empty() {
            return;
        }
        // Made once however many groups want it.
        let mut touched: Vec<(&Arc<str>, Vec<Option<Event>>)> = Vec::new();
        for (n, key) in keys.enumerate() {
            let mut made = None;
            for len in inner.lengths.keys().take_while(|len| **len <= key.len()) {
                let Some((prefix, _)) = key.get(..*len).and_then(|p| inner.by_prefix.get_key_value(p)) else {
                    continue;
                };
                let made = made.get_or_insert_with(|| event(n)).clone();
                match touched.iter_mut().find(|(p, _)| Arc::ptr_eq(p, prefix)) {
                    Some((_, events)) => events.push(made),
                    None => touched.push((prefix, vec![made])),
                }
            }
        }
        for (prefix, events) in touched {
            let size: usize = events.iter().flatten().map(event_size).sum();
            let notice = match events.into_iter().collect::<Option<Arc<[Event]>>>() {
                Some(events) if size <= KEPT_BYTES => Notice::Events(revision, events),
                _ => Notice::InLog(revision),
            };
            // An error says that the last watcher has just gone.
            let _ = inner.by_prefix[prefix].send(notice);
        }
    }

    /// Ends all watches.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.by_prefix.clear();
        inner.lengths.clear();
    }

    fn join(&self, prefix: &str) -> Result<(Arc<str>, broadcast::Receiver<Notice>), Error> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        if let Some((prefix, sender)) = inner.by_prefix.get_key_value(prefix) {
            return Ok((prefix.clone(), sender.subscribe()));
        }
        let prefix: Arc<str> = Arc::from(prefix);
        let (sender, receiver) = broadcast::channel(RING);
        inner.by_prefix.insert(prefix.clone(), sender);
        *inner.lengths.entry(prefix.len()).or_default() += 1;
        Ok((prefix, receiver))
    }

    fn leave(&self, prefix: &str) {
        let mut inner = self.inner.lock();
        if inner.by_prefix.get(prefix).is_some_and(|s| s.receiver_count() == 0) {
            inner.by_prefix.remove(prefix);
            let left = inner.lengths.get_mut(&prefix.len()).expect("each group counts under its length");
            *left -= 1;
            if *left == 0 {
                inner.lengths.remove(&prefix.len());
            }
        }
    }
}

/// Starts a watch.
pub(super) fn watch(shared: &Arc<Shared>, prefix: &str, from: Revision) -> Result<Watch, Error> {
    // First join, then look where the log ends: what is committed between is seen twice and skipped once.
    let (prefix, receiver) = shared.groups.join(prefix)?;
    let mut watcher = Watcher {
        shared: shared.clone(),
        prefix,
        receiver: Some(receiver),
        next: from,
        log_until: 0,
        backlog: VecDeque::new(),
    };
    {
        let index = shared.index.read();
        if from < index.oldest {
            return Err(Error::Compacted { asked: from, oldest: index.oldest });
        }
        watcher.log_until = index.revision;
    }
    Ok(stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(events) => Some((Ok(events), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

struct Watcher {
    shared: Arc<Shared>,
    prefix: Arc<str>,
    /// `Some` until dropped.
    receiver: Option<broadcast::Receiver<Notice>>,
    /// The first revision not yet delivered.
    next: Revision,
    /// Up to here the log has to be read.
    log_until: Revision,
    /// Read from the log, not yet delivered.
    backlog: VecDeque<Vec<Event>>,
}

impl Watcher {
    async fn next(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            if let Some(events) = self.backlog.pop_front() {
                return Ok(events);
            }
            if self.next <= self.log_until {
                (self.backlog, self.next) = self.read_log().await?;
                continue;
            }
            let receiver = self.receiver.as_mut().expect("taken only by drop");
            match receiver.recv().await {
                Ok(Notice::Events(revision, events)) if revision >= self.next => {
                    self.next = revision + 1;
                    return Ok(events.to_vec());
                }
                Ok(Notice::InLog(revision)) if revision >= self.next => self.log_until = revision,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => self.log_until = self.shared.index.read().revision,
                Err(RecvError::Closed) => return Err(Error::Closed),
            }
        }
    }

    async fn read_log(&self) -> Result<(VecDeque<Vec<Event>>, Revision), Error> {
        let (shared, prefix, from, until) = (self.shared.clone(), self.prefix.clone(), self.next, self.log_until);
        if until - from < 16 {
            return history(&shared, &prefix, from, until);
        }
        let task = tokio::task::spawn_blocking(move || history(&shared, &prefix, from, until));
        task.await.map_err(|e| Error::Read(e.to_string()))?
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.receiver.take());
        self.shared.groups.leave(&self.prefix);
    }
}

/// Some of the changes in `from..=until`, and the revision from which to go on.
fn history(
    shared: &Shared,
    prefix: &str,
    from: Revision,
    until: Revision,
) -> Result<(VecDeque<Vec<Event>>, Revision), Error> {
    // A snapshot taken while the index is held has all rows that the index promises.
    let snapshot = {
        let index = shared.index.read();
        if from < index.oldest {
            return Err(Error::Compacted { asked: from, oldest: index.oldest });
        }
        shared.log.snapshot()?
    };
    let mut batches: VecDeque<Vec<Event>> = VecDeque::new();
    let (mut rows, mut bytes, mut next) = (0, 0, until + 1);
    let mut current = from;
    snapshot.scan(from, |row| {
        let revision = row.place.revision;
        if revision > until {
            return Ok(false);
        }
        // A revision is never split, however many rows it has.
        if revision != current && (rows >= HISTORY_ROWS * 8 || batches.len() >= HISTORY_ROWS || bytes >= HISTORY_BYTES)
        {
            next = revision;
            return Ok(false);
        }
        current = revision;
        rows += 1;
        if row.key.starts_with(prefix) {
            let event = Event { revision, current: row.entry(), previous: previous(&snapshot, row.previous)? };
            bytes += event_size(&event);
            match batches.back_mut().filter(|batch| batch[0].revision == revision) {
                Some(batch) => batch.push(event),
                None => batches.push_back(vec![event]),
            }
        }
        Ok(true)
    })?;
    Ok((batches, next))
}

fn previous(snapshot: &super::log::Snapshot, place: Option<Place>) -> Result<Option<crate::Entry>, Error> {
    place.map_or(Ok(None), |place| snapshot.entry(place))
}

fn event_size(event: &Event) -> usize {
    [&event.current, &event.previous].into_iter().flatten().map(|e| e.key.len() + e.value.len()).sum()
}
