//! Archives become files: a build's context, and what `ADD` unpacks. Every path is resolved by the kernel with the
//! target as `/`: a name that would lead above it stays below it, as in the chroot that dockerd unpacks in.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::{Archive, Entry, EntryType};

use crate::owner::{Chmod, Owner};
use crate::place::{clear, sub_directory};
use crate::tree::open_in;

/// What an archive may do.
#[derive(Debug, Clone)]
pub(crate) struct Extraction {
    /// Whose the files are; `None` keeps what the archive says.
    pub owner: Option<Owner>,
    /// Their mode; `None` keeps it.
    pub chmod: Option<Chmod>,
    /// Device nodes are made; otherwise left out.
    pub devices: bool,
    /// More bytes than these are refused.
    pub max_bytes: u64,
    /// More entries than these are refused.
    pub max_entries: u64,
}

/// The plain bytes of a plain, gzip, bzip2, xz or zstd stream.
pub(crate) fn decompressed<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(1 << 17, reader);
    Ok(match reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(reader)),
        _ => Box::new(reader),
    })
}

/// Whether a file is an archive, compressed or not: whether it begins with an entry's header.
pub(crate) fn is_archive(file: &OwnedFd) -> io::Result<bool> {
    let mut file = File::from(file.try_clone()?);
    let mut block = Vec::new();
    let read = decompressed(&mut file).and_then(|reader| reader.take(512).read_to_end(&mut block));
    io::Seek::rewind(&mut file)?;
    if read.is_err() || block.len() < 512 || block.iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    let header = tar::Header::from_byte_slice(&block);
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    Ok(header.cksum().is_ok_and(|expected| expected == sum))
}

/// Unpacks an archive into a directory.
pub(crate) fn extract(reader: impl Read, target: &OwnedFd, extraction: &Extraction) -> io::Result<()> {
    let read = Cell::new(0);
    let mut archive = Archive::new(Counted { reader, read: &read });
    let mut unpacking = Unpacking { target, extraction, directories: HashMap::new() };
    let (mut bytes, mut count, mut end) = (0_u64, 0, 0);
    for entry in archive.entries()? {
        let mut entry = match entry {
            // The docker client leaves the last block unfilled when it adds a Dockerfile of its own.
            Err(_) if end > 0 && read.get() >= end && read.get() < end.next_multiple_of(BLOCK) => break,
            entry => entry?,
        };
        end = entry.raw_file_position() + entry.header().entry_size()?;
        count += 1;
        bytes = bytes.saturating_add(entry.size());
        if count > extraction.max_entries || bytes > extraction.max_bytes {
            return Err(invalid(format!(
                "the archive is too large (more than {} entries or {} bytes)",
                extraction.max_entries, extraction.max_bytes
            )));
        }
        let name = entry.path_bytes().into_owned();
        unpacking
            .place(&mut entry, Path::new(OsStr::from_bytes(&name)))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", String::from_utf8_lossy(&name))))?;
    }
    for (path, times) in &unpacking.directories {
        if let Ok(directory) = open_in(target, path.as_os_str().as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
            rfs::futimens(&directory, times)?;
        }
    }
    Ok(())
}

/// Archives are made of these.
const BLOCK: u64 = 512;

/// Counts what is read.
struct Counted<'a, R> {
    reader: R,
    read: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

struct Unpacking<'a> {
    target: &'a OwnedFd,
    extraction: &'a Extraction,
    /// Filling a directory changes its time: set at the end.
    directories: HashMap<PathBuf, Timestamps>,
}

impl Unpacking<'_> {
    fn place<R: Read>(&mut self, entry: &mut Entry<R>, raw: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = inside(raw);
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let parent = self.parent(above)?;
        match kind {
            EntryType::Directory => {
                let directory = sub_directory(&parent, name)?;
                self.finish(&directory, entry, true)?;
                self.directories.insert(path.clone(), times(entry));
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                clear(&parent, name)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(rfs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?);
                match kind {
                    EntryType::GNUSparse => copy_holes(entry, &mut file)?,
                    _ => drop(io::copy(entry, &mut file)?),
                }
                self.finish(&file.into(), entry, false)
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().ok_or_else(|| invalid("a link to nothing"))?.into_owned();
                clear(&parent, name)?;
                rfs::symlinkat(OsStr::from_bytes(&link), &parent, name)?;
                self.finish_node(&parent, name, entry, false)
            }
            EntryType::Link => {
                let link = entry.link_name_bytes().ok_or_else(|| invalid("a link to nothing"))?.into_owned();
                let link = inside(Path::new(OsStr::from_bytes(&link)));
                let (Some(above), Some(first)) = (link.parent(), link.file_name()) else {
                    return Err(invalid("a hard link to the root"));
                };
                let from = open_in(self.target, above.as_os_str().as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
                clear(&parent, name)?;
                Ok(rfs::linkat(&from, first, &parent, name, AtFlags::empty())?)
            }
            EntryType::Fifo => {
                clear(&parent, name)?;
                rfs::mknodat(&parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
                self.finish_node(&parent, name, entry, true)
            }
            EntryType::Char | EntryType::Block if self.extraction.devices => {
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                let major = entry.header().device_major()?.unwrap_or(0);
                let minor = entry.header().device_minor()?.unwrap_or(0);
                clear(&parent, name)?;
                rfs::mknodat(&parent, name, file_type, Mode::from_raw_mode(0o600), rfs::makedev(major, minor))?;
                self.finish_node(&parent, name, entry, true)
            }
            EntryType::Char | EntryType::Block => Ok(()),
            other => Err(invalid(format!("an entry of type {other:?}"))),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        let bytes = path.as_os_str().as_bytes();
        match open_in(self.target, bytes, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let name = path.file_name().ok_or_else(|| invalid("no name"))?;
        let above = self.parent(path.parent().unwrap_or(Path::new("")))?;
        match rfs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Err(rustix::io::Errno::EXIST) => return Err(invalid("its directory is a link to nothing")),
            other => other?,
        }
        let owner = self.extraction.owner.unwrap_or_default();
        let made = open_in(self.target, bytes, OFlags::RDONLY | OFlags::DIRECTORY)?;
        rfs::fchown(&made, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        Ok(made)
    }

    fn owner<R: Read>(&self, entry: &Entry<R>) -> io::Result<(Uid, Gid)> {
        let (uid, gid) = match self.extraction.owner {
            Some(owner) => (owner.uid, owner.gid),
            None => engine::content::owner_of(entry.header())?,
        };
        Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    fn mode<R: Read>(&self, entry: &Entry<R>, directory: bool) -> io::Result<Mode> {
        let mode = entry.header().mode()? & 0o7777;
        Ok(Mode::from_raw_mode(self.extraction.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, directory))))
    }

    fn finish<R: Read>(&self, target: &OwnedFd, entry: &mut Entry<R>, directory: bool) -> io::Result<()> {
        let (uid, gid) = self.owner(entry)?;
        rfs::fchown(target, Some(uid), Some(gid))?;
        rfs::fchmod(target, self.mode(entry, directory)?)?;
        let stamps = times(entry);
        for extension in entry.pax_extensions()?.into_iter().flatten().flatten() {
            let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else { continue };
            let harmless =
                name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."));
            if harmless {
                match rfs::fsetxattr(target, name, extension.value_bytes(), XattrFlags::empty()) {
                    Err(rustix::io::Errno::OPNOTSUPP) => {}
                    other => other?,
                }
            }
        }
        Ok(rfs::futimens(target, &stamps)?)
    }

    fn finish_node<R: Read>(&self, parent: &OwnedFd, name: &OsStr, entry: &Entry<R>, mode: bool) -> io::Result<()> {
        let (uid, gid) = self.owner(entry)?;
        rfs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if mode {
            rfs::chmodat(parent, name, self.mode(entry, false)?, AtFlags::empty())?;
        }
        Ok(rfs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Holes stay holes: blocks of zeros are skipped, not written.
fn copy_holes(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1 << 12];
    let mut offset = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        if filled == 0 {
            return to.set_len(offset);
        }
        if buffer[..filled].iter().any(|byte| *byte != 0) {
            to.write_all_at(&buffer[..filled], offset)?;
        }
        offset += filled as u64;
    }
}

/// The path with the target as `/`, above which there is nothing.
fn inside(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn times<R: Read>(entry: &Entry<R>) -> Timestamps {
    let seconds = entry.header().mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
    let stamp = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: stamp, last_modification: stamp }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}
