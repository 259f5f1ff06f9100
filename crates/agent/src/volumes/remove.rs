//! Removal of a pod's directories. It stops at mounts: what someone mounted there is not the pod's.

use std::{
    ffi::{CStr, OsStr},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    unistd::{UnlinkatFlags, unlinkat},
};

/// Removes a tree; one that is not there is fine. Fails at the first mount point in it, which stays as it is.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let directory = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    let parent = match openat2(AT_FDCWD, parent, directory) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    let name = CStr::from_bytes_with_nul(&bytes).map_err(io::Error::other)?;
    match remove_entry(parent.as_fd(), name, None) {
        Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EXDEV | Errno::EBUSY) => Err(io::Error::other(format!("{} holds a mount", path.display()))),
        other => Ok(other?),
    }
}

fn remove_entry(parent: BorrowedFd<'_>, name: &CStr, kind: Option<Type>) -> nix::Result<()> {
    if kind.is_none_or(|k| k == Type::Directory) {
        match open_directory(parent, name) {
            Ok(directory) => {
                empty(directory)?;
                return unlinkat(parent, name, UnlinkatFlags::RemoveDir);
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(error) => return Err(error),
        }
    }
    unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(parent, OsStr::from_bytes(name.to_bytes()), OpenHow::new().flags(flags).resolve(resolve))
}

fn empty(directory: OwnedFd) -> nix::Result<()> {
    let mut entries = Dir::from_fd(directory)?;
    let listed: Vec<_> = entries.iter().collect::<nix::Result<_>>()?;
    for entry in listed {
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            match remove_entry(entries.as_fd(), name, entry.file_type()) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_and_what_links_lead_to_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir_all(tree.join("a/b")).expect("made");
        std::fs::create_dir(&outside).expect("made");
        std::fs::write(outside.join("kept"), "").expect("written");
        std::fs::write(tree.join("a/b/file"), "").expect("written");
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).expect("linked");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists() && outside.join("kept").exists());
        remove_tree(&tree).expect("gone already");
        std::fs::write(&tree, "").expect("written");
        remove_tree(&tree).expect("a file goes, too");
    }
}
