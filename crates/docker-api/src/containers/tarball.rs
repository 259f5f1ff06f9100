//! Trees of files as tar streams, and back.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};

/// A tar stream being written.
pub(crate) struct Tarball<W: Write> {
    builder: Builder<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    /// Turn overlayfs's whiteouts into the image format's.
    whiteouts: bool,
    /// Write names with the `./` or `/` that they begin with, which the header leaves out.
    literal: bool,
}

impl<W: Write> Tarball<W> {
    pub fn new(writer: W) -> Self {
        Self { builder: Builder::new(writer), links: HashMap::new(), whiteouts: false, literal: false }
    }

    /// For names that begin with `.` or `/`: clients look for that to put another name there.
    pub fn literal(writer: W) -> Self {
        Self { literal: true, ..Self::new(writer) }
    }

    /// For a writable layer: what was removed in it is written as an image's layer says it.
    pub fn of_layer(writer: W) -> Self {
        Self { whiteouts: true, ..Self::new(writer) }
    }

    /// Adds `path` and, if it is a directory, everything below, as `name`.
    pub fn tree(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        self.entry(path, name, &metadata)?;
        if metadata.is_dir() {
            if self.whiteouts && is_opaque(path) {
                self.marker(&name.join(".wh..wh..opq"))?;
            }
            self.children(path, name)?;
        }
        Ok(())
    }

    /// Adds everything below a directory, but not itself.
    pub fn children(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            match self.tree(&entry.path(), &name.join(entry.file_name())) {
                // It went while the tree was walked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn marker(&mut self, name: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.builder.append_data(&mut header, name, io::empty())
    }

    fn entry(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if self.whiteouts && kind.is_char_device() && metadata.rdev() == 0 {
            let mut marker = std::ffi::OsString::from(".wh.");
            marker.push(name.file_name().unwrap_or_default());
            return self.marker(&name.with_file_name(marker));
        }
        if kind.is_socket() {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_metadata(metadata);
        header.set_mode(metadata.mode() & 0o7777);
        header.set_size(0);
        if !metadata.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&(metadata.dev(), metadata.ino())).cloned() {
                header.set_entry_type(EntryType::Link);
                self.extensions(path, name, metadata, Some(&first))?;
                let relative = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
                return self.builder.append_link(&mut header, relative(name), relative(&first));
            }
            self.links.insert((metadata.dev(), metadata.ino()), name.to_owned());
        }
        self.extensions(path, name, metadata, None)?;
        let name = match name.strip_prefix("/").unwrap_or(name) {
            empty if empty.as_os_str().is_empty() => Path::new("."),
            name => name,
        };
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            let mut with_slash = name.as_os_str().to_owned();
            with_slash.push("/");
            self.builder.append_data(&mut header, with_slash, io::empty())
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            self.builder.append_link(&mut header, name, fs::read_link(path)?)
        } else if metadata.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            let file = File::open(path)?;
            // A file that shrinks meanwhile is filled up, one that grows is cut: the size has been said.
            let padded = file.chain(io::repeat(0)).take(metadata.len());
            self.builder.append_data(&mut header, name, padded)
        } else {
            let device = metadata.rdev();
            header.set_entry_type(if kind.is_fifo() {
                EntryType::Fifo
            } else if kind.is_block_device() {
                EntryType::Block
            } else {
                EntryType::Char
            });
            header.set_device_major(libc::major(device))?;
            header.set_device_minor(libc::minor(device))?;
            self.builder.append_data(&mut header, name, io::empty())
        }
    }

    /// What the old header cannot say: attributes that travel (the user's and file capabilities), and literal names.
    fn extensions(&mut self, path: &Path, name: &Path, metadata: &Metadata, link: Option<&Path>) -> io::Result<()> {
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        if self.literal {
            let mut text = name.as_os_str().as_bytes().to_vec();
            if metadata.is_dir() && text != b"/" {
                text.push(b'/');
            }
            found.push(("path".into(), text));
            found.extend(link.map(|link| ("linkpath".into(), link.as_os_str().as_bytes().to_vec())));
        }
        let names = if metadata.is_symlink() || link.is_some() { Vec::new() } else { attribute_names(path) };
        for name in names {
            if (name == "security.capability" || name.starts_with("user."))
                && let Some(value) = attribute(path, &name)
            {
                found.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        self.builder.append_pax_extensions(found.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
    }

    /// Adds bytes of memory as a file.
    pub fn file(&mut self, name: &str, mtime: u64, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime);
        self.builder.append_data(&mut header, name, bytes)
    }

    /// Writes the end of the archive and hands the writer back.
    pub fn finish(self) -> io::Result<W> {
        let mut writer = self.builder.into_inner()?;
        writer.flush()?;
        Ok(writer)
    }
}

/// Unpacks an archive below a directory, with modes, owners, times and extended attributes. Nothing is written outside.
pub(crate) fn unpack(reader: impl Read, directory: &Path) -> io::Result<()> {
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    archive.unpack(directory)
}

/// Whether a directory of a writable layer hides those below.
pub(super) fn is_opaque(path: &Path) -> bool {
    attribute(path, "trusted.overlay.opaque").is_some_and(|value| value == b"y")
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

fn attribute_names(path: &Path) -> Vec<String> {
    let Some(path) = c_path(path) else { return Vec::new() };
    let mut buffer = vec![0u8; 4096];
    // SAFETY: the path is terminated and the buffer has the length that is passed; both outlive the call.
    let length = unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let Ok(length) = usize::try_from(length) else { return Vec::new() };
    buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let (path, name) = (c_path(path)?, CString::new(name).ok()?);
    let mut buffer = vec![0u8; 4096];
    // SAFETY: path and name are terminated and the buffer has the length that is passed; all outlive the call.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    buffer.truncate(usize::try_from(length).ok()?);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_survives_the_way_there_and_back() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/file"), "text").unwrap();
        fs::hard_link(from.path().join("d/file"), from.path().join("d/same")).unwrap();
        std::os::unix::fs::symlink("/nowhere", from.path().join("link")).unwrap();
        let mut tar = Tarball::new(Vec::new());
        tar.tree(from.path(), Path::new("x")).unwrap();
        unpack(tar.finish().unwrap().as_slice(), to.path()).unwrap();
        assert_eq!(fs::read(to.path().join("x/d/file")).unwrap(), b"text");
        assert_eq!(fs::metadata(to.path().join("x/d/same")).unwrap().nlink(), 2);
        assert_eq!(fs::read_link(to.path().join("x/link")).unwrap(), Path::new("/nowhere"));
    }
}
