//! Waiting for files to change.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use directory_watch::{DirectoryWatch, Kinds};

/// How long it must be quiet after an event: editors and kubelets change several names for one change.
const SETTLE: Duration = Duration::from_millis(50);
/// A directory in which it is never quiet is told of after so long all the same.
const PATIENCE: Duration = Duration::from_millis(500);

/// Wakes when something happens in the directories that hold some files: plain writes, renames over a name, and the flip of
/// the symbolic link by which mounted ConfigMaps and Secrets change. It may wake without a change: compare what you read.
pub struct FileWatch {
    watch: DirectoryWatch,
    files: Vec<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

impl FileWatch {
    /// Watches files, which need not be there yet; their directories must.
    ///
    /// # Errors
    /// If a directory does not exist, or the host has no watch to give.
    pub fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> io::Result<Self> {
        let files = files.into_iter().map(Into::into).collect();
        let mut watch = Self { watch: DirectoryWatch::new()?, files, directories: BTreeSet::new() };
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
        self.watch.events().await?;
        let quiet =
            async { while tokio::time::timeout(SETTLE, self.watch.events()).await.is_ok_and(|event| event.is_ok()) {} };
        let _ = tokio::time::timeout(PATIENCE, quiet).await;
        // A link may point into another directory now; one that is gone was told of already.
        let _ = self.follow();
        Ok(())
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
                    let kinds = Kinds::IN_CLOSE_WRITE | Kinds::IN_MOVED_TO | Kinds::IN_CREATE | Kinds::IN_DELETE;
                    self.watch.add(directory, kinds)?;
                    self.directories.insert(directory.to_owned());
                }
            }
        }
        Ok(())
    }
}
