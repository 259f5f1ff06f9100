//! Mounts on which files belong to others: id-mapped mounts (mount_setattr(2), Linux 5.12).
//!
//! On disk, a container's root owns files as root, whatever ids it has on the host. So images are unpacked once for all,
//! volumes change hands without `chown`, and a snapshot can be copied, compared and committed as any other.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, umount2};

use crate::detached::{self, Detached};
use crate::overlay::Layers;

/// Binds `source` at `target` (made, a directory or a file as the source is) with the mapping of a user namespace, or
/// without one as it is. With `recursive`, all mounts below it come along.
///
/// # Errors
/// The kernel's; `InvalidInput` names a file system that cannot be id-mapped.
pub(crate) fn bind(source: &Path, target: &Path, recursive: bool, users: Option<&File>) -> io::Result<()> {
    let tree = Detached::of(source, recursive)?;
    if let Some(users) = users {
        tree.set(detached::IDMAP, recursive, Some(users)).map_err(|error| unmappable(source, error))?;
    }
    make_target(source, target)?;
    tree.attach(target)
}

/// As [`crate::overlay::mount`], with all layers mapped: what is root's in a layer is the container's root's in the
/// overlay. `stage` is a directory of its own, for as long as this takes; `root` is the container's root on the host.
pub(crate) fn mount_overlay(
    wanted: &Layers<'_>,
    target: &Path,
    stage: &Path,
    users: &File,
    root: u32,
) -> io::Result<()> {
    let Layers { lower, upper, work, volatile } = *wanted;
    // Both must be on one mount, and mapping makes mounts.
    let (Some(top), Some(upper), Some(work)) =
        (upper.parent().filter(|parent| work.parent() == Some(parent)), upper.file_name(), work.file_name())
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "upper and work directory must be neighbours"));
    };
    let mut staged = Vec::new();
    let result = (|| {
        let mut layers = Vec::new();
        for (index, layer) in lower.iter().enumerate() {
            let at = stage.join(index.to_string());
            bind(layer, &at, false, Some(users))?;
            staged.push(at.clone());
            layers.push(at);
        }
        let at = stage.join("top");
        bind(top, &at, false, Some(users))?;
        staged.push(at.clone());
        let mapped = Layers { lower: &layers, upper: &at.join(upper), work: &at.join(work), volatile };
        as_user(root, || mapped.mount(target))?
    })();
    // The overlay has mounts of its own of what it is made of.
    for at in staged {
        let _ = umount2(&at, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(stage);
    result
}

/// Does something to files as another user, with all of this process's rights. The overlay goes on acting as whom it was
/// mounted, and on a mapped mount only who is mapped can make a file.
pub(crate) fn as_user<T>(user: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    // SAFETY: these change this thread's file system ids, and fail only by leaving them as they are.
    unsafe {
        libc::setfsgid(user);
        libc::setfsuid(user);
    }
    // The kernel has taken the rights over files away with root's id.
    let outcome = raise_capabilities().map(|()| work());
    // SAFETY: as above.
    unsafe {
        libc::setfsuid(0);
        libc::setfsgid(0);
    }
    outcome
}

/// Puts everything permitted into effect (capset(2)).
fn raise_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Two of effective, permitted, inheritable.
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: header and sets are of the shape of this version, and outlive the call.
    if unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for set in &mut sets {
        set[0] = set[1];
    }
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn make_target(source: &Path, target: &Path) -> io::Result<()> {
    if fs::metadata(source)?.is_dir() {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(target).map(drop)
}

fn unmappable(path: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the file system of {} does not support id-mapped mounts", path.display()),
        ),
        _ => error,
    }
}
