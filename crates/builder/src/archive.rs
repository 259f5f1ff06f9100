//! Contexts that come as archives, looked into before they are unpacked.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use crate::extract;
use crate::pattern::clean;

/// Whether a file is an archive, compressed or not: whether it begins with an entry's header.
///
/// # Errors
/// The disk's.
pub fn is_archive(file: &File) -> io::Result<bool> {
    extract::is_archive(&file.as_fd().try_clone_to_owned()?)
}

/// The first `limit` bytes of a file in an archive; `None` if it is not there.
///
/// # Errors
/// The disk's, and those of a broken archive.
pub fn read_in_archive(archive: File, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let wanted = clean(path);
    let mut archive = tar::Archive::new(extract::decompressed(archive)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() && clean(&entry.path()?.to_string_lossy()) == wanted {
            let mut bytes = Vec::new();
            entry.by_ref().take(limit).read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
