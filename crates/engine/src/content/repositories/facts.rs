//! Facts: small files that appear and vanish durably.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::Path,
};

use crate::content::ContentError;

/// Writes a fact; it is on the disk when this returns.
pub(super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ContentError> {
    make_dir(dir)?;
    let fail = |e| ContentError::io("write", dir, e);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).map_err(fail)?;
    if !bytes.is_empty() {
        file.write_all(bytes).map_err(fail)?;
        file.as_file().sync_data().map_err(fail)?;
    }
    file.persist(dir.join(name)).map_err(|e| fail(e.error))?;
    sync(dir)
}

/// Reads a fact, if it is there.
pub(super) fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, ContentError> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(ContentError::io("read", &dir.join(name), e)),
    }
}

/// Removes a fact durably; says whether it was there.
pub(super) fn remove(dir: &Path, name: &str) -> Result<bool, ContentError> {
    match std::fs::remove_file(dir.join(name)) {
        Ok(()) => sync(dir).map(|()| true),
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) => Err(ContentError::io("remove", &dir.join(name), e)),
    }
}

/// The names in a directory, in no order; none if there is no such directory. Facts under way are left out.
pub(super) fn list(dir: &Path) -> Result<Vec<String>, ContentError> {
    let fail = |e| ContentError::io("list", dir, e);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        names.extend(name.into_string().ok().filter(|n| !n.starts_with('.')));
    }
    Ok(names)
}

/// Makes a directory and what it lies in, durably.
pub(super) fn make_dir(dir: &Path) -> Result<(), ContentError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().expect("a repository's directories lie below the content's root");
    make_dir(parent)?;
    match std::fs::create_dir(dir) {
        Ok(()) => sync(parent),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(ContentError::io("create", dir, e)),
    }
}

fn sync(dir: &Path) -> Result<(), ContentError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| ContentError::io("sync", dir, e))
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
