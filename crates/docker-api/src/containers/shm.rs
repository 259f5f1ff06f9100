//! `/dev/shm` of a container that lets others share it (`--ipc shareable`): a tmpfs on the host, in the container's
//! directory, for as long as the container runs.
//!
//! It cannot be had from inside the container: a path through its process's root is one of the host's to whoever
//! resolves it first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::record::Record;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::networks;

/// Where a container's own is.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("shm")
}

/// Mounts it, if the container is to have one.
pub(super) fn prepare(record: &Record, directory: &Path) -> Result<()> {
    if record.host.ipc_mode != "shareable" {
        return Ok(());
    }
    release(directory);
    let target = path(directory);
    fs::create_dir_all(&target)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let options = format!("mode=1777,size={}", record.host.shm_size);
    Ok(mount(Some("shm"), &target, Some("tmpfs"), flags, Some(options.as_str())).map_err(io::Error::from)?)
}

/// Takes it away; fine if there is none. Who shares it keeps it until the end.
pub(super) fn release(directory: &Path) {
    let target = path(directory);
    while umount2(&target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    let _ = fs::remove_dir(&target);
}

/// That of a running container whose IPC namespace another joins.
///
/// # Errors
/// It keeps its own to itself.
pub(super) fn of(daemon: &Daemon, donor: &str) -> Result<PathBuf> {
    let donor = networks::running(daemon, donor)?;
    let mode = donor.record().host.ipc_mode.clone();
    match mode.strip_prefix("container:") {
        Some(next) => of(daemon, next),
        None if mode == "host" => Ok("/dev/shm".into()),
        None if mode == "shareable" => Ok(path(&donor.directory)),
        None => Err(ApiError::conflict(
            "failed to join IPC namespace: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        )),
    }
}
