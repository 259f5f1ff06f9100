//! Worktrees beside each other, and the link that points at one: whoever follows it sees one commit or the next, never a
//! mixture.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use git::{CheckoutError, Objects, Oid, checkout};

const NEW: &str = ".new-";

/// The directory of a repository's worktrees.
#[derive(Clone, Debug)]
pub struct Worktrees {
    directory: PathBuf,
    link: PathBuf,
}

/// A worktree that could not be made or shown.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    /// The files could not be written.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The disk refuses.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

impl Worktrees {
    /// Opens (and makes) the directory `root/.worktrees`; `link` is within `root` unless it is absolute. What an earlier
    /// run left half-made is removed.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(root: &Path, link: &Path) -> Result<Self, WorktreeError> {
        let directory = root.join(".worktrees");
        fs::create_dir_all(&directory).map_err(told(&directory))?;
        let link = root.join(link);
        if let Some(parent) = link.parent() {
            fs::create_dir_all(parent).map_err(told(parent))?;
        }
        let worktrees = Self { directory, link };
        for (name, path) in worktrees.present()? {
            if name.starts_with(NEW) {
                fs::remove_dir_all(&path).map_err(told(&path))?;
            }
        }
        Ok(worktrees)
    }

    /// Where packs may lie for a moment.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The commit that the link shows, if its files are there.
    #[must_use]
    pub fn shown(&self) -> Option<Oid> {
        let target = fs::read_link(&self.link).ok()?;
        let oid: Oid = target.file_name()?.to_str()?.parse().ok()?;
        self.path(&oid).is_dir().then_some(oid)
    }

    /// Where a commit's files are.
    #[must_use]
    pub fn path(&self, commit: &Oid) -> PathBuf {
        self.directory.join(commit.to_string())
    }

    /// Writes a commit's files, to the disk, under their final name only when they are whole.
    ///
    /// # Errors
    /// If they cannot be written; nothing is left then.
    pub fn make(&self, objects: &mut dyn Objects, commit: &Oid) -> Result<(), WorktreeError> {
        let (new, path) = (self.directory.join(format!("{NEW}{commit}")), self.path(commit));
        if path.is_dir() {
            return Ok(());
        }
        let made = checkout(objects, commit, &new).map_err(WorktreeError::from).and_then(|()| {
            let synced = File::open(&new).and_then(|file| Ok(nix::unistd::syncfs(&file)?));
            synced.and_then(|()| fs::rename(&new, &path)).map_err(told(&path))
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        made
    }

    /// Lets the link show a commit, at once for everyone.
    ///
    /// # Errors
    /// If the link cannot be put in its place.
    pub fn show(&self, commit: &Oid) -> Result<(), WorktreeError> {
        let parent = self.link.parent().unwrap_or(Path::new("."));
        // Relative where that works, so that the volume may be mounted elsewhere in another container.
        let target = match self.directory.parent() {
            Some(root) if root == parent => Path::new(".worktrees").join(commit.to_string()),
            _ => self.path(commit),
        };
        let name = self.link.file_name().unwrap_or_default().to_string_lossy();
        let new = parent.join(format!(".{name}.new"));
        let _ = fs::remove_file(&new);
        std::os::unix::fs::symlink(&target, &new).map_err(told(&new))?;
        fs::rename(&new, &self.link).map_err(told(&self.link))?;
        File::open(parent).and_then(|file| file.sync_all()).map_err(told(parent))
    }

    /// Marks a commit's files as of no use from now on.
    pub fn retire(&self, commit: &Oid) {
        let now = SystemTime::now();
        let marked = File::open(self.path(commit)).and_then(|directory| directory.set_modified(now));
        if let Err(error) = marked {
            tracing::debug!(%error, %commit, "the time of a worktree cannot be set");
        }
    }

    /// Removes the files of all commits but one that have been of no use for so long. Returns how many.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn collect(&self, keep: &Oid, after: Duration) -> Result<usize, WorktreeError> {
        let mut removed = 0;
        for (name, path) in self.present()? {
            if name.parse::<Oid>().is_ok_and(|oid| oid == *keep) {
                continue;
            }
            let age =
                fs::metadata(&path).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
            // A time in the future is as good as now.
            if age.unwrap_or_default() >= after {
                match fs::remove_dir_all(&path) {
                    Ok(()) => removed += 1,
                    Err(error) => tracing::warn!(%error, path = %path.display(), "an old worktree cannot be removed"),
                }
            }
        }
        Ok(removed)
    }

    fn present(&self) -> Result<Vec<(String, PathBuf)>, WorktreeError> {
        let entries = fs::read_dir(&self.directory).map_err(told(&self.directory))?;
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        Ok(directories.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect())
    }
}

fn told(path: &Path) -> impl FnOnce(io::Error) -> WorktreeError {
    let path = path.to_owned();
    move |error| WorktreeError::Io(path, error)
}
