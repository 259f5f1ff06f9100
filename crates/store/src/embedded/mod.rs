//! The store of one machine: a directory with one file, one thread that writes, any number of readers.
//!
//! * [`log`]: the rows on disk. * [`index`]: what is known in memory. * [`writer`]: group commit.
//! * [`read`]: gets and ranges. * [`watch`]: history, then what comes. * [`directory`]: the lock.

mod directory;
mod gather;
mod index;
mod log;
mod read;
mod watch;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use self::{
    directory::DirectoryLock,
    index::{Index, Version},
    log::Log,
    watch::Groups,
    writer::Queue,
};
use crate::{Entry, Error, Outcome, Page, Revision, Store, Txn, Watch};

/// How to open an [`Embedded`] store.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The directory that holds the store and nothing else; made if it does not exist.
    pub dir: PathBuf,
    /// Bytes of values kept in memory; what does not fit is read from disk when asked for.
    pub value_cache_bytes: usize,
}

impl EmbeddedConfig {
    /// The usual settings: 8 MiB of values in memory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), value_cache_bytes: 8 << 20 }
    }
}

/// The store of one machine. Dropping it closes it.
pub struct Embedded {
    shared: Arc<Shared>,
    writer: Mutex<Option<(JoinHandle<()>, DirectoryLock)>>,
}

/// What the writer, readers and watchers share. Locks are taken in the order of the fields.
struct Shared {
    config: EmbeddedConfig,
    queue: Queue,
    index: RwLock<Index>,
    log: Log,
    groups: Groups,
    closed: AtomicBool,
}

/// The file in the data directory.
const FILE: &str = "store.redb";

impl Embedded {
    /// Opens the store in `config.dir`, or makes an empty one. [`Error::Open`] if another process has it.
    pub fn open(config: EmbeddedConfig) -> Result<Arc<Self>, Error> {
        let lock = DirectoryLock::take(&config.dir)?;
        let log = Log::open(config.dir.join(FILE))?;
        let index = load(&log, config.value_cache_bytes)?;
        let shared = Arc::new(Shared {
            config,
            queue: Queue::default(),
            index: RwLock::new(index),
            log,
            groups: Groups::default(),
            closed: AtomicBool::new(false),
        });
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let shared = shared.clone();
                move || writer::run(&shared)
            })
            .map_err(|e| Error::Open(format!("no thread to write with: {e}")))?;
        Ok(Arc::new(Self { shared, writer: Mutex::new(Some((writer, lock))) }))
    }

    /// Completes the transactions that are under way, ends all watches, closes the file and frees the
    /// directory. Everything after it gets [`Error::Closed`].
    pub fn close(&self) {
        let Some((writer, lock)) = self.writer.lock().take() else { return };
        self.shared.closed.store(true, Ordering::Release);
        self.shared.queue.close();
        if writer.join().is_err() {
            tracing::error!("the store's writer had panicked");
        }
        self.shared.groups.close();
        self.shared.log.close();
        drop(lock);
    }

    /// Rows in the log: one a live key, and those that compaction has not freed.
    pub fn rows(&self) -> Result<u64, Error> {
        self.shared.log.snapshot()?.len()
    }

    /// The oldest revision that can be read and watched from.
    pub fn oldest(&self) -> Revision {
        self.shared.index.read().oldest
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for Embedded {
    async fn txn(&self, txn: Txn) -> Result<Outcome, Error> {
        writer::check(&txn)?;
        self.shared.queue.submit(txn)?.await.map_err(|_| Error::Closed)?
    }

    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.shared.open()?;
        read::get(&self.shared, key, at)
    }

    async fn range(&self, start: &str, end: &str, at: Option<Revision>, limit: usize) -> Result<Page, Error> {
        self.shared.open()?;
        read::range(&self.shared, start, end, at, limit).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        self.shared.open()?;
        watch::watch(&self.shared, prefix, from)
    }

    async fn compact(&self, at: Revision) -> Result<(), Error> {
        self.shared.open()?;
        if at > self.revision() {
            return Err(Error::Future { asked: at, current: self.revision() });
        }
        self.shared.queue.compact(at)?.await.map_err(|_| Error::Closed)?
    }

    fn revision(&self) -> Revision {
        self.shared.index.read().revision
    }

    fn bytes_on_disk(&self) -> Option<u64> {
        // A file's blocks are of 512 bytes, whatever the file system's.
        let blocks = |path| std::fs::metadata(path).map(|metadata| std::os::unix::fs::MetadataExt::blocks(&metadata));
        blocks(self.shared.config.dir.join(FILE)).ok().map(|blocks| blocks * 512)
    }
}

impl Shared {
    fn open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

/// Works out the index from the log.
fn load(log: &Log, value_cache_bytes: usize) -> Result<Index, Error> {
    let opened = |e: Error| Error::Open(e.to_string());
    let snapshot = log.snapshot().map_err(opened)?;
    let horizon = snapshot.horizon().map_err(opened)?;
    let mut index = Index::new(value_cache_bytes);
    let load = snapshot.scan(0, |row| {
        let version = Version { place: row.place, create_revision: row.create_revision };
        let value = row.live().then(|| Bytes::copy_from_slice(row.value));
        index.apply(&Arc::from(row.key), version, value);
        Ok(true)
    });
    load.map_err(opened)?;
    index.oldest = horizon.oldest;
    index.revision = index.revision.max(horizon.revision);
    Ok(index)
}
