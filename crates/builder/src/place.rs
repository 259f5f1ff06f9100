//! Putting files into an image's tree, which may be hostile: every path is resolved by the kernel with the tree as
//! `/`, and nothing is written through a link.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use engine::content::copy_attributes;
use rustix::fs::{self as rfs, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};

use crate::owner::{Chmod, Owner};
use crate::tree::{Tree, names, open_in};

/// What files become.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placing {
    /// Whose they are; `None` keeps their owners.
    pub owner: Option<Owner>,
    /// Their mode; `None` keeps it.
    pub chmod: Option<Chmod>,
}

impl Placing {
    fn owner(&self, stat: &Stat) -> (Uid, Gid) {
        match self.owner {
            Some(Owner { uid, gid }) => (Uid::from_raw(uid), Gid::from_raw(gid)),
            None => (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)),
        }
    }

    fn mode(&self, stat: &Stat, directory: bool) -> Mode {
        let mode = stat.st_mode & 0o7777;
        Mode::from_raw_mode(self.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, directory)))
    }
}

/// Opens a directory of the tree, making what is missing (0755, of that owner). Also says whether the last part is new.
pub(crate) fn directory(root: &OwnedFd, path: &str, owner: Owner) -> io::Result<(OwnedFd, bool)> {
    below(root, path, owner, 40)
}

/// Where a link at `above/name` leads, as a path from the root of the tree.
fn linked(parent: &OwnedFd, above: &str, name: &str) -> io::Result<String> {
    let target = rfs::readlinkat(parent, name, Vec::new())?;
    let target = target.into_string().map_err(|_| io::Error::other(format!("/{above}/{name} is not UTF-8")))?;
    let whole = if target.starts_with('/') { target } else { format!("{above}/{target}") };
    Ok(crate::pattern::clean(&whole))
}

fn below(root: &OwnedFd, path: &str, owner: Owner, depth: usize) -> io::Result<(OwnedFd, bool)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match open_in(root, path.as_bytes(), flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("cannot copy to non-directory: /{path}")));
        }
        result => return Ok((result?, false)),
    }
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (parent, _) = below(root, above, owner, depth)?;
    match rfs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            // A link to nothing, yet: what it leads to is made, inside the tree, and it may be a link once more.
            let target = linked(&parent, above, name)?;
            return match depth {
                0 => Err(io::Error::new(io::ErrorKind::NotADirectory, format!("/{path}: too many links"))),
                _ => below(root, &target, owner, depth - 1),
            };
        }
        Err(error) => return Err(error.into()),
    }
    let made = rfs::openat(&parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    rfs::fchmod(&made, Mode::from_raw_mode(0o755))?;
    rfs::fchown(&made, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    Ok((made, true))
}

/// Copies a directory's contents into `target`. A directory that was made for it takes over the mode of the source.
pub(crate) fn contents(tree: &Tree, target: &OwnedFd, new: bool, placing: &Placing) -> io::Result<()> {
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut directories = Vec::new();
    if new {
        finish(target, &tree.fd, &tree.stat, placing, true)?;
    }
    for entry in &tree.entries {
        let fail = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", String::from_utf8_lossy(&entry.path)))
        };
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidData)?;
        let above = path.parent().unwrap_or(Path::new("")).as_os_str().as_bytes();
        let parent = open_in(target, above, OFlags::RDONLY | OFlags::DIRECTORY).map_err(fail)?;
        let kind = FileType::from_raw_mode(entry.stat.st_mode);
        if kind != FileType::Directory && entry.stat.st_nlink > 1 {
            let key = (entry.stat.st_dev, entry.stat.st_ino);
            if let Some(first) = links.get(&key) {
                clear(&parent, name).map_err(fail)?;
                rfs::linkat(target, OsStr::from_bytes(first), &parent, name, AtFlags::empty())
                    .map_err(|e| fail(e.into()))?;
                continue;
            }
            links.insert(key, entry.path.clone());
        }
        match kind {
            FileType::Directory => {
                let made = sub_directory(&parent, name).map_err(fail)?;
                let source = tree.open(entry, OFlags::RDONLY | OFlags::DIRECTORY).map_err(fail)?;
                finish(&made, &source, &entry.stat, placing, true).map_err(fail)?;
                directories.push(entry);
            }
            FileType::RegularFile => {
                let source = tree.open(entry, OFlags::RDONLY).map_err(fail)?;
                file(&source, &entry.stat, &parent, name, placing).map_err(fail)?;
            }
            FileType::Symlink => {
                let link = tree.link(entry).map_err(fail)?;
                clear(&parent, name).map_err(fail)?;
                rfs::symlinkat(OsStr::from_bytes(&link), &parent, name).map_err(|e| fail(e.into()))?;
                node(&parent, name, &entry.stat, placing, false).map_err(fail)?;
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                clear(&parent, name).map_err(fail)?;
                rfs::mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), entry.stat.st_rdev)
                    .map_err(|e| fail(e.into()))?;
                node(&parent, name, &entry.stat, placing, true).map_err(fail)?;
            }
            _ => {}
        }
    }
    // Filling a directory changed its time.
    for entry in directories.into_iter().rev() {
        let directory = open_in(target, &entry.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        rfs::futimens(&directory, &times(&entry.stat))?;
    }
    if new {
        rfs::futimens(target, &times(&tree.stat))?;
    }
    Ok(())
}

/// Copies one file to `name` in a directory, in the place of what is there.
pub(crate) fn file(source: &OwnedFd, stat: &Stat, parent: &OwnedFd, name: &OsStr, placing: &Placing) -> io::Result<()> {
    let mut target = create(parent, name)?;
    let mut from = File::from(source.try_clone()?);
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if (stat.st_blocks as u64).saturating_mul(512) < size {
        copy_sparse(&from, &target, size)?;
    } else {
        io::copy(&mut from, &mut target)?;
    }
    finish(&target.into(), source, stat, placing, false)
}

/// Writes a file of these bytes.
pub(crate) fn bytes(data: &[u8], stat: &Stat, parent: &OwnedFd, name: &OsStr, placing: &Placing) -> io::Result<()> {
    let target = create(parent, name)?;
    target.write_all_at(data, 0)?;
    let (uid, gid) = placing.owner(stat);
    rfs::fchown(&target, Some(uid), Some(gid))?;
    rfs::fchmod(&target, placing.mode(stat, false))?;
    Ok(rfs::futimens(&target, &times(stat))?)
}

fn create(parent: &OwnedFd, name: &OsStr) -> io::Result<File> {
    clear(parent, name)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rfs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?))
}

fn copy_sparse(from: &File, to: &File, size: u64) -> io::Result<()> {
    to.set_len(size)?;
    let mut buffer = vec![0; 1 << 17];
    let mut offset = 0;
    while offset < size {
        let start = match rfs::seek(from, rfs::SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rfs::seek(from, rfs::SeekFrom::Hole(start))?;
        let mut at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = from.read_at(&mut buffer[..want], at)?;
            if read == 0 {
                break;
            }
            to.write_all_at(&buffer[..read], at)?;
            at += read as u64;
        }
        offset = end.max(start + 1);
    }
    Ok(())
}

/// Makes way for a new file. A directory does not yield to a file.
pub(crate) fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rfs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR) => Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            format!("cannot replace directory {} with file", name.to_string_lossy()),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Opens or makes a directory under a name; whatever else has the name yields.
pub(crate) fn sub_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rfs::openat(parent, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {}
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            // A link to a directory of the image stays a link, as with Docker.
            let target = rfs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let kind = FileType::from_raw_mode(rfs::fstat(&target)?.st_mode);
            let message = format!("cannot copy to non-directory: {}", name.to_string_lossy());
            if kind != FileType::Symlink {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
            }
            rfs::unlinkat(parent, name, AtFlags::empty())?;
        }
        result => return Ok(result?),
    }
    rfs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    Ok(rfs::openat(parent, name, flags, Mode::empty())?)
}

/// Owner, mode, attributes and times, in the order in which none undoes another.
fn finish(target: &OwnedFd, source: &OwnedFd, stat: &Stat, placing: &Placing, directory: bool) -> io::Result<()> {
    let (uid, gid) = placing.owner(stat);
    rfs::fchown(target, Some(uid), Some(gid))?;
    rfs::fchmod(target, placing.mode(stat, directory))?;
    copy_attributes(source, target)?;
    Ok(rfs::futimens(target, &times(stat))?)
}

fn node(parent: &OwnedFd, name: &OsStr, stat: &Stat, placing: &Placing, mode: bool) -> io::Result<()> {
    let (uid, gid) = placing.owner(stat);
    rfs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if mode {
        rfs::chmodat(parent, name, placing.mode(stat, false), AtFlags::empty())?;
    }
    Ok(rfs::utimensat(parent, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let stamp = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: stamp, last_modification: stamp }
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(path: &Path) -> io::Result<bool> {
    let directory = rfs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(names(&directory)?.is_empty())
}
