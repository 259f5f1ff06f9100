//! Waiting for a log to grow: by the kernel's word, or that of the container's end.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::Sender;
use crate::containers::Container;

/// Told when anything in a container's directory changes.
pub(super) struct Watcher(Inotify);

impl Watcher {
    pub fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(directory, flags)?;
        Ok(Self(inotify))
    }

    /// Blocks until there may be something new, the container ended, the client left or the time is up.
    pub fn wait(&mut self, container: &Container, to: &Sender, until: Option<Timestamp>) {
        let mut moments = container.moments.subscribe();
        let left = until.map(|until| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
        Handle::current().block_on(async {
            // SAFETY: the descriptor is borrowed from `self`, which stays as it is until the registration is dropped.
            let Ok(ready) = (unsafe { AsyncFd::register(self.0.as_fd()) }) else { return };
            tokio::select! {
                _ = ready.readable() => {}
                _ = moments.wait_for(|moment| !moment.running) => {}
                () = to.closed() => {}
                () = async { match left { Some(left) => tokio::time::sleep(left).await, None => std::future::pending().await } } => {}
            }
        });
        while self.0.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}
