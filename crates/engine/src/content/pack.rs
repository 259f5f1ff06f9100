//! Directories become archives: the opposite of unpacking, in an order and form that depend on the files alone, so
//! that equal trees give equal digests.
//!
//! overlayfs's whiteouts become OCI's: a 0:0 character device `.wh.NAME`, an opaque directory `.wh..wh..opq`.

use std::{
    collections::HashMap,
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};
use tar::{EntryType, GnuExtSparseHeader, Header};

/// Deeper trees are refused: nobody means them.
const MAX_DEPTH: usize = 1000;
/// The largest owner a plain header can hold.
const MAX_OCTAL_ID: u32 = 0o7_777_777;
/// The largest size a plain header can hold.
const MAX_OCTAL_SIZE: u64 = 0o77_777_777_777;
/// Smaller files are not looked through for holes.
const SPARSE_FROM: u64 = 1 << 16;

/// How a tree is packed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packing {
    /// The tree is an overlay's upper directory: whiteouts are translated, and what overlayfs noted in attributes for
    /// itself (except opaqueness) is taken off the files, so that the directory can serve as a layer from now on.
    pub upper: bool,
    /// Times later than this (seconds since 1970) become this, in the archive and, for an `upper`, on the files.
    pub clamp: Option<i64>,
}

/// Writes everything below `root` as a tar archive, parents before children, names in the order of their bytes.
/// Sockets are left out. The root itself has no entry.
///
/// # Errors
/// The disk's or the writer's; [`io::ErrorKind::InvalidData`] for a tree deeper than 1,000 directories.
pub fn pack(root: &OwnedFd, writer: &mut dyn Write, packing: Packing) -> io::Result<()> {
    let mut archive = Archive { writer, packing, links: HashMap::new() };
    let root = rfs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if packing.upper {
        archive.tidy(&root)?;
    }
    archive.directory(&root, &mut Vec::new(), 0)?;
    archive.writer.write_all(&[0; 1024])
}

struct Archive<'a> {
    writer: &'a mut dyn Write,
    packing: Packing,
    /// The first name of every file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// One entry on its way into the archive.
struct Member<'a> {
    path: &'a [u8],
    kind: EntryType,
    stat: Option<&'a Stat>,
    link: &'a [u8],
    size: u64,
    attributes: Vec<(String, Vec<u8>)>,
}

impl Archive<'_> {
    fn directory(&mut self, directory: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "directories are nested more than 1000 deep"));
        }
        let mut names = Vec::new();
        for entry in rfs::Dir::read_from(directory)? {
            let name: CString = entry?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        let length = path.len();
        for name in names {
            path.extend_from_slice(name.as_bytes());
            self.entry(directory, OsStr::from_bytes(name.as_bytes()), path, length, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &mut Vec<u8>,
        parent_length: usize,
        depth: usize,
    ) -> io::Result<()> {
        let mut stat = rfs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if self.packing.upper && file_type == FileType::CharacterDevice && stat.st_rdev == 0 {
            let mut whiteout = path[..parent_length].to_vec();
            whiteout.extend_from_slice(b".wh.");
            whiteout.extend_from_slice(name.as_bytes());
            return self.header(Member::empty(&whiteout));
        }
        if let Some(clamp) = self.packing.clamp.filter(|clamp| stat.st_mtime > *clamp) {
            stat.st_mtime = clamp;
            if self.packing.upper {
                let stamp = Timespec { tv_sec: clamp, tv_nsec: 0 };
                let stamps = Timestamps { last_access: stamp, last_modification: stamp };
                rfs::utimensat(parent, name, &stamps, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        let open = |flags: OFlags| {
            rfs::openat(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        };
        if file_type != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let first = first.clone();
                return self.header(Member { kind: EntryType::Link, link: &first, ..Member::of(path, &stat) });
            }
            self.links.insert(key, path.clone());
        }
        match file_type {
            FileType::Directory => {
                let directory = open(OFlags::DIRECTORY)?;
                let opaque = self.packing.upper && is_opaque(&directory);
                if self.packing.upper {
                    self.tidy(&directory)?;
                }
                path.push(b'/');
                let attributes = attributes(&directory)?;
                self.header(Member { kind: EntryType::Directory, attributes, ..Member::of(path, &stat) })?;
                if opaque {
                    let mark = [path.as_slice(), b".wh..wh..opq"].concat();
                    self.header(Member::empty(&mark))?;
                }
                self.directory(&directory, path, depth + 1)?;
                if let Some(clamp) = self.packing.clamp.filter(|_| self.packing.upper)
                    && stat.st_mtime == clamp
                {
                    let stamp = Timespec { tv_sec: clamp, tv_nsec: 0 };
                    rfs::futimens(&directory, &Timestamps { last_access: stamp, last_modification: stamp })?;
                }
                Ok(())
            }
            FileType::RegularFile => {
                let file = open(OFlags::RDONLY)?;
                if self.packing.upper {
                    self.tidy(&file)?;
                }
                self.file(file, path, &stat)
            }
            FileType::Symlink => {
                let target = rfs::readlinkat(parent, name, Vec::new())?;
                self.header(Member { kind: EntryType::Symlink, link: target.as_bytes(), ..Member::of(path, &stat) })
            }
            FileType::CharacterDevice => self.header(Member { kind: EntryType::Char, ..Member::of(path, &stat) }),
            FileType::BlockDevice => self.header(Member { kind: EntryType::Block, ..Member::of(path, &stat) }),
            FileType::Fifo => self.header(Member { kind: EntryType::Fifo, ..Member::of(path, &stat) }),
            _ => Ok(()),
        }
    }

    fn file(&mut self, file: OwnedFd, path: &[u8], stat: &Stat) -> io::Result<()> {
        let attributes = attributes(&file)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut file = File::from(file);
        let pieces = if size >= SPARSE_FROM { pieces(&file, size)? } else { vec![(0, size)] };
        let held: u64 = pieces.iter().map(|(_, length)| length).sum();
        let member = Member { kind: EntryType::Regular, attributes, size: held, ..Member::of(path, stat) };
        if held == size {
            self.header(member)?;
        } else {
            self.sparse_header(member, &pieces, size)?;
        }
        for (offset, length) in pieces {
            file.seek(SeekFrom::Start(offset))?;
            let copied = io::copy(&mut (&mut file).take(length), &mut self.writer)?;
            if copied < length {
                // The header has promised as much: a file that shrank is filled up, as tar does.
                io::copy(&mut io::repeat(0).take(length - copied), &mut self.writer)?;
            }
        }
        self.pad(held)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let rest = (length % 512) as usize;
        if rest == 0 { Ok(()) } else { self.writer.write_all(&[0; 512][rest..]) }
    }

    fn header(&mut self, member: Member<'_>) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        member.fill(&mut header, &mut records);
        if member.size > MAX_OCTAL_SIZE {
            record(&mut records, "size", member.size.to_string().as_bytes());
        }
        self.extension(&records)?;
        header.set_size(member.size.min(MAX_OCTAL_SIZE));
        header.set_cksum();
        self.writer.write_all(header.as_bytes())
    }

    /// A file with holes, in GNU's format, which Go, Python, libarchive and GNU tar read.
    fn sparse_header(&mut self, member: Member<'_>, pieces: &[(u64, u64)], size: u64) -> io::Result<()> {
        let mut header = Header::new_gnu();
        let mut records = Vec::new();
        member.fill(&mut header, &mut records);
        self.extension(&records)?;
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(member.size);
        let mut map = pieces.to_vec();
        if map.last().is_none_or(|(offset, length)| offset + length < size) {
            map.push((size, 0));
        }
        let gnu = header.as_gnu_mut().expect("it was made as one");
        gnu.set_real_size(size);
        let (inline, rest) = map.split_at(map.len().min(gnu.sparse.len()));
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(inline) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        gnu.set_is_extended(!rest.is_empty());
        header.set_cksum();
        self.writer.write_all(header.as_bytes())?;
        let mut chunks = rest.chunks(21).peekable();
        while let Some(chunk) = chunks.next() {
            let mut block = GnuExtSparseHeader::new();
            for (slot, (offset, length)) in block.sparse.iter_mut().zip(chunk) {
                slot.set_offset(*offset);
                slot.set_length(*length);
            }
            block.set_is_extended(chunks.peek().is_some());
            self.writer.write_all(block.as_bytes())?;
        }
        Ok(())
    }

    /// A PAX header for what the next header can't say.
    fn extension(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..12].copy_from_slice(b"PaxHeaders.0");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.writer.write_all(header.as_bytes())?;
        self.writer.write_all(records)?;
        self.pad(records.len() as u64)
    }

    /// Takes off what overlayfs noted for itself about the layers below: as a layer, the file stands alone.
    fn tidy(&self, file: &OwnedFd) -> io::Result<()> {
        for name in attribute_names(file)? {
            if name.starts_with("trusted.overlay.") && name != "trusted.overlay.opaque" {
                if matches!(name.as_str(), "trusted.overlay.redirect" | "trusted.overlay.metacopy") {
                    return Err(io::Error::other(
                        "overlayfs's redirect_dir or metacopy is on: a layer of such files would not be whole",
                    ));
                }
                rfs::fremovexattr(file, name.as_str())?;
            }
        }
        Ok(())
    }
}

impl<'a> Member<'a> {
    fn of(path: &'a [u8], stat: &'a Stat) -> Self {
        Self { path, kind: EntryType::Regular, stat: Some(stat), link: &[], size: 0, attributes: Vec::new() }
    }

    /// An empty file of root's, from 1970.
    fn empty(path: &'a [u8]) -> Self {
        Self { path, kind: EntryType::Regular, stat: None, link: &[], size: 0, attributes: Vec::new() }
    }

    fn fill(&self, header: &mut Header, records: &mut Vec<u8>) {
        if self.path.len() <= 100 {
            header.as_mut_bytes()[..self.path.len()].copy_from_slice(self.path);
        } else {
            record(records, "path", self.path);
            header.as_mut_bytes()[..100].copy_from_slice(&self.path[self.path.len() - 100..]);
        }
        if self.link.len() <= 100 {
            header.as_mut_bytes()[157..157 + self.link.len()].copy_from_slice(self.link);
        } else {
            record(records, "linkpath", self.link);
        }
        let (mode, uid, gid, mtime, device) = match self.stat {
            Some(stat) => (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_rdev),
            None => (0o644, 0, 0, 0, 0),
        };
        header.set_entry_type(self.kind);
        header.set_mode(mode);
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if id > MAX_OCTAL_ID {
                record(records, key, id.to_string().as_bytes());
            }
        }
        header.set_uid(uid.min(MAX_OCTAL_ID).into());
        header.set_gid(gid.min(MAX_OCTAL_ID).into());
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        if matches!(self.kind, EntryType::Char | EntryType::Block) {
            // Both formats have the fields; setting them can't fail.
            let _ = header.set_device_major(rfs::major(device));
            let _ = header.set_device_minor(rfs::minor(device));
        }
        for (name, value) in &self.attributes {
            record(records, &format!("SCHILY.xattr.{name}"), value);
        }
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The parts of a file that are no holes.
fn pieces(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match rfs::seek(file, rfs::SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            // No such seeking here: all of it counts as data.
            Err(rustix::io::Errno::INVAL) => return Ok(vec![(0, size)]),
            Err(error) => return Err(error.into()),
        };
        let end = rfs::seek(file, rfs::SeekFrom::Hole(start))?.min(size);
        if end <= start {
            break;
        }
        found.push((start, end - start));
        offset = end;
    }
    Ok(found)
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 4];
    matches!(rfs::fgetxattr(directory, "trusted.overlay.opaque", &mut value), Ok(1) if value[0] == b'y')
}

/// What travels with a file: capabilities and what users noted.
fn attributes(file: &OwnedFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in attribute_names(file)? {
        let travels =
            name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."));
        if travels {
            let mut value = vec![0; 1 << 16];
            let length = rfs::fgetxattr(file, name.as_str(), &mut value[..])?;
            value.truncate(length);
            found.push((name, value));
        }
    }
    found.sort();
    Ok(found)
}

fn attribute_names(file: &OwnedFd) -> io::Result<Vec<String>> {
    let mut buffer = vec![0_u8; 1 << 12];
    let length = loop {
        match rfs::flistxattr(file, &mut buffer[..]) {
            Ok(length) => break length,
            Err(rustix::io::Errno::RANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let names = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Copies an extended attribute set onto another file; what the file system lacks is left out.
pub fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    for (name, value) in attributes(from)? {
        match rfs::fsetxattr(to, name.as_str(), &value, XattrFlags::empty()) {
            Err(rustix::io::Errno::OPNOTSUPP) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The extended attributes that [`pack`] would record of a file, by name.
pub fn travelling_attributes(file: &OwnedFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    attributes(file)
}
