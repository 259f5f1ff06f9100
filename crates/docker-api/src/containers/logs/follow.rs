//! Waiting for a log to grow: by the kernel's word, or that of the container's end.

use std::io;
use std::path::Path;
use std::time::Duration;

use directory_watch::{DirectoryWatch, Kinds};
use jiff::Timestamp;
use tokio::runtime::Handle;

use super::Sender;
use crate::containers::Container;

/// Told when anything in a container's directory changes.
pub(super) struct Watcher(DirectoryWatch);

impl Watcher {
    pub fn new(directory: &Path) -> io::Result<Self> {
        let watch = DirectoryWatch::new()?;
        watch.add(directory, Kinds::IN_MODIFY | Kinds::IN_CREATE | Kinds::IN_MOVED_TO)?;
        Ok(Self(watch))
    }

    /// Blocks until there may be something new, the container ended, the client left or the time is up.
    pub fn wait(&mut self, container: &Container, to: &Sender, until: Option<Timestamp>) {
        let mut moments = container.moments.subscribe();
        let left = until.map(|until| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
        Handle::current().block_on(async {
            tokio::select! {
                _ = self.0.events() => {}
                _ = moments.wait_for(|moment| !moment.running) => {}
                () = to.closed() => {}
                () = async { match left { Some(left) => tokio::time::sleep(left).await, None => std::future::pending().await } } => {}
            }
        });
    }
}
