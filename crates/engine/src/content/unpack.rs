//! Layers become directories, safely: an archive can write nowhere but below its own root, whatever its
//! names and links say, because every path is resolved by the kernel with that root as `/` (`openat2`).
//!
//! OCI whiteouts become overlayfs's: `.wh.NAME` a 0:0 character device, `.wh..wh..opq` an attribute.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
    os::fd::{AsFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{
    self as rfs, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::{Content, ContentError, Digest};

/// More entries than any honest layer has.
const MAX_ENTRIES: u64 = 5_000_000;

impl Content {
    /// The directory of an unpacked layer, unpacking it from its blob if need be. The uncompressed bytes
    /// must have `diff_id` as their digest.
    pub(super) fn unpack_layer(&self, blob: &Digest, diff_id: &Digest) -> Result<PathBuf, ContentError> {
        let layer = self.path("layers").join(diff_id.hex());
        let root = layer.join("fs");
        if root.exists() {
            return Ok(root);
        }
        let blob_path = self.blob_path(blob);
        let file = File::open(&blob_path).map_err(|e| ContentError::io("open", &blob_path, e))?;
        let staging = tempfile::Builder::new()
            .prefix("unpacking-")
            .tempdir_in(self.path("layers"))
            .map_err(|e| ContentError::io("create", &layer, e))?;
        let fs = staging.path().join("fs");
        std::fs::create_dir(&fs).map_err(|e| ContentError::io("create", &fs, e))?;
        let mut hashed = Hashed { inner: decompressed(file)?, hasher: Sha256::new() };
        unpack(&mut hashed, &fs)?;
        io::copy(&mut hashed, &mut io::sink()).map_err(|e| ContentError::io("read", &blob_path, e))?;
        let actual = Digest::finish(hashed.hasher);
        if actual != *diff_id {
            return Err(ContentError::Mismatch { expected: diff_id.clone(), actual });
        }
        // The layer's files must be on disk before its name says that they are.
        let dir = File::open(&fs).map_err(|e| ContentError::io("open", &fs, e))?;
        rfs::syncfs(&dir).map_err(|e| ContentError::io("sync", &fs, e))?;
        match std::fs::rename(staging.path(), &layer) {
            Ok(()) => {
                let _ = staging.keep();
            }
            // Another process was faster, with the same content.
            Err(_) if root.exists() => {}
            Err(e) => return Err(ContentError::io("rename", &layer, e)),
        }
        Ok(root)
    }
}

/// A reader of the plain bytes of a plain, gzip or zstd stream.
pub(super) fn decompressed(file: File) -> Result<Box<dyn Read + Send>, ContentError> {
    let mut reader = BufReader::with_capacity(1 << 17, file);
    let head = io::BufRead::fill_buf(&mut reader).map_err(|e| ContentError::io("read", Path::new("layer"), e))?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(1 << 17, flate2::bufread::MultiGzDecoder::new(reader))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(
            zstd::stream::read::Decoder::with_buffer(reader)
                .map_err(|e| ContentError::io("decompress", Path::new("layer"), e))?,
        ),
        _ => Box::new(reader),
    })
}

struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Unpacks the archive below `root`, an empty directory.
pub(super) fn unpack(archive: impl Read, root: &Path) -> Result<(), ContentError> {
    let root_fd = rfs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| ContentError::io("open", root, e))?;
    let mut tree = Tree { root: root_fd, last: None, directories: HashMap::new() };
    let mut archive = Archive::new(archive);
    archive.set_ignore_zeros(false);
    let damaged = |e: io::Error| ContentError::Unpack { entry: "archive".into(), message: e.to_string() };
    let mut count = 0;
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        count += 1;
        let name = entry.path_bytes().into_owned();
        let shown = || String::from_utf8_lossy(&name).into_owned();
        if count > MAX_ENTRIES {
            return Err(ContentError::Unpack { entry: shown(), message: "too many entries".into() });
        }
        tree.place(&mut entry, Path::new(std::ffi::OsStr::from_bytes(&name)))
            .map_err(|e| ContentError::Unpack { entry: shown(), message: e.to_string() })?;
    }
    tree.finish().map_err(|e| ContentError::Unpack { entry: "directories".into(), message: e.to_string() })
}

struct Tree {
    root: OwnedFd,
    /// The parent directory used last: entries come directory by directory.
    last: Option<(PathBuf, OwnedFd)>,
    /// Times of directories, set at the end because filling them changes them.
    directories: HashMap<PathBuf, Timestamps>,
}

impl Tree {
    fn place<R: Read>(&mut self, entry: &mut Entry<R>, raw: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = inside(raw)?;
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            // The root itself: its owner and mode count.
            let root = self.root.try_clone()?;
            return apply_metadata(&root, None, entry, kind);
        };
        let name_bytes = name.as_bytes();
        let parent = self.directory(parent_path)?;
        if name_bytes == b".wh..wh..opq" {
            return Ok(rfs::fsetxattr(&reopen(&parent)?, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
        }
        if let Some(gone) = name_bytes.strip_prefix(b".wh.") {
            if gone.starts_with(b".wh.") {
                return Ok(()); // aufs's own bookkeeping
            }
            if gone.is_empty() || gone == b"." || gone == b".." {
                return Err(invalid("a whiteout of nothing"));
            }
            let gone = std::ffi::OsStr::from_bytes(gone);
            remove(&parent, gone)?;
            return Ok(rfs::mknodat(&parent, gone, FileType::CharacterDevice, Mode::empty(), 0)?);
        }
        if kind == EntryType::Directory {
            match rfs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Err(rustix::io::Errno::EXIST) => {
                    let stat = rfs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        remove(&parent, name)?;
                        rfs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                    }
                }
                other => other?,
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rfs::openat(&parent, name, flags, Mode::empty())?;
            apply_metadata(&directory, None, entry, kind)?;
            self.directories.insert(path.clone(), times(entry));
            return Ok(());
        }
        remove(&parent, name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(rfs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?);
                if kind == EntryType::GNUSparse {
                    copy_sparse(entry, &mut file)?;
                } else {
                    io::copy(entry, &mut file)?;
                }
                apply_metadata(&file, None, entry, kind)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a symbolic link to nothing"))?.into_owned();
                rfs::symlinkat(std::ffi::OsStr::from_bytes(&target), &parent, name)?;
                apply_metadata(&parent, Some(name), entry, kind)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a hard link to nothing"))?.into_owned();
                let target = inside(Path::new(std::ffi::OsStr::from_bytes(&target)))?;
                let (Some(target_parent), Some(target_name)) = (target.parent(), target.file_name()) else {
                    return Err(invalid("a hard link to the root"));
                };
                let target_parent = self.directory(target_parent)?;
                Ok(rfs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())?)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (file_type, device) = match kind {
                    EntryType::Fifo => (FileType::Fifo, 0),
                    _ => {
                        let header = entry.header();
                        let major = header.device_major()?.unwrap_or(0);
                        let minor = header.device_minor()?.unwrap_or(0);
                        let file_type =
                            if kind == EntryType::Char { FileType::CharacterDevice } else { FileType::BlockDevice };
                        (file_type, rfs::makedev(major, minor))
                    }
                };
                rfs::mknodat(&parent, name, file_type, Mode::from_raw_mode(0o600), device)?;
                apply_metadata(&parent, Some(name), entry, kind)
            }
            other => Err(invalid(&format!("entries of type {other:?} have no meaning in a layer"))),
        }
    }

    /// Opens a directory below the root, making what is missing; links on the way stay below the root.
    fn directory(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return fd.try_clone();
        }
        let open = |root: &OwnedFd| {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            rfs::openat2(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)
        };
        let fd = match open(&self.root) {
            Err(rustix::io::Errno::NOENT) => {
                let name = path.file_name().ok_or_else(|| invalid("no name"))?;
                let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
                match rfs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Err(rustix::io::Errno::EXIST) => return Err(invalid("its directory is a dangling link")),
                    other => other?,
                }
                open(&self.root)?
            }
            other => other?,
        };
        self.last = Some((path.to_path_buf(), fd.try_clone()?));
        Ok(fd)
    }

    fn finish(mut self) -> io::Result<()> {
        for (path, times) in std::mem::take(&mut self.directories) {
            // A later whiteout or file may have taken the directory's place.
            if let Ok(fd) = self.directory(&path) {
                rfs::futimens(&reopen(&fd)?, &times)?;
            }
        }
        Ok(())
    }
}

/// The path relative to the root; `..` is refused rather than guessed at.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid("the path leaves the layer")),
        }
    }
    Ok(clean)
}

/// `O_PATH` descriptors can't be changed through; a real one can.
fn reopen(directory: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rfs::openat(directory, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Removes whatever an earlier entry left under this name.
fn remove(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    match rfs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR) => remove_directory(parent, name),
        Err(e) => Err(e.into()),
    }
}

fn remove_directory(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rfs::openat(parent, name, flags, Mode::empty())?;
    for entry in rfs::Dir::read_from(&directory)? {
        let entry = entry?;
        let child = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if child != "." && child != ".." {
            remove(&directory, child)?;
        }
    }
    Ok(rfs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Owner first, because it clears set-user-ID bits and capabilities; then mode, attributes and times.
/// With a name the object is that entry of the directory `at`, else `at` itself.
fn apply_metadata<R: Read>(
    at: &impl AsFd,
    name: Option<&std::ffi::OsStr>,
    entry: &mut Entry<R>,
    kind: EntryType,
) -> io::Result<()> {
    let header = entry.header();
    let (uid, gid) = (header.uid()?, header.gid()?);
    let id = |id: u64| u32::try_from(id).map_err(|_| invalid("an owner that is no number of 32 bits"));
    let (uid, gid) = (Uid::from_raw(id(uid)?), Gid::from_raw(id(gid)?));
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    let stamps = times(entry);
    match name {
        Some(name) => {
            rfs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            if kind != EntryType::Symlink {
                rfs::chmodat(at, name, mode, AtFlags::empty())?;
            }
            rfs::utimensat(at, name, &stamps, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        None => {
            rfs::fchown(at, Some(uid), Some(gid))?;
            rfs::fchmod(at, mode)?;
            let attributes: Vec<(String, Vec<u8>)> = entry
                .pax_extensions()?
                .into_iter()
                .flatten()
                .filter_map(Result::ok)
                .filter_map(|e| {
                    Some((e.key().ok()?.strip_prefix("SCHILY.xattr.")?.to_owned(), e.value_bytes().to_vec()))
                })
                .collect();
            for (key, value) in attributes {
                // overlayfs's own attributes would let an image reach into what lies below it.
                if key.starts_with("trusted.overlay.") || key.starts_with("user.overlay.") {
                    continue;
                }
                match rfs::fsetxattr(at, key.as_str(), &value, XattrFlags::empty()) {
                    Err(rustix::io::Errno::OPNOTSUPP) => {}
                    other => other?,
                }
            }
            rfs::futimens(at, &stamps)?;
        }
    }
    Ok(())
}

fn times<R: Read>(entry: &Entry<R>) -> Timestamps {
    let seconds = entry.header().mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
    let stamp = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: stamp, last_modification: stamp }
}

/// Holes stay holes: runs of zeros are skipped, not written.
fn copy_sparse<R: Read>(entry: &mut Entry<R>, file: &mut File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut offset = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = entry.read(&mut buffer)?;
        if n == 0 {
            return file.set_len(offset);
        }
        if buffer[..n].iter().any(|b| *b != 0) {
            file.write_all_at(&buffer[..n], offset)?;
        }
        offset += n as u64;
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}
