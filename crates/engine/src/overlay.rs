//! Mounting an overlay of any number of layers.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// Mounts `lower` (the topmost first) with a writable layer at `target`.
///
/// Uses the mount API that takes one layer a call (Linux 6.5), so that neither the number of layers nor the length of
/// their paths is limited to one page; on an older kernel, the classic call.
///
/// # Errors
/// The kernel's. The mount is in the calling thread's mount namespace, and its end is the caller's business.
pub fn mount(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    match mount_layered(lower, upper, work, target) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            mount_classic(lower, upper, work, target)
        }
        result => result,
    }
}

fn mount_layered(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    // SAFETY: the name is a static, terminated string; the call returns a new descriptor or -1.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) })?;
    for layer in lower {
        set(&context, "lowerdir+", layer)?;
    }
    set(&context, "upperdir", upper)?;
    set(&context, "workdir", work)?;
    configure(&context, FSCONFIG_CMD_CREATE, None)?;
    // SAFETY: `context` is an open configuration; the call returns a new descriptor or -1.
    let mounted = owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })?;
    let target = path(target)?;
    // SAFETY: both paths are terminated strings that outlive the call.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mounted.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mount_classic(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    let escape = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let layers: Vec<String> = lower.iter().map(|layer| escape(layer)).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", layers.join(":"), escape(upper), escape(work));
    let flags = nix::mount::MsFlags::empty();
    Ok(nix::mount::mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()))?)
}

fn set(context: &OwnedFd, key: &str, value: &Path) -> io::Result<()> {
    configure(context, FSCONFIG_SET_STRING, Some((key, value)))
}

fn configure(context: &OwnedFd, command: libc::c_uint, pair: Option<(&str, &Path)>) -> io::Result<()> {
    let pair = pair.map(|(key, value)| Ok::<_, io::Error>((CString::new(key)?, path(value)?))).transpose()?;
    let (key, value) = pair.as_ref().map_or((std::ptr::null(), std::ptr::null()), |(k, v)| (k.as_ptr(), v.as_ptr()));
    // SAFETY: key and value are null or terminated strings owned by `pair`, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: a successful call returned a descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
