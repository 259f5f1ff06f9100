//! The layer between image and container: the mount points that every container has, so that making them is nobody's
//! change.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::Result;

/// Where it is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("init-layer")
}

/// Makes it, if it is not there.
pub(crate) fn init_layer(data_dir: &Path) -> Result<()> {
    let root = path(data_dir);
    for directory in ["dev/pts", "dev/shm", "dev/mqueue", "proc", "sys", "etc"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for file in [".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        fs::File::options().create(true).append(true).open(root.join(file))?;
    }
    match symlink("/proc/mounts", root.join("etc/mtab")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}
