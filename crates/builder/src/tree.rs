//! Files to be copied: found below a root that they can't leave, listed, and summed up.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use engine::content::travelling_attributes;
use rustix::fs::{self as rfs, FileType, Mode, OFlags, ResolveFlags, Stat};
use sha2::{Digest as _, Sha256};

use crate::pattern::{Ignore, Pattern, clean, is_pattern};

/// Deeper trees are refused.
const MAX_DEPTH: usize = 1000;
/// More files than any honest context has.
const MAX_ENTRIES: usize = 5_000_000;

/// A directory as `/`: links in it lead nowhere else.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    ignore: Ignore,
}

/// What one source stands for.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Its path below the root, clean, without a leading slash; empty for the root itself.
    pub path: String,
    /// The directory, or the file.
    pub fd: OwnedFd,
    /// Its own state.
    pub stat: Stat,
    /// What a directory holds, parents first; empty for a file.
    pub entries: Vec<Entry>,
}

/// One thing below a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative to the tree.
    pub path: Vec<u8>,
    /// Its state, of the link itself for links.
    pub stat: Stat,
}

impl Root {
    pub fn new(fd: OwnedFd, ignore: Ignore) -> Self {
        Self { fd, ignore }
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Where a directory really is, if all of it may be seen.
    pub fn real_path(&self, path: &str) -> Option<std::path::PathBuf> {
        use std::os::fd::AsRawFd;
        let directory = self.open(path, OFlags::PATH | OFlags::DIRECTORY).ok().filter(|_| self.ignore.is_empty())?;
        std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()
    }

    /// Opens what a path stands for; links are followed, but not out of the root.
    pub fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        open_in(&self.fd, path.as_bytes(), flags)
    }

    /// A small file's contents, if it is there.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => {
                if FileType::from_raw_mode(rfs::fstat(&fd)?.st_mode) != FileType::RegularFile {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
                }
                let mut bytes = Vec::new();
                File::from(fd).take(limit).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The paths that a source fits, in order. A plain path that does not exist is an error, as is a pattern that
    /// fits nothing.
    pub fn expand(&self, source: &str) -> io::Result<Vec<String>> {
        let source = clean(source);
        if !is_pattern(&source) {
            return match self.open(&source, OFlags::PATH) {
                Ok(_) if self.hidden(&source) => Err(io::ErrorKind::NotFound.into()),
                Ok(_) => Ok(vec![source]),
                Err(error) => Err(error),
            };
        }
        let mut found = vec![String::new()];
        for part in source.split('/') {
            let mut next = Vec::new();
            let pattern = Pattern::new(part).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            for base in &found {
                let join = |name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}/{name}") };
                if !is_pattern(part) {
                    next.extend(self.open(&join(part), OFlags::PATH).is_ok().then(|| join(part)));
                    continue;
                }
                let Ok(directory) = self.open(base, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
                let names = names(&directory)?;
                let fits = names.iter().filter_map(|name| name.to_str().ok()).filter(|name| pattern.matches(name));
                next.extend(fits.map(join));
            }
            found = next;
        }
        found.retain(|path| !self.hidden(path));
        Ok(found)
    }

    /// Whether `.dockerignore` leaves a path out, and all below it.
    fn hidden(&self, path: &str) -> bool {
        !path.is_empty() && self.ignore.excludes(path) && {
            let directory = self.open(path, OFlags::PATH | OFlags::DIRECTORY).is_ok();
            !(directory && self.ignore.takes_back())
        }
    }

    /// Lists what a path stands for, without what `.dockerignore` or `exclude` leave out.
    pub fn tree(&self, path: &str, exclude: &Ignore) -> io::Result<Tree> {
        let probe = self.open(path, OFlags::PATH)?;
        let stat = rfs::fstat(&probe)?;
        let mut entries = Vec::new();
        let fd = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let fd = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let mut listing = Listing { root: self, exclude, base: path, entries: &mut entries };
                listing.directory(&fd, &mut Vec::new(), 0)?;
                let whole = !self.ignore.takes_back() && !exclude.takes_back();
                if !whole {
                    self.drop_empty_shells(path, exclude, &mut entries);
                }
                fd
            }
            FileType::RegularFile => self.open(path, OFlags::RDONLY)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a directory")),
        };
        Ok(Tree { path: path.to_owned(), fd, stat, entries })
    }

    /// Directories that are left out stay in the list only where something in them was taken back.
    fn drop_empty_shells(&self, base: &str, exclude: &Ignore, entries: &mut Vec<Entry>) {
        let excluded = |entry: &Entry| left_out(&self.ignore, exclude, base, &entry.path);
        let mut needed: BTreeSet<Vec<u8>> = BTreeSet::new();
        for entry in entries.iter().filter(|entry| !excluded(entry)) {
            let slashes = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            needed.extend(slashes.map(|(at, _)| entry.path[..at].to_vec()));
        }
        entries.retain(|entry| !excluded(entry) || needed.contains(&entry.path));
    }
}

fn left_out(ignore: &Ignore, exclude: &Ignore, base: &str, path: &[u8]) -> bool {
    let below = String::from_utf8_lossy(path);
    let whole = if base.is_empty() { below.to_string() } else { format!("{base}/{below}") };
    ignore.excludes(&whole) || exclude.excludes(&below)
}

struct Listing<'a> {
    root: &'a Root,
    exclude: &'a Ignore,
    base: &'a str,
    entries: &'a mut Vec<Entry>,
}

impl Listing<'_> {
    fn directory(&mut self, directory: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "directories are nested more than 1000 deep"));
        }
        for name in names(directory)? {
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let stat = rfs::statat(directory, &*name, rfs::AtFlags::SYMLINK_NOFOLLOW)?;
            let below = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let out = left_out(&self.root.ignore, self.exclude, self.base, path);
            let takes_back = self.root.ignore.takes_back() || self.exclude.takes_back();
            if !out || (below && takes_back) {
                if self.entries.len() >= MAX_ENTRIES {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "more than 5000000 files"));
                }
                self.entries.push(Entry { path: path.clone(), stat });
                if below {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let inner = rfs::openat(directory, &*name, flags, Mode::empty())?;
                    self.directory(&inner, path, depth + 1)?;
                }
            }
            path.truncate(length);
        }
        Ok(())
    }
}

impl Tree {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Opens an entry; `flags` are added to what keeps it from being swapped for a link.
    pub fn open(&self, entry: &Entry, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // A pipe must not hold the opener up; what is only a path is not opened at all.
        let wait = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | wait;
        Ok(rfs::openat2(&self.fd, OsStr::from_bytes(&entry.path), flags, Mode::empty(), resolve)?)
    }

    /// The target of an entry that is a symbolic link.
    pub fn link(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let link = self.open(entry, OFlags::PATH)?;
        Ok(rfs::readlinkat(&link, "", Vec::new())?.into_bytes())
    }

    /// Adds everything that would make a copy differ: names, kinds, modes, contents, links, attributes, and owners
    /// where they are kept. Times don't count, as with Docker.
    pub fn sum(&self, owners: bool, hasher: &mut Sha256) -> io::Result<()> {
        describe(hasher, b"", &self.stat, owners);
        if !self.is_directory() {
            return contents(&self.fd, hasher);
        }
        for entry in &self.entries {
            describe(hasher, &entry.path, &entry.stat, owners);
            match FileType::from_raw_mode(entry.stat.st_mode) {
                FileType::RegularFile => contents(&self.open(entry, OFlags::RDONLY)?, hasher)?,
                FileType::Symlink => {
                    let target = self.link(entry)?;
                    hasher.update((target.len() as u64).to_le_bytes());
                    hasher.update(target);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn describe(hasher: &mut Sha256, path: &[u8], stat: &Stat, owners: bool) {
    hasher.update((path.len() as u64).to_le_bytes());
    hasher.update(path);
    hasher.update(stat.st_mode.to_le_bytes());
    if owners {
        hasher.update(stat.st_uid.to_le_bytes());
        hasher.update(stat.st_gid.to_le_bytes());
    }
    if matches!(FileType::from_raw_mode(stat.st_mode), FileType::CharacterDevice | FileType::BlockDevice) {
        hasher.update(stat.st_rdev.to_le_bytes());
    }
}

fn contents(fd: &OwnedFd, hasher: &mut Sha256) -> io::Result<()> {
    for (name, value) in travelling_attributes(fd)? {
        hasher.update(name.as_bytes());
        hasher.update((value.len() as u64).to_le_bytes());
        hasher.update(value);
    }
    let mut inner = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut offset = 0;
    loop {
        // By position: the descriptor's own offset is needed by the copy that follows.
        match rustix::io::pread(fd, &mut buffer[..], offset) {
            Ok(0) => break,
            Ok(read) => {
                inner.update(&buffer[..read]);
                offset += read as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    hasher.update(offset.to_le_bytes());
    hasher.update(inner.finalize());
    Ok(())
}

/// The names in a directory, in the order of their bytes.
pub(crate) fn names(directory: &impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rfs::Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Opens a path with `root` as `/`.
pub(crate) fn open_in(root: &impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = match path.iter().position(|byte| *byte != b'/') {
        Some(start) => &path[start..],
        None => b".",
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rfs::openat2(root, OsStr::from_bytes(path), flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A concurrent rename may make the kernel unsure; it asks to try again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
