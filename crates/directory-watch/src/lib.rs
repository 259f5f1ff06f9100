//! The kernel's word of what happens in directories (inotify(7)), for tasks that wait for it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

pub use nix::sys::inotify::{AddWatchFlags as Kinds, InotifyEvent as Event};

/// Wakes when something happens in some directories.
#[derive(Debug)]
pub struct DirectoryWatch(AsyncFd<Descriptor>);

/// What the reactor asks for; `Inotify` gives only the borrowed descriptor.
#[derive(Debug)]
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

impl DirectoryWatch {
    /// Watches nothing yet. Needs a runtime around it.
    ///
    /// # Errors
    /// If the host has no watch to give (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: the descriptor is owned by the value that is registered, which always names the same one.
        Ok(Self(unsafe { AsyncFd::register(Descriptor(inotify)) }.map_err(io::Error::from)?))
    }

    /// Watches a directory, or what it is a link to, for events of these kinds; whose watch it has already, for these
    /// from now on.
    ///
    /// # Errors
    /// If it does not exist, or the host has no more watches to give (`fs.inotify.max_user_watches`).
    pub fn add(&self, directory: &Path, kinds: Kinds) -> io::Result<()> {
        self.0.get_ref().0.add_watch(directory, kinds)?;
        Ok(())
    }

    /// All that has happened since the last call, once there is something. Cancel-safe.
    ///
    /// # Errors
    /// If the watch breaks.
    pub async fn events(&self) -> io::Result<Vec<Event>> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut all = Vec::new();
            loop {
                match ready.get_inner().0.read_events() {
                    Ok(events) => all.extend(events),
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if !all.is_empty() {
                return Ok(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_happens_in_a_directory_is_told_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let watch = DirectoryWatch::new().expect("a watch");
        assert!(watch.add(&directory.path().join("missing"), Kinds::IN_CREATE).is_err());
        watch.add(directory.path(), Kinds::IN_CREATE | Kinds::IN_DELETE).expect("it is watched");
        std::fs::write(directory.path().join("a"), "").expect("it is written");
        std::fs::remove_file(directory.path().join("a")).expect("it is removed");
        let told: Vec<_> = watch.events().await.expect("it goes on").into_iter().map(|e| (e.mask, e.name)).collect();
        assert_eq!(told, [(Kinds::IN_CREATE, Some("a".into())), (Kinds::IN_DELETE, Some("a".into()))]);
        assert!(tokio::time::timeout(Duration::from_millis(20), watch.events()).await.is_err());
    }
}
