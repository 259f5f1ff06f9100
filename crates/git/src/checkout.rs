//! A commit's files, written into a directory of their own.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use super::{
    object::{Kind, Mode, ObjectError, Oid, commit_tree, entries},
    pack::{Objects, PackError},
};

/// Directories within directories.
pub(crate) const DEEPEST: usize = 256;

/// Files that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The pack is damaged or lacks something.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A commit or tree that is malformed or means harm.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The disk refuses.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// Deeper than anyone means.
    #[error("directories are nested deeper than {DEEPEST}")]
    TooDeep,
}

/// Writes the files of a commit into a directory that does not exist yet. Submodules become empty directories, as they
/// do for git without `--recurse-submodules` (see [`crate::submodules`]). Attributes (line ends, filters) do not apply.
///
/// # Errors
/// If a file cannot be had or written; what was written stays.
pub fn checkout(pack: &mut dyn Objects, commit: &Oid, directory: &Path) -> Result<(), CheckoutError> {
    let tree = commit_tree(&pack.object(commit, Kind::Commit)?)?;
    make(directory)?;
    write_tree(pack, &tree, directory, 0)
}

/// Nothing that exists is ever followed or replaced, so a link in the tree cannot lead a later file elsewhere.
fn write_tree(pack: &mut dyn Objects, tree: &Oid, directory: &Path, depth: usize) -> Result<(), CheckoutError> {
    if depth > DEEPEST {
        return Err(CheckoutError::TooDeep);
    }
    for entry in entries(&pack.object(tree, Kind::Tree)?)? {
        let path = directory.join(OsStr::from_bytes(&entry.name));
        let told = |error| CheckoutError::Io(path.clone(), error);
        match entry.mode {
            Mode::Tree => {
                make(&path)?;
                write_tree(pack, &entry.oid, &path, depth + 1)?;
            }
            Mode::Submodule => make(&path)?,
            Mode::Link => {
                let target = pack.object(&entry.oid, Kind::Blob)?;
                symlink(OsStr::from_bytes(&target), &path).map_err(told)?;
            }
            Mode::File | Mode::Executable => {
                let mode = if entry.mode == Mode::Executable { 0o755 } else { 0o644 };
                let data = pack.object(&entry.oid, Kind::Blob)?;
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
                file.and_then(|mut file| file.write_all(&data)).map_err(told)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn make(directory: &Path) -> Result<(), CheckoutError> {
    DirBuilder::new().mode(0o755).create(directory).map_err(|error| CheckoutError::Io(directory.to_owned(), error))
}
