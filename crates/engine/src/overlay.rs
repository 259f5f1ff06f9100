//! Mounting an overlay of any number of layers.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// Mounts `lower` (the topmost first) with a writable layer at `target`; `volatile` as in [`crate::Rootfs::Overlay`].
///
/// # Errors
/// The kernel's. The mount is in the calling thread's mount namespace, and its end is the caller's business.
pub fn mount(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path, volatile: bool) -> io::Result<()> {
    Layers { lower, upper, work, volatile }.mount(target)
}

/// Shows `lower` (the topmost first) at `target`, for reading only.
///
/// # Errors
/// The kernel's; `InvalidInput` without a layer. The mount is in the calling thread's mount namespace, and its end is the
/// caller's business.
pub fn mount_read_only(lower: &[PathBuf], target: &Path) -> io::Result<()> {
    match lower {
        [] => Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing to show")),
        // The kernel wants at least two layers where none can be written.
        [only] => {
            let bind =
                |source: Option<&Path>, flags| nix::mount::mount(source, target, None::<&str>, flags, None::<&str>);
            bind(Some(only), MsFlags::MS_BIND)?;
            Ok(bind(None, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY)?)
        }
        layers => match one_by_one(layers, None, false, target) {
            Err(error) if too_old(&error) => classic(layers, "", target),
            result => result,
        },
    }
}

/// What an overlay is made of; see [`crate::Rootfs::Overlay`].
pub(crate) struct Layers<'a> {
    pub lower: &'a [PathBuf],
    pub upper: &'a Path,
    pub work: &'a Path,
    pub volatile: bool,
}

impl Layers<'_> {
    /// Uses the mount API that takes one layer a call (Linux 6.5), so that neither the number of layers nor the length of
    /// their paths is limited to one page; on an older kernel, the classic call.
    pub fn mount(&self, target: &Path) -> io::Result<()> {
        // A volatile mount leaves this behind, so that nobody takes its layer for one that survived a crash. Those of
        // before a crash are not mounted again here.
        let _ = std::fs::remove_dir_all(self.work.join("work/incompat"));
        match one_by_one(self.lower, Some((self.upper, self.work)), self.volatile, target) {
            Err(error) if too_old(&error) => {
                let volatile = if self.volatile { ",volatile" } else { "" };
                let (upper, work) = (escape(self.upper), escape(self.work));
                classic(self.lower, &format!(",upperdir={upper},workdir={work}{volatile}"), target)
            }
            result => result,
        }
    }
}

/// Whether the kernel does not know this way of mounting.
fn too_old(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

fn one_by_one(lower: &[PathBuf], writable: Option<(&Path, &Path)>, volatile: bool, target: &Path) -> io::Result<()> {
    // SAFETY: the name is a static, terminated string; the call returns a new descriptor or -1.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) })?;
    // What `df` shows of it.
    set(&context, "source", Path::new("overlay"))?;
    for layer in lower {
        set(&context, "lowerdir+", layer)?;
    }
    if let Some((upper, work)) = writable {
        set(&context, "upperdir", upper)?;
        set(&context, "workdir", work)?;
    }
    if volatile {
        configure(&context, FSCONFIG_SET_FLAG, Some("volatile"), None)?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
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

fn classic(lower: &[PathBuf], more: &str, target: &Path) -> io::Result<()> {
    let layers: Vec<String> = lower.iter().map(|layer| escape(layer)).collect();
    let options = format!("lowerdir={}{more}", layers.join(":"));
    Ok(nix::mount::mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?)
}

fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

fn set(context: &OwnedFd, key: &str, value: &Path) -> io::Result<()> {
    configure(context, FSCONFIG_SET_STRING, Some(key), Some(value))
}

fn configure(context: &OwnedFd, command: libc::c_uint, key: Option<&str>, value: Option<&Path>) -> io::Result<()> {
    let (key, value) = (key.map(CString::new).transpose()?, value.map(path).transpose()?);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: key and value are null or terminated strings that outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(&key), pointer(&value), 0) };
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
