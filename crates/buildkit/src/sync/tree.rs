//! The receiving directory: what a sender says of a tree, made below a root that nothing of it can leave.
//!
//! A sender is not trusted. Paths must come as fsutil orders them, each once and after its directory, so that no step of
//! a path is ever anything but a directory that was made here; the kernel is told not to follow links all the same.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};

use super::packet::{Stat, mode};

/// Files whose contents are on their way at a time; senders stop listening at 128.
const AT_A_TIME: usize = 64;
/// Deeper trees are refused.
const MAX_DEPTH: usize = 1000;

/// What a sender may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u32,
    /// How long it may send nothing.
    pub patience: Duration,
}

impl Default for Limits {
    /// As much as a context may be.
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 5_000_000, patience: Duration::from_secs(120) }
    }
}

/// Why a tree is refused.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A path that could leave the tree, or is none.
    #[error("invalid path {0:?}")]
    Path(String),
    /// Out of order, twice, or without its directory.
    #[error("path {0:?} is out of order")]
    Order(String),
    /// Contents that nobody asked for.
    #[error("invalid file request {0}")]
    Unasked(u32),
    /// Files after their end.
    #[error("a file after the last one")]
    AfterLast,
    /// More than the limits allow.
    #[error("more than {0}")]
    TooMuch(String),
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// How.
        source: io::Error,
    },
}

/// A tree in the making. Blocks.
pub(crate) struct Tree {
    root: OwnedFd,
    limits: Limits,
    /// The directories above what came last, with their times, the root left out.
    above: Vec<(String, i64)>,
    /// The path that came last.
    last: String,
    count: u32,
    bytes: u64,
    /// Files that were made and are not asked for yet.
    waiting: VecDeque<Wanted>,
    /// Files whose contents come.
    coming: HashMap<u32, (Wanted, File)>,
    ended: bool,
}

struct Wanted {
    id: u32,
    stat: Stat,
}

impl Tree {
    pub fn new(root: OwnedFd, limits: Limits) -> Self {
        Self {
            root,
            limits,
            above: Vec::new(),
            last: String::new(),
            count: 0,
            bytes: 0,
            waiting: VecDeque::new(),
            coming: HashMap::new(),
            ended: false,
        }
    }

    /// The next file of the tree; returns the files to ask for.
    pub fn stat(&mut self, stat: Stat) -> Result<Vec<u32>, TreeError> {
        if self.ended {
            return Err(TreeError::AfterLast);
        }
        let id = self.count;
        self.count += 1;
        if self.count > self.limits.entries {
            return Err(TreeError::TooMuch(format!("{} files", self.limits.entries)));
        }
        self.enter(&stat.path)?;
        self.make(id, stat)?;
        self.ask()
    }

    /// There are no more.
    pub fn last(&mut self) -> Result<Vec<u32>, TreeError> {
        if self.ended {
            return Err(TreeError::AfterLast);
        }
        self.ended = true;
        while let Some((path, modified)) = self.above.pop() {
            self.leave(&path, modified)?;
        }
        self.ask()
    }

    /// A piece of a file, or its end; returns the files to ask for.
    pub fn data(&mut self, id: u32, data: &[u8]) -> Result<Vec<u32>, TreeError> {
        let (wanted, file) = self.coming.get_mut(&id).ok_or(TreeError::Unasked(id))?;
        let failed = |path: &str| {
            let path = path.to_owned();
            move |source| TreeError::Io { path, source }
        };
        if !data.is_empty() {
            self.bytes += data.len() as u64;
            if self.bytes > self.limits.bytes {
                return Err(TreeError::TooMuch(format!("{} bytes", self.limits.bytes)));
            }
            file.write_all(data).map_err(failed(&wanted.stat.path))?;
            return Ok(Vec::new());
        }
        finish(file, &wanted.stat).map_err(failed(&wanted.stat.path))?;
        self.coming.remove(&id);
        self.ask()
    }

    /// Whether all is here.
    pub fn is_whole(&self) -> bool {
        self.ended && self.waiting.is_empty() && self.coming.is_empty()
    }

    /// Checks a path and its place in the order, and leaves the directories that are complete with it.
    fn enter(&mut self, path: &str) -> Result<(), TreeError> {
        let parts: Vec<&str> = path.split('/').collect();
        let bad = |part: &&str| matches!(*part, "" | "." | "..") || part.contains('\0') || part.len() > 255;
        if parts.iter().any(bad) || parts.len() > MAX_DEPTH {
            return Err(TreeError::Path(path.to_owned()));
        }
        if !self.last.is_empty() && !parts.iter().copied().gt(self.last.split('/')) {
            return Err(TreeError::Order(path.to_owned()));
        }
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        while let Some((above, _)) = self.above.last()
            && above != parent
        {
            let (above, modified) = self.above.pop().expect("it was just looked at");
            self.leave(&above, modified)?;
        }
        if self.above.last().map_or("", |(above, _)| above.as_str()) != parent {
            return Err(TreeError::Order(path.to_owned()));
        }
        path.clone_into(&mut self.last);
        Ok(())
    }

    fn make(&mut self, id: u32, stat: Stat) -> Result<(), TreeError> {
        let failed = |source: rustix::io::Errno| TreeError::Io { path: stat.path.clone(), source: source.into() };
        let (parent, name) = stat.path.rsplit_once('/').unwrap_or(("", &stat.path));
        let parent = self.directory(parent).map_err(failed)?;
        match stat.mode & mode::KIND {
            mode::DIRECTORY => {
                rfs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)).map_err(failed)?;
                let made = self.directory(&stat.path).map_err(failed)?;
                // Listed and entered by its owner at least, or nobody could fill it.
                let permissions = Mode::from_raw_mode(mode::permissions(stat.mode));
                rfs::fchmod(&made, permissions).map_err(failed)?;
                self.above.push((stat.path, stat.modified));
            }
            mode::LINK => {
                rfs::symlinkat(stat.link.as_str(), &parent, name).map_err(failed)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rfs::utimensat(&parent, name, &times(stat.modified), flags).map_err(failed)?;
            }
            mode::PIPE => {
                let permissions = Mode::from_raw_mode(mode::permissions(stat.mode));
                rfs::mknodat(&parent, name, FileType::Fifo, permissions, 0).map_err(failed)?;
            }
            0 if !stat.link.is_empty() => {
                let (from, first) = stat.link.rsplit_once('/').unwrap_or(("", &stat.link));
                let invalid = || TreeError::Path(stat.link.clone());
                let from = self.directory(from).map_err(|_| invalid())?;
                let first_stat = rfs::statat(&from, first, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| invalid())?;
                if first.is_empty() || FileType::from_raw_mode(first_stat.st_mode) != FileType::RegularFile {
                    return Err(invalid());
                }
                rfs::linkat(&from, first, &parent, name, AtFlags::empty()).map_err(failed)?;
            }
            0 => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rfs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
                if stat.size == 0 {
                    let path = stat.path.clone();
                    finish(File::from(file), &stat).map_err(|source| TreeError::Io { path, source })?;
                } else {
                    self.waiting.push_back(Wanted { id, stat });
                }
            }
            // Devices and sockets have no place in a context.
            _ => {}
        }
        Ok(())
    }

    /// A directory of the tree; no step of its path is a link.
    fn directory(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rfs::openat2(&self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .and_then(|probe| {
                // chmod and the like want more than a path.
                rfs::openat(&probe, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            })
    }

    /// A directory that gets no more entries has its time again.
    fn leave(&self, path: &str, modified: i64) -> Result<(), TreeError> {
        let failed = |source: rustix::io::Errno| TreeError::Io { path: path.to_owned(), source: source.into() };
        let directory = self.directory(path).map_err(failed)?;
        rfs::futimens(&directory, &times(modified)).map_err(failed)
    }

    /// As many more files as may come at a time.
    fn ask(&mut self) -> Result<Vec<u32>, TreeError> {
        let mut asked = Vec::new();
        while self.coming.len() < AT_A_TIME
            && let Some(wanted) = self.waiting.pop_front()
        {
            let path = wanted.stat.path.as_str();
            let failed = |source: rustix::io::Errno| TreeError::Io { path: path.to_owned(), source: source.into() };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rfs::openat2(&self.root, path, flags, Mode::empty(), resolve).map_err(failed)?;
            asked.push(wanted.id);
            self.coming.insert(wanted.id, (wanted, File::from(file)));
        }
        Ok(asked)
    }
}

/// A file that has its contents gets its mode and its time.
fn finish(file: impl AsFd, stat: &Stat) -> io::Result<()> {
    rfs::fchmod(&file, Mode::from_raw_mode(mode::permissions(stat.mode)))?;
    rfs::futimens(&file, &times(stat.modified))?;
    Ok(())
}

fn times(nanoseconds: i64) -> Timestamps {
    let (seconds, rest) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    let time = Timespec { tv_sec: seconds, tv_nsec: rest };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::*;

    fn tree(path: &Path, limits: Limits) -> Tree {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Tree::new(rfs::open(path, flags, Mode::empty()).unwrap(), limits)
    }

    fn file(path: &str, size: i64) -> Stat {
        Stat { path: path.into(), mode: 0o640, size, modified: 5_000_000_007, ..Stat::default() }
    }

    fn directory(path: &str) -> Stat {
        Stat { path: path.into(), mode: mode::DIRECTORY | 0o755, modified: 3_000_000_000, ..Stat::default() }
    }

    fn link(path: &str, to: &str) -> Stat {
        Stat { path: path.into(), mode: mode::LINK | 0o777, link: to.into(), ..Stat::default() }
    }

    /// What becomes of these, one after the other.
    fn refused(stats: &[Stat]) -> String {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir(place.path().join("in")).unwrap();
        let mut tree = tree(&place.path().join("in"), Limits { bytes: 10, entries: 5, ..Limits::default() });
        let mut said = "fine".to_owned();
        for stat in stats {
            if let Err(error) = tree.stat(stat.clone()) {
                said = error.to_string();
                break;
            }
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "something got out");
        said
    }

    #[test]
    fn a_tree_becomes_what_the_sender_says_of_it() {
        let place = tempfile::tempdir().unwrap();
        let mut tree = tree(place.path(), Limits::default());
        assert!(tree.stat(directory("a")).unwrap().is_empty());
        assert_eq!(tree.stat(file("a/b", 3)).unwrap(), [1]);
        assert!(tree.stat(link("a/c", "/etc/passwd")).unwrap().is_empty());
        assert!(tree.stat(Stat { link: "a/b".into(), ..file("d", 3) }).unwrap().is_empty());
        assert!(tree.stat(file("e", 0)).unwrap().is_empty());
        assert!(tree.last().unwrap().is_empty());
        tree.data(1, b"12").unwrap();
        tree.data(1, b"3").unwrap();
        assert!(!tree.is_whole());
        tree.data(1, b"").unwrap();
        assert!(tree.is_whole() && tree.bytes == 3);
        let at = |name: &str| std::fs::symlink_metadata(place.path().join(name)).unwrap();
        assert_eq!(std::fs::read(place.path().join("d")).unwrap(), b"123");
        assert_eq!((at("a/b").permissions().mode() & 0o7777, at("a/b").mtime(), at("a/b").mtime_nsec()), (0o640, 5, 7));
        assert_eq!((at("a").mtime(), at("d").ino() == at("a/b").ino()), (3, true));
        assert_eq!(std::fs::read_link(place.path().join("a/c")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in ["", "/etc/x", "../outside/x", "a/../../outside/x", ".", "a//b", "a/./b", "a/", "a\0b"] {
            assert_eq!(refused(&[file(path, 1)]), format!("invalid path {path:?}"));
        }
        assert_eq!(refused(&[file(&"x".repeat(256), 1)]), format!("invalid path {:?}", "x".repeat(256)));
        let deep = vec!["d"; 1001].join("/");
        assert_eq!(refused(&[file(&deep, 1)]), format!("invalid path {deep:?}"));
    }

    #[test]
    fn nothing_is_written_through_a_link_or_over_another_file() {
        assert_eq!(refused(&[link("a", "../outside"), file("a/x", 1)]), "path \"a/x\" is out of order");
        assert_eq!(refused(&[file("a", 1), file("a/x", 1)]), "path \"a/x\" is out of order");
        assert_eq!(refused(&[directory("a"), link("a", "../outside")]), "path \"a\" is out of order");
        assert_eq!(refused(&[file("b", 1), file("a", 1)]), "path \"a\" is out of order");
        assert_eq!(refused(&[file("x/y", 1)]), "path \"x/y\" is out of order");
        // Another spelling of the order: what sorts between a directory and its files as text, but not as a path.
        assert_eq!(refused(&[directory("a"), file("a/x", 1), file("a-b", 1), directory("b")]), "fine");
        assert_eq!(refused(&[directory("a"), file("a-b", 1), file("a/x", 1)]), "path \"a/x\" is out of order");
    }

    #[test]
    fn hard_links_lead_to_files_of_the_tree_alone() {
        let to = |target: &str| Stat { link: target.into(), ..file("b", 1) };
        assert_eq!(refused(&[file("a", 1), to("a")]), "fine");
        for target in ["../outside", "/etc/passwd", "missing", ".", "a/.."] {
            assert_eq!(refused(&[file("a", 1), to(target)]), format!("invalid path {target:?}"));
        }
        assert_eq!(refused(&[link("a", "/etc/passwd"), to("a")]), "invalid path \"a\"");
    }

    #[test]
    fn a_tree_has_its_limits() {
        let many: Vec<Stat> = (0..6).map(|n| file(&n.to_string(), 0)).collect();
        assert_eq!(refused(&many), "more than 5 files");
        let place = tempfile::tempdir().unwrap();
        let mut tree = tree(place.path(), Limits { bytes: 4, entries: 5, ..Limits::default() });
        tree.stat(file("a", 1)).unwrap();
        tree.data(0, b"1234").unwrap();
        assert_eq!(tree.data(0, b"5").unwrap_err().to_string(), "more than 4 bytes");
        assert_eq!(tree.data(7, b"5").unwrap_err().to_string(), "invalid file request 7");
        tree.last().unwrap();
        assert_eq!(tree.stat(file("b", 1)).unwrap_err().to_string(), "a file after the last one");
        assert!(tree.last().is_err());
    }

    #[test]
    fn no_more_files_are_open_than_senders_can_bear() {
        let place = tempfile::tempdir().unwrap();
        let mut tree = tree(place.path(), Limits::default());
        let asked: usize = (0..200).map(|n| tree.stat(file(&format!("{n:03}"), 1)).unwrap().len()).sum();
        assert_eq!(asked, AT_A_TIME);
        assert_eq!(tree.data(0, b"").unwrap(), [AT_A_TIME as u32]);
    }

    #[test]
    fn devices_are_left_out() {
        let device = Stat { mode: mode::DEVICE | mode::CHARACTER | 0o666, ..file("null", 0) };
        assert_eq!(refused(&[device, file("x", 1)]), "fine");
    }
}
