//! The tier on disk: what was stored is there after a restart, and what leaves memory is not lost.
//!
//! One file a response, `DIR/v1/XX/ID`, written under `DIR/v1/tmp` and then renamed; no id is used twice, so a file is
//! either whole or not there, and [`file`] judges what a crash of the machine left. One thread writes, removes and, at
//! the beginning, reads what is there. Which file stands for what is kept in memory.
//!
//! It holds at most what it was told. When it is full, a response enters only in place of one that was asked for less
//! often ([`sketch`]). When the disk takes nothing more, memory alone is used for a while: one line in the log and a
//! metric say so.

mod file;
mod index;
mod sketch;

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::file::ReadError;
use self::index::{Index, Record};
use self::sketch::Sketch;
use super::{Entry, Key, now};
use crate::config;
use crate::http1::Request;

/// Directories that files are spread over.
const SHARDS: u64 = 64;
/// What may wait to be written; beyond it responses stay in memory alone.
const WAITING: u64 = 32 << 20;
const WAITING_COUNT: usize = 1024;
/// For how long nothing is written after the disk refused.
const PAUSE: Duration = Duration::from_secs(30);
/// Files take whole blocks.
const BLOCK: u64 = 4096;

/// A directory of stored responses, and the thread that writes it. Ends with the last who holds it.
pub(crate) struct Disk {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    capacity: AtomicU64,
    /// Keeps others out of the directory.
    _lock: File,
    state: Mutex<State>,
    /// There is something to write, or it is time to end.
    work: Condvar,
    /// Something was written, or what was there is known.
    done: Condvar,
    asked: Sketch,
    up: AtomicBool,
    counts: [AtomicU64; 4],
}

const HITS: usize = 0;
const WRITES: usize = 1;
const EVICTIONS: usize = 2;
const ERRORS: usize = 3;

struct State {
    index: Index,
    waiting: VecDeque<Job>,
    waiting_bytes: u64,
    writing: Option<Job>,
    /// What was there at the beginning is in the index.
    loaded: bool,
    /// What was dropped before that, and when.
    dropped: HashMap<Key, u64>,
    ended: bool,
    next: u64,
    paused_until: Option<Instant>,
}

struct Job {
    key: Key,
    entry: Arc<Entry>,
    dropped: bool,
}

/// What the tier did.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "they are told by the metrics' help")]
pub struct DiskCounts {
    pub up: bool,
    pub bytes: u64,
    pub entries: u64,
    pub hits: u64,
    pub writes: u64,
    pub evictions: u64,
    pub errors: u64,
}

/// A file that fits a request.
pub(crate) struct Found {
    id: u64,
    /// It was asked for more than once of late.
    pub(crate) again: bool,
}

/// What is dropped.
pub(crate) enum Drop<'a> {
    /// A URL in all its variants.
    Key(&'a [u8]),
    /// Whatever bears one of these tags.
    Tags(&'a [String]),
}

impl Drop<'_> {
    fn concerns(&self, key: &[u8], tags: &[String]) -> bool {
        match self {
            Self::Key(dropped) => *dropped == key,
            Self::Tags(dropped) => tags.iter().any(|tag| dropped.contains(tag)),
        }
    }
}

impl Disk {
    /// Opens a directory; what it holds is read by and by.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process uses it.
    pub(crate) fn open(config: &config::Disk) -> io::Result<Arc<Self>> {
        let path = config.path.join("v1");
        fs::create_dir_all(path.join("tmp"))?;
        let lock = File::create(config.path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::other("another process uses it"),
        })?;
        for shard in 0..SHARDS {
            fs::create_dir_all(path.join(format!("{shard:02x}")))?;
        }
        let inner = Arc::new(Inner {
            path,
            capacity: AtomicU64::new(config.size.0),
            _lock: lock,
            state: Mutex::new(State {
                index: Index::default(),
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                writing: None,
                loaded: false,
                dropped: HashMap::new(),
                ended: false,
                // Later than the ids of earlier processes; if the clock was set back, `load` sees to it.
                next: now() << 12,
                paused_until: None,
            }),
            work: Condvar::new(),
            done: Condvar::new(),
            asked: Sketch::new((config.size.0 / (16 << 10)) as usize),
            up: AtomicBool::new(true),
            counts: Default::default(),
        });
        let worker = Arc::clone(&inner);
        std::thread::Builder::new().name("cache-disk".into()).spawn(move || worker.run())?;
        Ok(Arc::new(Self { inner }))
    }

    /// How much it may hold from now on.
    pub(crate) fn resize(&self, bytes: u64) {
        self.inner.capacity.store(bytes, Ordering::Relaxed);
        self.inner.work.notify_all();
    }

    /// Something was asked for, wherever it is found.
    pub(crate) fn asked(&self, key: &[u8]) {
        self.inner.asked.count(key);
    }

    /// The file that fits a request. It is to be [read](Self::read) where waiting for a disk hurts nobody.
    pub(crate) fn find(&self, key: &[u8], request: &Request) -> Option<Found> {
        let id = self.inner.state.lock().index.find(key, |vary| super::store::fits(vary, request))?;
        Some(Found { id, again: self.inner.asked.estimate(key) > 1 })
    }

    /// Reads a file that was found. Blocks. What is broken is dropped.
    pub(crate) fn read(&self, key: &[u8], found: &Found) -> Option<Arc<Entry>> {
        let inner = &self.inner;
        let path = inner.file(found.id);
        let error = match file::read(&path) {
            Ok((known, entry)) if *known == *key => {
                inner.count(HITS);
                return Some(Arc::new(entry));
            }
            Ok(_) => ReadError::Torn,
            Err(error) => error,
        };
        let gone = inner.state.lock().index.remove(key, found.id);
        // If it is not in the index any more it left meanwhile, and all is well.
        if gone {
            inner.count(ERRORS);
            tracing::warn!(file = %path.display(), %error, "a file of the cache cannot be used and is dropped");
            let _ = fs::remove_file(&path);
        }
        None
    }

    /// Takes a response, to be written by and by; unless it is there already, or is not worth it.
    pub(crate) fn offer(&self, key: &Key, entry: &Arc<Entry>) {
        let mut state = self.inner.state.lock();
        let length = file::length(key, entry);
        let paused = state.paused_until.is_some_and(|until| Instant::now() < until);
        let known = state.index.has(key, entry) || state.waiting.iter().any(|job| Arc::ptr_eq(&job.entry, entry));
        let full = state.waiting_bytes + length > WAITING || state.waiting.len() >= WAITING_COUNT;
        if known || paused || state.ended || full {
            if !known {
                // What is there is older than what is known now.
                let older = state.index.replace(key, entry);
                drop(state);
                self.inner.unlink(older);
            }
            return;
        }
        state.waiting_bytes += length;
        state.waiting.push_back(Job { key: Arc::clone(key), entry: Arc::clone(entry), dropped: false });
        self.inner.work.notify_all();
    }

    /// Drops something. Returns how many URLs it had of it. If `surely`, it blocks until a restart would not bring it back.
    pub(crate) fn remove(&self, what: &Drop<'_>, surely: bool) -> usize {
        let inner = &self.inner;
        let mut state = inner.state.lock();
        if surely {
            inner.done.wait_while(&mut state, |state| !state.loaded && !state.ended);
        } else if !state.loaded
            && let Drop::Key(key) = what
        {
            state.dropped.insert(Key::from(*key), now());
        }
        let mut freed = 0;
        state.waiting.retain(|job| {
            let dropped = what.concerns(&job.key, &job.entry.tags);
            freed += if dropped { file::length(&job.key, &job.entry) } else { 0 };
            !dropped
        });
        state.waiting_bytes -= freed;
        let (urls, files) = match what {
            Drop::Key(key) => state.index.remove_key(key),
            Drop::Tags(tags) => state.index.remove_tagged(tags),
        };
        let mut writing = false;
        if let Some(job) = &mut state.writing
            && what.concerns(&job.key, &job.entry.tags)
        {
            (job.dropped, writing) = (true, true);
        }
        parking_lot::MutexGuard::unlocked(&mut state, || inner.unlink(files));
        if writing && surely {
            inner.done.wait_while(&mut state, |state| state.writing.as_ref().is_some_and(|job| job.dropped));
        }
        urls
    }

    /// What it did by now.
    pub(crate) fn counts(&self) -> DiskCounts {
        let inner = &self.inner;
        let count = |which: usize| inner.counts[which].load(Ordering::Relaxed);
        let state = inner.state.lock();
        DiskCounts {
            up: inner.up.load(Ordering::Relaxed),
            bytes: state.index.bytes(),
            entries: state.index.len() as u64,
            hits: count(HITS),
            writes: count(WRITES),
            evictions: count(EVICTIONS),
            errors: count(ERRORS),
        }
    }
}

impl std::ops::Drop for Disk {
    fn drop(&mut self) {
        self.inner.state.lock().ended = true;
        self.inner.work.notify_all();
        self.inner.done.notify_all();
    }
}

impl Inner {
    fn count(&self, which: usize) {
        self.counts[which].fetch_add(1, Ordering::Relaxed);
    }

    fn file(&self, id: u64) -> PathBuf {
        self.path.join(format!("{:02x}/{id:016x}", id % SHARDS))
    }

    fn unlink(&self, ids: Vec<u64>) {
        for id in ids {
            // One that is not there is what is wanted.
            let _ = fs::remove_file(self.file(id));
        }
    }

    fn run(&self) {
        let directory = self.path.join("tmp");
        for file in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let _ = fs::remove_file(file.path());
        }
        for shard in 0..SHARDS {
            self.load(&self.path.join(format!("{shard:02x}")));
            while self.step() {}
        }
        {
            let mut state = self.state.lock();
            (state.loaded, state.dropped) = (true, HashMap::new());
        }
        self.done.notify_all();
        loop {
            if !self.step() {
                let mut state = self.state.lock();
                if state.ended {
                    return;
                }
                if state.waiting.is_empty() && state.index.bytes() <= self.capacity.load(Ordering::Relaxed) {
                    self.work.wait(&mut state);
                }
            }
        }
    }

    /// Learns what a directory holds.
    fn load(&self, directory: &Path) {
        for file in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = file.file_name();
            let Some(id) = name.to_str().filter(|n| n.len() == 16).and_then(|n| u64::from_str_radix(n, 16).ok()) else {
                continue;
            };
            match file::read_head(&file.path()) {
                Ok((key, entry, length)) if entry.has_use(now()) => {
                    let mut state = self.state.lock();
                    state.next = state.next.max(id + 1);
                    let dropped = state.dropped.get(&key).is_some_and(|at| *at >= entry.stored);
                    let older = if dropped || state.index.has_newer(&key, &entry) {
                        vec![id]
                    } else {
                        state.index.insert(&key, &entry, Record::new(id, blocks(length), &entry))
                    };
                    drop(state);
                    self.unlink(older);
                }
                // One that cannot be looked at now may be one that can later.
                Err(ReadError::Io(_)) => {}
                Ok(_) => drop(fs::remove_file(file.path())),
                Err(ReadError::Torn) => {
                    self.count(ERRORS);
                    let _ = fs::remove_file(file.path());
                }
            }
        }
    }

    /// Writes one response, or makes room. Returns whether there was anything to do.
    fn step(&self) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        let Some(job) = state.waiting.pop_front() else {
            if state.index.bytes() <= capacity {
                return false;
            }
            let victim = state.index.victim(|key| self.asked.estimate(key));
            let files = victim.map(|(key, id, _)| (state.index.remove(&key, id), id).1);
            drop(state);
            self.count(EVICTIONS);
            self.unlink(files.into_iter().collect());
            return true;
        };
        let length = file::length(&job.key, &job.entry);
        state.waiting_bytes -= length;
        if state.index.has(&job.key, &job.entry) {
            return true;
        }
        let (key, entry) = (Arc::clone(&job.key), Arc::clone(&job.entry));
        let older = state.index.replace(&key, &entry);
        state.writing = Some(job);
        let id = state.next;
        state.next += 1;
        drop(state);
        self.unlink(older);
        let written =
            if self.make_room(&key, blocks(length), capacity) { self.write(id, &key, &entry) } else { Ok(false) };
        let mut state = self.state.lock();
        let dropped = state.writing.as_ref().is_none_or(|job| job.dropped);
        let mut files = Vec::new();
        match written {
            Ok(true) if !dropped => files = state.index.insert(&key, &entry, Record::new(id, blocks(length), &entry)),
            Ok(true) => files.push(id),
            Ok(false) => {}
            Err(_) => state.paused_until = Some(Instant::now() + PAUSE),
        }
        parking_lot::MutexGuard::unlocked(&mut state, || self.unlink(files));
        state.writing = None;
        drop(state);
        self.done.notify_all();
        match written {
            Ok(false) => {}
            Ok(true) => {
                self.count(WRITES);
                if !self.up.swap(true, Ordering::Relaxed) {
                    tracing::info!(path = %self.path.display(), "the cache's disk takes responses again");
                }
            }
            Err(error) => {
                self.count(ERRORS);
                if self.up.swap(false, Ordering::Relaxed) {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "the cache's disk takes nothing more: memory alone is used");
                }
            }
        }
        true
    }

    /// Makes room for a response, if it is worth more than what would have to go.
    fn make_room(&self, key: &[u8], size: u64, capacity: u64) -> bool {
        if size > capacity {
            return false;
        }
        let worth = self.asked.estimate(key);
        loop {
            let mut state = self.state.lock();
            if state.index.bytes() + size <= capacity {
                return true;
            }
            let Some((victim, id, its)) = state.index.victim(|key| self.asked.estimate(key)) else { return false };
            if its >= worth {
                return false;
            }
            state.index.remove(&victim, id);
            drop(state);
            self.count(EVICTIONS);
            self.unlink(vec![id]);
        }
    }

    fn write(&self, id: u64, key: &[u8], entry: &Entry) -> io::Result<bool> {
        let draft = self.path.join(format!("tmp/{id:016x}"));
        let written = file::write(&draft, key, entry).and_then(|()| fs::rename(&draft, self.file(id)));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.map(|()| true)
    }
}

fn blocks(length: u64) -> u64 {
    length.div_ceil(BLOCK) * BLOCK
}
