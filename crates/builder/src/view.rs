//! Layers seen as one tree, without a mount that anybody else could see or that could be left behind: the overlay is
//! never attached, and goes with its descriptor.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, Mode, OFlags};
use rustix::mount::{self as rmount, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags};

/// An overlay to write to: the layers below, and where changes go.
#[derive(Debug)]
pub(crate) struct Upper<'a> {
    /// What is written.
    pub upper: &'a Path,
    /// overlayfs's own, on the same file system.
    pub work: &'a Path,
}

/// Opens the tree that `lower` (the topmost first) make together; with an [`Upper`], to be written.
/// `empty` is a directory without entries, which stands in where overlayfs wants one more.
pub(crate) fn open(lower: &[PathBuf], upper: Option<Upper<'_>>, empty: &Path) -> io::Result<OwnedFd> {
    if lower.is_empty() && upper.is_none() {
        return directory(empty);
    }
    let mut lower = lower.to_vec();
    if upper.is_none() || lower.is_empty() {
        lower.push(empty.to_owned());
    }
    if let Some(Upper { upper, work }) = &upper {
        std::fs::create_dir_all(upper)?;
        std::fs::create_dir_all(work)?;
    }
    match layered(&lower, upper.as_ref()) {
        // A kernel older than 6.5.
        Err(error) if matches!(error.raw_os_error(), Some(22 | 38)) => classic(&lower, upper.as_ref(), empty),
        result => result,
    }
}

fn layered(lower: &[PathBuf], upper: Option<&Upper<'_>>) -> io::Result<OwnedFd> {
    let context = rmount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        rmount::fsconfig_set_string(&context, "lowerdir+", layer)?;
    }
    if let Some(Upper { upper, work }) = upper {
        rmount::fsconfig_set_string(&context, "upperdir", *upper)?;
        rmount::fsconfig_set_string(&context, "workdir", *work)?;
    }
    rmount::fsconfig_create(&context)?;
    Ok(rmount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Mounted for a moment, and lazily unmounted while its root is held open.
fn classic(lower: &[PathBuf], upper: Option<&Upper<'_>>, empty: &Path) -> io::Result<OwnedFd> {
    let escape = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let layers: Vec<String> = lower.iter().map(|layer| escape(layer)).collect();
    let mut options = format!("lowerdir={}", layers.join(":"));
    if let Some(Upper { upper, work }) = upper {
        options += &format!(",upperdir={},workdir={}", escape(upper), escape(work));
    }
    let options = std::ffi::CString::new(options)?;
    let point = tempfile::tempdir_in(empty.parent().unwrap_or(empty))?;
    rmount::mount("overlay", point.path(), "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
    let root = directory(point.path());
    rmount::unmount(point.path(), UnmountFlags::DETACH)?;
    root
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rfs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
