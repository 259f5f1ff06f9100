//! When the files in a directory change.

use std::{
    os::fd::{AsFd, AsRawFd, RawFd},
    path::Path,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::{Interest, unix::AsyncFd};

/// Between looks where the kernel does not tell (upstream's `fileCheckFrequency`).
const FALLBACK: Duration = Duration::from_secs(20);
/// Files are often written one after the other: they are read together.
const SETTLE: Duration = Duration::from_millis(50);

struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Changes of one directory.
pub struct Changes {
    events: Option<AsyncFd<Events>>,
}

impl Changes {
    /// Of a directory, which is made if it is missing.
    pub fn of(dir: &Path) -> Self {
        let watch = || {
            std::fs::create_dir_all(dir)?;
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let what = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
            inotify.add_watch(dir, what)?;
            // SAFETY: the descriptor is the watch's own, which the `AsyncFd` owns from here on.
            let events = unsafe { AsyncFd::register_with_interest(Events(inotify), Interest::READABLE) };
            events.map_err(std::io::Error::other)
        };
        let watched: std::io::Result<_> = watch();
        if let Err(error) = &watched {
            tracing::warn!(%error, dir = %dir.display(), "the manifests of static pods can't be watched: they are looked at now and then");
        }
        Self { events: watched.ok() }
    }

    /// Resolves after a change.
    pub async fn next(&mut self) {
        let Some(events) = &self.events else { return tokio::time::sleep(FALLBACK).await };
        match events.readable().await {
            Ok(mut ready) => {
                tokio::time::sleep(SETTLE).await;
                // What they were does not matter: everything is read anew.
                while events.get_ref().0.read_events().is_ok_and(|e| !e.is_empty()) {}
                ready.clear_ready();
            }
            Err(_) => tokio::time::sleep(FALLBACK).await,
        }
    }
}
