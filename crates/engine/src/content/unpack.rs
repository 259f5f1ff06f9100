//! Layers become directories, safely: an archive can write nowhere but below its own root, whatever its
//! names and links say, because every path is resolved by the kernel with that root as `/` (`openat2`).
//!
//! OCI whiteouts become overlayfs's: `.wh.NAME` a 0:0 character device, `.wh..wh..opq` an attribute.

#[cfg(test)]
mod fuzz;
mod limits;
mod sparse;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{
    self as rfs, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use self::limits::{Budget, Budgeted, Limits};
use self::sparse::Sparse;
use super::{Content, ContentError, Digest, ahead::Ahead};

/// Directories in directories: what removes a tree needs a descriptor and a frame of the stack for each.
const MAX_DEPTH: usize = 256;

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
        self.install(self.unpack_stream(file, blob, diff_id)?)?;
        Ok(root)
    }

    /// Unpacks the bytes of a blob, which whoever reads them verifies, to where nobody sees it yet.
    pub(super) fn unpack_stream(
        &self,
        bytes: impl Read + Send + 'static,
        blob: &Digest,
        diff_id: &Digest,
    ) -> Result<Unpacked, ContentError> {
        let layers = self.path("layers");
        let staging = tempfile::Builder::new()
            .prefix("unpacking-")
            .tempdir_in(&layers)
            .map_err(|e| ContentError::io("create", &layers, e))?;
        let fs = staging.path().join("fs");
        std::fs::create_dir(&fs).map_err(|e| ContentError::io("create", &fs, e))?;
        let (mut plain, compressed) = decompressed(bytes)?;
        if compressed || blob != diff_id {
            let ahead = Ahead::of(plain).map_err(|e| ContentError::io("read", &layers, e))?;
            let mut hashed = Hashed { inner: ahead, hasher: Sha256::new() };
            unpack(&mut hashed, &fs, &Limits::default())?;
            let actual = Digest::finish(hashed.hasher);
            if actual != *diff_id {
                return Err(ContentError::Mismatch { expected: diff_id.clone(), actual });
            }
        } else {
            // A blob is what its name says.
            unpack(&mut plain, &fs, &Limits::default())?;
        }
        Ok(Unpacked { staging, diff_id: diff_id.clone() })
    }

    /// Gives an unpacked layer its name.
    pub(super) fn install(&self, unpacked: Unpacked) -> Result<(), ContentError> {
        let Unpacked { staging, diff_id } = unpacked;
        let layer = self.path("layers").join(diff_id.hex());
        self.note_unsettled(&diff_id)?;
        match std::fs::rename(staging.path(), &layer) {
            Ok(()) => {
                let _ = staging.keep();
                self.settle_soon();
                Ok(())
            }
            // Another process was faster, with the same content.
            Err(_) if layer.join("fs").exists() => Ok(()),
            Err(e) => Err(ContentError::io("rename", &layer, e)),
        }
    }
}

/// A layer that has no name yet; gone if dropped.
pub(super) struct Unpacked {
    staging: tempfile::TempDir,
    diff_id: Digest,
}

/// A reader of the plain bytes of a plain, gzip or zstd stream, and whether it is one of the latter.
pub(super) fn decompressed(bytes: impl Read + Send + 'static) -> Result<(Box<dyn Read + Send>, bool), ContentError> {
    let mut reader = BufReader::with_capacity(1 << 17, bytes);
    let head = io::BufRead::fill_buf(&mut reader).map_err(|e| ContentError::io("read", Path::new("layer"), e))?;
    let plain: Box<dyn Read + Send> = match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(
            zstd::stream::read::Decoder::with_buffer(reader)
                .map_err(|e| ContentError::io("decompress", Path::new("layer"), e))?,
        ),
        _ => return Ok((Box::new(reader), false)),
    };
    Ok((plain, true))
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

/// Unpacks the archive below `root`, an empty directory, and reads the stream to its end.
pub(super) fn unpack(archive: impl Read, root: &Path, limits: &Limits) -> Result<(), ContentError> {
    let root_fd = rfs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| ContentError::io("open", root, e))?;
    let base = descriptor_path(&root_fd).map_err(|e| ContentError::io("resolve", root, e))?;
    let disk = root_fd.try_clone().map_err(|e| ContentError::io("open", root, e))?;
    let budget = Budget::new(limits, disk);
    let mut tree = Tree {
        root: root_fd,
        base,
        most: limits.file,
        last: None,
        directories: HashMap::new(),
        buffer: vec![0; 1 << 17].into(),
    };
    let mut archive = Archive::new(Budgeted { inner: archive, budget: budget.clone() });
    archive.set_ignore_zeros(false);
    let damaged = |e: io::Error| ContentError::Unpack { entry: "archive".into(), message: e.to_string() };
    let mut count = 0;
    let mut entries = archive.entries().map_err(damaged)?;
    loop {
        budget.reading_headers(Some(limits.headers));
        let Some(entry) = entries.next() else { break };
        budget.reading_headers(None);
        let mut entry = entry.map_err(damaged)?;
        count += 1;
        let (name, pax) = pax_records(&mut entry).map_err(damaged)?;
        let shown =
            |message: String| ContentError::Unpack { entry: String::from_utf8_lossy(&name).into_owned(), message };
        if count > limits.entries {
            return Err(shown("too many entries".into()));
        }
        tree.place(&mut entry, Path::new(std::ffi::OsStr::from_bytes(&name)), &pax)
            .map_err(|e| shown(e.to_string()))?;
        // What a body holds beyond what was wanted of it must not pass for headers.
        io::copy(&mut entry, &mut io::sink()).map_err(|e| shown(e.to_string()))?;
    }
    budget.reading_headers(None);
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    tree.finish().map_err(|e| ContentError::Unpack { entry: "directories".into(), message: e.to_string() })
}

/// What an entry's PAX records say that its header does not.
#[derive(Default)]
struct Pax {
    attributes: Vec<(String, Vec<u8>)>,
    modified: Option<Timespec>,
    sparse: Sparse,
}

/// The entry's real name and its PAX records.
fn pax_records<R: Read>(entry: &mut Entry<R>) -> io::Result<(Vec<u8>, Pax)> {
    let mut pax = Pax::default();
    if entry.header().entry_type() == EntryType::XGlobalHeader {
        return Ok((entry.path_bytes().into_owned(), pax));
    }
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let Ok(key) = record.key() else { continue };
        let value = record.value_bytes();
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            pax.attributes.push((name.to_owned(), value.to_vec()));
        } else if key == "mtime" {
            pax.modified = std::str::from_utf8(value).ok().and_then(moment);
        } else {
            pax.sparse.record(key, value)?;
        }
    }
    let name = pax.sparse.name.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
    Ok((name, pax))
}

/// `1700000000.25`, seconds since 1970.
fn moment(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let tv_sec = seconds.parse().ok().filter(|seconds| *seconds >= 0)?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some(Timespec { tv_sec, tv_nsec: digits.parse().ok()? })
}

struct Tree {
    root: OwnedFd,
    /// Where the root is.
    base: PathBuf,
    /// Length of the longest file.
    most: u64,
    /// The parent directory used last: entries come directory by directory.
    last: Option<(PathBuf, OwnedFd)>,
    /// Times of directories, set at the end because filling them changes them.
    directories: HashMap<PathBuf, Timestamps>,
    /// For bodies.
    buffer: Box<[u8]>,
}

impl Tree {
    fn place<R: Read>(&mut self, entry: &mut Entry<R>, raw: &Path, pax: &Pax) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = inside(raw)?;
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            // The root itself: its owner and mode count.
            let root = self.root.try_clone()?;
            return apply_metadata(&root, None, entry, pax);
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
            return anew(&parent, gone, || rfs::mknodat(&parent, gone, FileType::CharacterDevice, Mode::empty(), 0));
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
            apply_metadata(&directory, None, entry, pax)?;
            self.directories.insert(path.clone(), times(entry, pax));
            return Ok(());
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = || rfs::openat(&parent, name, flags, Mode::from_raw_mode(0o600));
                let file = File::from(anew(&parent, name, open)?);
                if pax.sparse.is_sparse() {
                    sparse::copy_pieces(entry, &file, &pax.sparse, self.most, &mut self.buffer)?;
                } else if entry.size() > self.most {
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a file is larger than files may be"));
                } else {
                    sparse::copy(entry, &file, self.most, &mut self.buffer)?;
                }
                apply_metadata(&file, None, entry, pax)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a symbolic link to nothing"))?.into_owned();
                anew(&parent, name, || rfs::symlinkat(std::ffi::OsStr::from_bytes(&target), &parent, name))?;
                apply_metadata(&parent, Some(name), entry, pax)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a hard link to nothing"))?.into_owned();
                let target = inside(Path::new(std::ffi::OsStr::from_bytes(&target)))?;
                let (Some(target_parent), Some(target_name)) = (target.parent(), target.file_name()) else {
                    return Err(invalid("a hard link to the root"));
                };
                let target_parent = self.directory(target_parent)?;
                anew(&parent, name, || rfs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty()))
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
                anew(&parent, name, || rfs::mknodat(&parent, name, file_type, Mode::from_raw_mode(0o600), device))?;
                apply_metadata(&parent, Some(name), entry, pax)
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
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rfs::openat2(&self.root, path, flags, Mode::empty(), resolve)
        };
        let fd = match open(path) {
            Err(rustix::io::Errno::NOENT) => self.make_directories(path, &open)?,
            other => other?,
        };
        // However it was reached: links make a path longer than its name.
        let depth = descriptor_path(&fd)?.strip_prefix(&self.base).map_or(0, |below| below.components().count());
        if depth > MAX_DEPTH {
            return Err(invalid("directories are nested too deeply"));
        }
        self.last = Some((path.to_path_buf(), fd.try_clone()?));
        Ok(fd)
    }

    /// Makes what is missing of a path, one directory after the other.
    fn make_directories(
        &self,
        path: &Path,
        open: &impl Fn(&Path) -> rustix::io::Result<OwnedFd>,
    ) -> io::Result<OwnedFd> {
        if path.components().count() > MAX_DEPTH {
            return Err(invalid("directories are nested too deeply"));
        }
        let mut parent = self.root.try_clone()?;
        let mut reached = PathBuf::new();
        for component in path.components() {
            reached.push(component);
            parent = match open(&reached) {
                Err(rustix::io::Errno::NOENT) => {
                    match rfs::mkdirat(&parent, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Err(rustix::io::Errno::EXIST) => return Err(invalid("its directory is a dangling link")),
                        other => other?,
                    }
                    open(&reached)?
                }
                other => other?,
            };
        }
        Ok(parent)
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

/// Makes something under a name, in the place of whatever an earlier entry left there.
fn anew<T>(parent: &OwnedFd, name: &std::ffi::OsStr, make: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
    match make() {
        Err(rustix::io::Errno::EXIST) => {
            remove(parent, name)?;
            Ok(make()?)
        }
        other => Ok(other?),
    }
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

/// User and group that an archive's entry belongs to. A field without digits is 0, as GNU tar and Go's reader take it.
///
/// # Errors
/// A number that is none, or that has more than 32 bits.
pub fn owner_of(header: &tar::Header) -> io::Result<(u32, u32)> {
    let old = header.as_old();
    let id = |field: &[u8], read: &dyn Fn() -> io::Result<u64>| {
        if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
            return Ok(0);
        }
        u32::try_from(read()?).map_err(|_| invalid("an owner that is no number of 32 bits"))
    };
    Ok((id(&old.uid, &|| header.uid())?, id(&old.gid, &|| header.gid())?))
}

/// Owner first, because it clears set-user-ID bits and capabilities; then mode, attributes and times.
/// With a name the object is that entry of the directory `at`, else `at` itself.
fn apply_metadata<R: Read>(
    at: &impl AsFd,
    name: Option<&std::ffi::OsStr>,
    entry: &mut Entry<R>,
    pax: &Pax,
) -> io::Result<()> {
    let header = entry.header();
    let (uid, gid) = owner_of(header)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    let stamps = times(entry, pax);
    match name {
        Some(name) => {
            rfs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            if header.entry_type() != EntryType::Symlink {
                rfs::chmodat(at, name, mode, AtFlags::empty())?;
            }
            rfs::utimensat(at, name, &stamps, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        None => {
            rfs::fchown(at, Some(uid), Some(gid))?;
            rfs::fchmod(at, mode)?;
            for (key, value) in &pax.attributes {
                // overlayfs's own attributes would let an image reach into what lies below it.
                if key.starts_with("trusted.overlay.") || key.starts_with("user.overlay.") {
                    continue;
                }
                match rfs::fsetxattr(at, key.as_str(), value, XattrFlags::empty()) {
                    Err(rustix::io::Errno::OPNOTSUPP) => {}
                    other => other?,
                }
            }
            rfs::futimens(at, &stamps)?;
        }
    }
    Ok(())
}

fn times<R: Read>(entry: &Entry<R>, pax: &Pax) -> Timestamps {
    if let Some(stamp) = pax.modified {
        return Timestamps { last_access: stamp, last_modification: stamp };
    }
    let seconds = entry.header().mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
    let stamp = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: stamp, last_modification: stamp }
}

/// Where an open directory is.
fn descriptor_path(fd: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}
