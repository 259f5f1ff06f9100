//! Waiting for files to change.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

/// How long it must be quiet after an event: editors and kubelets change several names for one change.
const SETTLE: Duration = Duration::from_millis(50);
/// A directory in which it is never quiet is told of after so long all the same.
const PATIENCE: Duration = Duration::from_millis(500);

/// Wakes when something happens in the directories that hold some files: plain writes, renames over a name, and the flip of
/// the symbolic link by which mounted ConfigMaps and Secrets change. It may wake without a change: compare what you read.
pub struct FileWatch {
    inotify: AsyncFd<Descriptor>,
    files: Vec<PathBuf>,
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

impl FileWatch {
    /// Watches files, which need not be there yet; their directories must.
    ///
    /// # Errors
    /// If a directory does not exist, or the host has no watch to give.
    pub fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let files = files.into_iter().map(Into::into).collect();
        let mut watch = Self {
            // SAFETY: the descriptor is owned by what is registered, and lives as long.
            inotify: unsafe { AsyncFd::register(Descriptor(inotify)) }.map_err(io::Error::from)?,
            files,
            directories: BTreeSet::new(),
        };
        watch.follow()?;
        Ok(watch)
    }

    /// Watches more files. Who watches a directory and then lists it for what else to watch misses nothing.
    ///
    /// # Errors
    /// As for [`FileWatch::new`]; those before the one that fails are watched.
    pub fn also(&mut self, files: impl IntoIterator<Item = impl Into<PathBuf>>) -> io::Result<()> {
        self.files.extend(files.into_iter().map(Into::into));
        self.follow()
    }

    /// Returns once something has happened and it has been quiet for a moment.
    ///
    /// # Errors
    /// If the host's watch breaks.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.event().await?;
        let quiet =
            async { while tokio::time::timeout(SETTLE, self.event()).await.is_ok_and(|event| event.is_ok()) {} };
        let _ = tokio::time::timeout(PATIENCE, quiet).await;
        // A link may point into another directory now; one that is gone was told of already.
        let _ = self.follow();
        Ok(())
    }

    async fn event(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Watches each file's directory, and the one where it really lies.
    fn follow(&mut self) -> io::Result<()> {
        self.directories.retain(|directory| directory.exists());
        for file in &self.files {
            let real = file.canonicalize().ok();
            for path in [Some(file.as_path()), real.as_deref()].into_iter().flatten() {
                let directory = match path.parent() {
                    Some(parent) if parent != Path::new("") => parent,
                    _ => Path::new("."),
                };
                if !self.directories.contains(directory) {
                    let events = AddWatchFlags::IN_CLOSE_WRITE
                        | AddWatchFlags::IN_MOVED_TO
                        | AddWatchFlags::IN_CREATE
                        | AddWatchFlags::IN_DELETE;
                    self.inotify.get_ref().0.add_watch(directory, events)?;
                    self.directories.insert(directory.to_owned());
                }
            }
        }
        Ok(())
    }
}
