//! Trees that are removed go out of the store at once, by a rename; their files go behind the caller's back: there may be
//! thousands of them, and some disks are told of each that its room is free.
//!
//! Where room is short, whoever removes waits for it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Content, ContentError};

/// Less than this part of the disk is little room (a fifth: image collection and eviction begin there, too).
const SHORT: u64 = 5;

/// Whether this process is removing files.
#[derive(Default)]
pub(super) struct Removal(AtomicBool);

impl Content {
    /// Takes a tree of the store away; absent is fine.
    ///
    /// # Errors
    /// The disk's. What failed after the rename is only logged, and tried again with the next removal.
    pub(super) fn take_out(&self, path: &Path) -> Result<(), ContentError> {
        let aside = self.path("removed").join(uuid::Uuid::new_v4().to_string());
        match std::fs::rename(path, &aside) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| ContentError::io("remove", path, e))?,
        }
        match self.is_short_of_room() {
            true => drop(self.empty_removed()),
            false => self.remove_soon(),
        }
        Ok(())
    }

    /// Sees to it that what was taken out, also by a process that ended before it was done, is removed.
    pub(super) fn remove_soon(&self) {
        if !self.has_removed() || self.inner.removal.0.swap(true, Ordering::AcqRel) {
            return;
        }
        let content = self.clone();
        let spawned = std::thread::Builder::new().name("remove-trees".into()).spawn(move || {
            let running = &content.inner.removal.0;
            loop {
                let some = content.empty_removed();
                running.store(false, Ordering::Release);
                // What came after the last look; what can't be removed is no reason to go on.
                if !some || !content.has_removed() || running.swap(true, Ordering::AcqRel) {
                    break;
                }
            }
        });
        if spawned.is_err() {
            self.inner.removal.0.store(false, Ordering::Release);
        }
    }

    fn has_removed(&self) -> bool {
        std::fs::read_dir(self.path("removed")).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes what was taken out, and answers whether there was anything that could be.
    fn empty_removed(&self) -> bool {
        let mut some = false;
        for entry in std::fs::read_dir(self.path("removed")).into_iter().flatten().flatten() {
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => some = true,
                // Another process of this store does the same.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %entry.path().display(), %error, "can't be removed"),
            }
        }
        some
    }

    fn is_short_of_room(&self) -> bool {
        rustix::fs::statvfs(self.root()).is_ok_and(|disk| {
            disk.f_bavail < disk.f_blocks / SHORT || (disk.f_files > 0 && disk.f_favail < disk.f_files / SHORT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_gone_at_once_and_what_an_ended_process_left_goes_with_the_next_start() {
        let root = tempfile::tempdir().expect("a directory");
        let content = Content::open(root.path()).expect("open");
        let tree = content.path("snapshots").join("c");
        std::fs::create_dir_all(tree.join("upper/deep")).expect("made");
        content.take_out(&tree).expect("taken out");
        assert!(!tree.exists());
        content.take_out(&tree).expect("absent is fine");
        let left = content.path("removed").join("left");
        std::fs::create_dir_all(left.join("deep")).expect("made");
        let content = Content::open(root.path()).expect("open again");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while content.has_removed() {
            assert!(std::time::Instant::now() < deadline, "still there");
            std::thread::yield_now();
        }
    }
}
