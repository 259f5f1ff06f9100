//! What an archive may cost: a small one can ask for more than any disk or memory holds.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// What unpacking one layer may take. Beyond it is an error, and what was unpacked is removed.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of the plain archive.
    pub bytes: u64,
    /// Length of one file, holes included.
    pub file: u64,
    /// Bytes of one entry's headers, long names and attributes: they are held in memory.
    pub headers: u64,
    /// Bytes that stay free on the disk.
    pub reserve: u64,
    /// On a small disk, no more than its size divided by this stay free; 0: however small it is.
    pub reserve_share: u64,
}

impl Default for Limits {
    /// More than any honest layer has.
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            bytes: 256 << 30,
            file: 64 << 30,
            headers: 2 << 20,
            reserve: 128 << 20,
            reserve_share: 20,
        }
    }
}

/// How often the disk is looked at, in bytes read.
const CHECK_EVERY: u64 = 32 << 20;

/// What is left of the limits.
pub(super) struct Budget {
    disk: OwnedFd,
    reserve: u64,
    reserve_share: u64,
    bytes: Cell<u64>,
    /// While headers are read: what is left for them.
    headers: Cell<Option<u64>>,
    until_check: Cell<u64>,
}

impl Budget {
    pub fn new(limits: &Limits, disk: OwnedFd) -> Rc<Self> {
        Rc::new(Self {
            disk,
            reserve: limits.reserve,
            reserve_share: limits.reserve_share,
            bytes: Cell::new(limits.bytes),
            headers: Cell::new(None),
            until_check: Cell::new(0),
        })
    }

    /// From here on headers are read (with this much for them), or bodies.
    pub fn reading_headers(&self, bytes: Option<u64>) {
        self.headers.set(bytes);
    }

    fn room(&self) -> io::Result<u64> {
        if self.until_check.get() == 0 {
            let disk = rustix::fs::fstatvfs(&self.disk)?;
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            let share = bytes(disk.f_blocks).checked_div(self.reserve_share).unwrap_or(u64::MAX);
            if bytes(disk.f_bavail) < self.reserve.min(share) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
            }
            self.until_check.set(CHECK_EVERY);
        }
        match (self.bytes.get(), self.headers.get()) {
            (0, _) => Err(io::Error::new(io::ErrorKind::FileTooLarge, "the layer is larger than layers may be")),
            (_, Some(0)) => {
                Err(io::Error::new(io::ErrorKind::FileTooLarge, "an entry's name or attributes are too long"))
            }
            (bytes, headers) => Ok(bytes.min(headers.unwrap_or(u64::MAX)).min(self.until_check.get())),
        }
    }

    fn spend(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() - bytes);
        self.headers.set(self.headers.get().map(|left| left - bytes));
        self.until_check.set(self.until_check.get() - bytes);
    }
}

/// A reader that spends a budget.
pub(super) struct Budgeted<R> {
    pub inner: R,
    pub budget: Rc<Budget>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.budget.room()?).unwrap_or(usize::MAX);
        let length = buffer.len().min(room);
        let read = self.inner.read(&mut buffer[..length])?;
        self.budget.spend(read as u64);
        Ok(read)
    }
}
