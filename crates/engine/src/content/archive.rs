//! Reading a tar file by name: where each member begins, so that it can be read again without unpacking.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{ContentError, unpack::decompressed};

/// A tar file (plain on disk; a compressed one is first decompressed into a temporary file).
pub(super) struct TarFile {
    file: File,
    path: PathBuf,
    members: HashMap<String, Member>,
}

#[derive(Clone)]
enum Member {
    At {
        offset: u64,
        size: u64,
    },
    /// Older `docker save` links equal layers to each other.
    Link(String),
}

impl TarFile {
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, ContentError> {
        let fail = |e| ContentError::io("read", path, e);
        let mut file = File::open(path).map_err(fail)?;
        let mut head = [0; 4];
        let n = file.read(&mut head).map_err(fail)?;
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        if head[..n].starts_with(&[0x1f, 0x8b]) || head[..n] == [0x28, 0xb5, 0x2f, 0xfd] {
            let mut plain = tempfile::tempfile_in(scratch).map_err(|e| ContentError::io("create", scratch, e))?;
            io::copy(&mut decompressed(file)?.0, &mut plain).map_err(fail)?;
            file = plain;
            file.seek(SeekFrom::Start(0)).map_err(fail)?;
        }
        let mut members = HashMap::new();
        let mut archive = tar::Archive::new(&file);
        let damaged = |e: io::Error| ContentError::Invalid(format!("{}: not a tar archive: {e}", path.display()));
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = clean(&entry.path().map_err(damaged)?);
            let kind = entry.header().entry_type();
            if kind.is_file() {
                members.insert(name, Member::At { offset: entry.raw_file_position(), size: entry.size() });
            } else if (kind.is_symlink() || kind.is_hard_link())
                && let Some(target) = entry.link_name().map_err(damaged)?
            {
                let from = match kind.is_symlink() {
                    true => Path::new(&name).parent().unwrap_or(Path::new("")).join(&target),
                    false => target.into_owned(),
                };
                members.insert(name, Member::Link(clean(&from)));
            }
        }
        if members.is_empty() {
            return Err(ContentError::Invalid(format!("{}: an archive without files", path.display())));
        }
        Ok(Self { file, path: path.to_path_buf(), members })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A reader of one member.
    pub fn member(&self, name: &str) -> Result<io::Take<File>, ContentError> {
        let mut name = clean(Path::new(name));
        for _ in 0..8 {
            match self.members.get(&name) {
                Some(Member::At { offset, size }) => {
                    let fail = |e| ContentError::io("read", &self.path, e);
                    let mut file = self.file.try_clone().map_err(fail)?;
                    file.seek(SeekFrom::Start(*offset)).map_err(fail)?;
                    return Ok(file.take(*size));
                }
                Some(Member::Link(target)) => name = target.clone(),
                None => break,
            }
        }
        Err(ContentError::Invalid(format!("{}: {name} is missing", self.path.display())))
    }

    /// The whole archive, plain.
    pub fn whole(&self) -> Result<File, ContentError> {
        let fail = |e| ContentError::io("read", &self.path, e);
        let mut file = self.file.try_clone().map_err(fail)?;
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        Ok(file)
    }
}

/// `./a/../b` → `b`.
fn clean(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(part) => parts.push(part.to_str().unwrap_or_default()),
            std::path::Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.join("/")
}
