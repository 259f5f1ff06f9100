//! The one thread that writes. Transactions that arrive while it waits for the disk are evaluated together,
//! in their order, and share the next durable commit.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    Shared, directory,
    gather::{self, Gather},
    index::{Found, Index, Version},
    log::{Commit, Horizon, Place, Row},
    read,
};
use crate::{Change, Entry, Error, Event, Outcome, Revision, Txn, Value};

/// Most transactions that share one commit.
const GROUP: usize = 1024;
/// Most bytes that share one commit, unless one transaction alone has more.
const GROUP_BYTES: usize = 4 << 20;
/// Rows that compaction removes with one commit.
const FREED_ROWS: usize = 1024;
/// After a failed write, how long to refuse further ones unless space was freed.
const REST: Duration = Duration::from_secs(1);

/// What waits to be written.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    txns: VecDeque<(Txn, Reply<Outcome>)>,
    compactions: Vec<(Revision, Reply<()>)>,
    /// From so many transactions on the writer wants to be woken.
    enough: usize,
    closing: bool,
}

impl Waiting {
    fn wakes(&self) -> bool {
        self.txns.len() >= self.enough || !self.compactions.is_empty() || self.closing
    }
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;
type Answer<T> = oneshot::Receiver<Result<T, Error>>;

impl Queue {
    pub fn submit(&self, txn: Txn) -> Result<Answer<Outcome>, Error> {
        let (reply, answer) = oneshot::channel();
        self.add(|waiting| waiting.txns.push_back((txn, reply)))?;
        Ok(answer)
    }

    pub fn compact(&self, at: Revision) -> Result<Answer<()>, Error> {
        let (reply, answer) = oneshot::channel();
        self.add(|waiting| waiting.compactions.push((at, reply)))?;
        Ok(answer)
    }

    pub fn close(&self) {
        self.waiting.lock().closing = true;
        self.wake.notify_one();
    }

    fn add(&self, add: impl FnOnce(&mut Waiting)) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if waiting.closing {
            return Err(Error::Closed);
        }
        add(&mut waiting);
        let wakes = waiting.wakes();
        drop(waiting);
        if wakes {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// The next group, of at least `wanted` if they come soon; waits for one unless the writer has work of its own.
    /// `None` at the end.
    fn take(&self, wait: bool, wanted: usize) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        while wait && waiting.txns.is_empty() && waiting.compactions.is_empty() && !waiting.closing {
            self.wake.wait(&mut waiting);
        }
        if waiting.closing && waiting.txns.is_empty() {
            return None;
        }
        if !waiting.txns.is_empty() {
            let until = Instant::now() + gather::PATIENCE;
            waiting.enough = wanted.min(GROUP);
            while !waiting.wakes() && !self.wake.wait_until(&mut waiting, until).timed_out() {}
            waiting.enough = 0;
        }
        let mut bytes = 0;
        let fits = |(txn, _): &&(Txn, _)| {
            bytes += size(txn);
            bytes <= GROUP_BYTES
        };
        let count = waiting.txns.iter().take(GROUP).take_while(fits).count().max(1).min(waiting.txns.len());
        let rest = waiting.txns.split_off(count);
        let txns = std::mem::replace(&mut waiting.txns, rest);
        let compactions = std::mem::take(&mut waiting.compactions);
        Some(Waiting { txns, compactions, enough: 0, closing: waiting.closing })
    }
}

/// Refuses a transaction that makes no sense.
pub(super) fn check(txn: &Txn) -> Result<(), Error> {
    let mut keys = HashSet::with_capacity(txn.changes.len());
    for change in &txn.changes {
        let key = change.key();
        if key.is_empty() || key.len() > usize::from(u16::MAX) {
            return Err(Error::Invalid("a key is empty or longer than 65535 bytes"));
        }
        if !keys.insert(key) {
            return Err(Error::Invalid("a key appears twice among the changes"));
        }
        if let Change::Put(_, value) = change
            && value.stamp_at.is_some_and(|at| at > value.bytes.len())
        {
            return Err(Error::Invalid("the stamp lies outside of the value"));
        }
    }
    Ok(())
}

/// The thread's work, until the queue is closed.
pub(super) fn run(shared: &Shared) {
    let _farewell = Farewell(&shared.queue);
    // Rows that an earlier process had no time to free are freed first.
    let mut writer =
        Writer { shared, freed: VecDeque::new(), freeing: true, horizon: None, compactions: Vec::new(), trouble: None };
    let mut gather = Gather::default();
    while let Some(work) = shared.queue.take(!writer.has_work(), gather.wanted()) {
        gather.took(work.txns.len());
        writer.compact(work.compactions);
        writer.commit(work.txns);
    }
}

/// However the thread ends, nobody is left waiting for it.
struct Farewell<'a>(&'a Queue);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        *waiting = Waiting { closing: true, ..Waiting::default() };
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    /// Rows to be removed.
    freed: VecDeque<Place>,
    /// Whether the index may have more of them.
    freeing: bool,
    /// To be written with the next commit.
    horizon: Option<Horizon>,
    /// Who waits for a compaction.
    compactions: Vec<Reply<()>>,
    trouble: Option<Trouble>,
}

/// The last write failed.
struct Trouble {
    since: Instant,
    free_bytes: Option<u64>,
    message: String,
}

/// One evaluated change.
struct Staged {
    key: Arc<str>,
    version: Version,
    /// `None` for a deletion.
    value: Option<Bytes>,
    previous: Option<Found>,
}

/// What a transaction will be told when the commit is durable.
enum Verdict {
    Committed(Revision),
    Conflict(Vec<Option<Found>>),
}

impl Writer<'_> {
    fn has_work(&self) -> bool {
        self.trouble.is_none() && (self.freeing || !self.freed.is_empty() || self.horizon.is_some())
    }

    fn compact(&mut self, requests: Vec<(Revision, Reply<()>)>) {
        for (at, reply) in requests {
            let mut index = self.shared.index.write();
            if at > index.oldest && at <= index.revision {
                self.freed.extend(index.compact(at, FREED_ROWS));
                self.freeing = true;
                self.horizon = Some(Horizon { oldest: at, revision: index.revision });
            }
            self.compactions.push(reply);
        }
        if self.freeing && self.freed.len() < FREED_ROWS {
            let mut index = self.shared.index.write();
            let oldest = index.oldest;
            let more = index.compact(oldest, FREED_ROWS);
            self.freeing = more.len() == FREED_ROWS;
            self.freed.extend(more);
        }
    }

    fn commit(&mut self, txns: VecDeque<(Txn, Reply<Outcome>)>) {
        let (staged, answers) = self.evaluate(txns);
        match self.write(&staged) {
            Ok(()) => {
                self.publish_to_index(&staged);
                self.answer(answers);
                self.publish_to_watches(&staged);
                if !self.freeing && self.freed.is_empty() {
                    for reply in self.compactions.drain(..) {
                        let _ = reply.send(Ok(()));
                    }
                }
            }
            Err(message) => {
                for (_, reply) in answers {
                    let _ = reply.send(Err(Error::Write(message.clone())));
                }
                for reply in self.compactions.drain(..) {
                    let _ = reply.send(Err(Error::Write(message.clone())));
                }
            }
        }
    }

    /// Decides each transaction against the state that those before it leave.
    fn evaluate(&self, txns: VecDeque<(Txn, Reply<Outcome>)>) -> (Vec<Staged>, Vec<(Verdict, Reply<Outcome>)>) {
        let index = self.shared.index.read();
        let mut group = Group { index: &index, revision: index.revision, staged: Vec::new(), latest: HashMap::new() };
        let answers = txns.into_iter().map(|(txn, reply)| (group.decide(txn), reply)).collect();
        (group.staged, answers)
    }

    /// Makes the group durable; on `Err` nothing has changed.
    fn write(&mut self, staged: &[Staged]) -> Result<(), String> {
        if staged.is_empty() && self.freed.is_empty() && self.horizon.is_none() {
            return Ok(());
        }
        let free_bytes = || directory::free_bytes(&self.shared.config.dir);
        if let Some(trouble) = &self.trouble {
            let more_space = matches!((trouble.free_bytes, free_bytes()), (Some(then), Some(now)) if now > then);
            if trouble.since.elapsed() < REST && !more_space {
                return Err(trouble.message.clone());
            }
        }
        let commit = Commit {
            rows: staged.iter().map(Staged::row).collect(),
            deletes: self.freed.iter().take(FREED_ROWS).copied().collect(),
            horizon: self.horizon,
        };
        let last = staged.last().map(|s| s.version.place.revision);
        match self.shared.log.commit(&commit) {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, "the store could not write");
                let reopened = self.shared.log.reopen();
                // The engine may have got it to the disk before it failed.
                let written = last.is_some_and(|last| reopened.as_ref().is_ok_and(|there| *there >= last));
                if !written {
                    let message = error.to_string();
                    self.trouble = Some(Trouble { since: Instant::now(), free_bytes: free_bytes(), message });
                    return Err(error.to_string());
                }
            }
        }
        if self.trouble.take().is_some() {
            tracing::info!("the store can write again");
        }
        self.freed.drain(..commit.deletes.len());
        self.horizon = None;
        Ok(())
    }

    fn publish_to_index(&self, staged: &[Staged]) {
        if !staged.is_empty() {
            let mut index = self.shared.index.write();
            for change in staged {
                index.apply(&change.key, change.version, change.value.clone());
            }
        }
    }

    fn answer(&self, answers: Vec<(Verdict, Reply<Outcome>)>) {
        for (verdict, reply) in answers {
            let outcome = match verdict {
                Verdict::Committed(revision) => Ok(Outcome::Committed(revision)),
                Verdict::Conflict(present) => {
                    present.into_iter().map(|found| self.entry(found)).collect::<Result<_, _>>().map(Outcome::Conflict)
                }
            };
            // Who has stopped waiting does not hear it.
            let _ = reply.send(outcome);
        }
    }

    fn publish_to_watches(&self, staged: &[Staged]) {
        for txn in staged.chunk_by(|a, b| a.version.place.revision == b.version.place.revision) {
            let revision = txn[0].version.place.revision;
            self.shared.groups.publish(revision, txn.iter().map(|s| &*s.key), |n| {
                let change = &txn[n];
                let previous = self.entry(change.previous.clone()).ok()?;
                Some(Event { revision, current: change.entry(), previous })
            });
        }
    }

    fn entry(&self, found: Option<Found>) -> Result<Option<Entry>, Error> {
        let Some(found) = found else { return Ok(None) };
        match found.entry() {
            Some(entry) => Ok(Some(entry)),
            None => read::fetch(&self.shared.log.snapshot()?, &found).map(Some),
        }
    }
}

/// The state within one group: the index and, over it, what the group has changed so far.
struct Group<'a> {
    index: &'a Index,
    revision: Revision,
    staged: Vec<Staged>,
    /// The last change of each key in `staged`.
    latest: HashMap<Arc<str>, usize>,
}

impl Group<'_> {
    fn decide(&mut self, txn: Txn) -> Verdict {
        let holds = |compare: &crate::Compare| {
            let present = self.present(&compare.key).map_or(0, |f| f.version.place.revision);
            present == compare.mod_revision
        };
        if !txn.compares.iter().all(holds) {
            return Verdict::Conflict(txn.compares.iter().map(|c| self.present(&c.key)).collect());
        }
        let revision = self.revision + 1;
        let mut part = 0;
        for change in txn.changes {
            let previous = self.present(change.key());
            let place = Place { revision, part };
            let (key, create_revision, value) = match change {
                Change::Put(key, value) => {
                    let create = previous.as_ref().map_or(revision, |f| f.version.create_revision);
                    (key, create, Some(stamp(value, revision)))
                }
                Change::Delete(_) if previous.is_none() => continue,
                Change::Delete(key) => (key, 0, None),
            };
            self.latest.insert(key.clone(), self.staged.len());
            self.staged.push(Staged { key, version: Version { place, create_revision }, value, previous });
            part += 1;
        }
        if part > 0 {
            self.revision = revision;
        }
        Verdict::Committed(self.revision)
    }

    fn present(&self, key: &str) -> Option<Found> {
        match self.latest.get(key) {
            Some(n) => self.staged[*n].found(),
            None => self.index.latest(key),
        }
    }
}

impl Staged {
    fn row(&self) -> Row<'_> {
        Row {
            place: self.version.place,
            key: &self.key,
            create_revision: self.version.create_revision,
            previous: self.previous.as_ref().map(|f| f.version.place),
            value: self.value.as_deref().unwrap_or_default(),
        }
    }

    fn found(&self) -> Option<Found> {
        let value = Some(self.value.clone()?);
        Some(Found { key: self.key.clone(), version: self.version, value })
    }

    fn entry(&self) -> Option<Entry> {
        self.found()?.entry()
    }
}

impl Change {
    /// The key that changes.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Change::Put(key, _) | Change::Delete(key) => key,
        }
    }
}

fn stamp(value: Value, revision: Revision) -> Bytes {
    let Some(at) = value.stamp_at else { return value.bytes };
    let (head, tail) = value.bytes.split_at(at);
    let digits = revision.to_string();
    [head, digits.as_bytes(), tail].concat().into()
}

fn size(txn: &Txn) -> usize {
    let value = |change: &Change| match change {
        Change::Put(_, value) => value.bytes.len(),
        Change::Delete(_) => 0,
    };
    txn.changes.iter().map(|c| c.key().len() + value(c)).sum()
}
