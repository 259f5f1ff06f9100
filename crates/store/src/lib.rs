//! The versioned key-value store: every change gets the next revision of one global counter, an
//! acknowledged change is durable, and a watch resumes from any revision that is not yet compacted.
//!
//! [`Store`] is the contract. [`Embedded`] is the backend of one machine; etcd comes behind the same contract.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

mod embedded;

pub use embedded::{Embedded, EmbeddedConfig};

/// Counts changes: the first transaction that changes something is revision 1.
pub type Revision = u64;

/// A value to be written. When `stamp_at` is set, the decimal digits of the revision that the write
/// gets are inserted at that byte offset, so that an object carries its own resourceVersion and is
/// encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes as the caller encoded them.
    pub bytes: Bytes,
    /// Offset in `bytes` at which the revision is inserted.
    pub stamp_at: Option<usize>,
}

/// A key with its value as stored (the stamp already applied).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, for instance `/registry/pods/default/web`.
    pub key: Arc<str>,
    /// The stored bytes.
    pub value: Bytes,
    /// Revision at which the key came into being (again).
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
}

/// A condition on the present state: all must hold or the transaction changes nothing.
#[derive(Clone, Debug)]
pub struct Compare {
    /// The key looked at.
    pub key: Arc<str>,
    /// Its required `mod_revision`; 0 means that the key must not exist.
    pub mod_revision: Revision,
}

/// One change of a transaction.
#[derive(Clone, Debug)]
pub enum Change {
    /// Write or overwrite.
    Put(Arc<str>, Value),
    /// Remove; removing an absent key changes nothing.
    Delete(Arc<str>),
}

/// Several conditions and changes under one revision. A key appears at most once among the changes.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Applied together or not at all.
    pub changes: Vec<Change>,
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Durable, at this revision.
    Committed(Revision),
    /// A compare failed; nothing changed. The present entries of the compared keys, in their order.
    Conflict(Vec<Option<Entry>>),
}

/// One page of a range read.
#[derive(Clone, Debug)]
pub struct Page {
    /// In key order.
    pub entries: Vec<Entry>,
    /// The revision that was read.
    pub revision: Revision,
    /// Whether more keys follow.
    pub more: bool,
    /// Keys in the range that follow this page.
    pub remaining: u64,
}

/// What a watch delivers.
#[derive(Clone, Debug)]
pub struct Event {
    /// Revision of the change.
    pub revision: Revision,
    /// The entry after a put; `None` after a delete.
    pub current: Option<Entry>,
    /// The entry before the change, if there was one.
    pub previous: Option<Entry>,
}

/// All errors of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for is gone; list again and watch from the new revision. Retrying does not help.
    #[error("revision {asked} has been compacted; the oldest one kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The revision lies in the future. A retry helps once the store has got there.
    #[error("revision {asked} is in the future; the present one is {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The present revision.
        current: Revision,
    },
    /// The disk refused (full, read-only, I/O error). Nothing was written; reads go on; a retry may help.
    #[error("the store could not write: {0}")]
    Write(String),
    /// The data directory can't be used (in use by another process, damaged).
    #[error("the store could not be opened: {0}")]
    Open(String),
    /// A read failed.
    #[error("the store could not read: {0}")]
    Read(String),
    /// The transaction itself is ill-formed (a key twice, a stamp outside of the value).
    #[error("invalid transaction: {0}")]
    Invalid(&'static str),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// A stream of batches: all events of one revision arrive in one batch, revisions ascend.
pub type Watch = futures::stream::BoxStream<'static, Result<Vec<Event>, Error>>;

/// The contract. Implementations are cheap to share behind an `Arc`.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies `txn`. On return of `Committed` the change is durable and visible to reads and watches.
    async fn txn(&self, txn: Txn) -> Result<Outcome, Error>;
    /// One key, now or at a revision.
    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<Entry>, Error>;
    /// The keys in `start..end`, now or at a revision; `limit` 0 means all.
    async fn range(&self, start: &str, end: &str, at: Option<Revision>, limit: usize) -> Result<Page, Error>;
    /// All changes of keys beginning with `prefix` whose revision is `from` or later, then what comes.
    /// `Err(Compacted)` if they can't all be had.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error>;
    /// Forgets what is needed only for reads and watches before `at`.
    async fn compact(&self, at: Revision) -> Result<(), Error>;
    /// The revision of the last committed transaction.
    fn revision(&self) -> Revision;
    /// How many bytes of disk it takes; nothing if it lies elsewhere.
    fn bytes_on_disk(&self) -> Option<u64> {
        None
    }
}
