//! Waiting for files to grow, to come and to go.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use directory_watch::{DirectoryWatch, Kinds};

/// Wakes when something happens in some directories.
pub struct Watch {
    watch: DirectoryWatch,
    directories: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// If the host has no watch to give.
    pub fn new() -> io::Result<Self> {
        Ok(Self { watch: DirectoryWatch::new()?, directories: BTreeSet::new() })
    }

    /// Watches a directory too; one that is not there yet is tried again at the next call.
    pub fn add(&mut self, directory: &Path) {
        self.directories.retain(|known| known.exists());
        if self.directories.contains(directory) {
            return;
        }
        let kinds = Kinds::IN_MODIFY | Kinds::IN_CREATE | Kinds::IN_MOVED_TO | Kinds::IN_MOVED_FROM | Kinds::IN_DELETE;
        match self.watch.add(directory, kinds) {
            Ok(()) => drop(self.directories.insert(directory.to_owned())),
            Err(error) => tracing::debug!(%error, directory = %directory.display(), "the directory cannot be watched"),
        }
    }

    /// Returns once something has happened.
    ///
    /// # Errors
    /// If the host's watch breaks.
    pub async fn changed(&self) -> io::Result<()> {
        self.watch.events().await.map(drop)
    }
}
