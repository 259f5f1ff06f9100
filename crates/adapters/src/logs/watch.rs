//! Waiting for files to grow, to come and to go.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

/// Wakes when something happens in some directories.
pub struct Watch {
    inotify: AsyncFd<Descriptor>,
    directories: BTreeSet<PathBuf>,
}

/// What the reactor asks for; `Inotify` gives only the borrowed descriptor.
struct Descriptor(Inotify);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// If the host has no watch to give.
    pub fn new() -> io::Result<Self> {
        let inotify = Descriptor(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?);
        // SAFETY: the descriptor is owned by the value that is registered, which always names the same one.
        let inotify = unsafe { AsyncFd::register(inotify) }.map_err(io::Error::from)?;
        Ok(Self { inotify, directories: BTreeSet::new() })
    }

    /// Watches a directory too; one that is not there yet is tried again at the next call.
    pub fn add(&mut self, directory: &Path) {
        self.directories.retain(|known| known.exists());
        if self.directories.contains(directory) {
            return;
        }
        let events = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        match self.inotify.get_ref().0.add_watch(directory, events) {
            Ok(_) => drop(self.directories.insert(directory.to_owned())),
            Err(error) => tracing::debug!(%error, directory = %directory.display(), "the directory cannot be watched"),
        }
    }

    /// Returns once something has happened.
    ///
    /// # Errors
    /// If the host's watch breaks.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
