//! The data directory and the lock that keeps a second process out of it.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use crate::Error;

/// Holds the directory until dropped.
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory if need be and takes it for this process.
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let refused = |e: std::io::Error| Error::Open(format!("data directory {}: {e}", directory.display()));
        std::fs::create_dir_all(directory).map_err(refused)?;
        let path = directory.join("lock");
        let mut options = File::options();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {
                // Whom to name to a second one; on a full disk that stays unsaid.
                let _ = file.set_len(0).and_then(|()| file.rewind());
                let _ = write!(file, "{}", std::process::id());
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder =
                    holder.trim().parse::<u32>().map_or("another process".into(), |pid| format!("process {pid}"));
                Err(Error::Open(format!("data directory {} is in use by {holder}", directory.display())))
            }
            Err(TryLockError::Error(e)) => Err(refused(e)),
        }
    }
}

/// Bytes that can still be written to the file system of `directory`; `None` if it does not say.
pub(super) fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(directory).ok()?;
    (stat.blocks() > 0).then(|| stat.blocks_available() * stat.fragment_size())
}
