//! Mounts that are at no place yet (open_tree(2), mount_setattr(2), move_mount(2); Linux 5.12).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// Nothing can be written by way of this mount.
pub(crate) const READ_ONLY: u64 = 1;
/// Its files belong to others, as a user namespace maps them.
pub(crate) const IDMAP: u64 = 0x0010_0000;

/// A copy of a mount, in no mount table; it goes with its last user unless it is attached.
#[derive(Debug)]
pub(crate) struct Detached(OwnedFd);

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

impl Detached {
    /// A copy of what is at `source`, with `recursive` of all mounts below it. It shares with the same mounts as the
    /// original does.
    pub fn of(source: &Path, recursive: bool) -> io::Result<Self> {
        let path = CString::new(source.as_os_str().as_bytes())?;
        let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
        if recursive {
            flags |= libc::AT_RECURSIVE as libc::c_uint;
        }
        // SAFETY: the path is a terminated string that outlives the call, which returns a new descriptor or -1.
        let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        let tree = i32::try_from(tree).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call has just made this descriptor; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(tree) }))
    }

    /// Sets [`READ_ONLY`] or, with the descriptor of a user namespace, [`IDMAP`].
    pub fn set(&self, attribute: u64, recursive: bool, users: Option<&impl AsRawFd>) -> io::Result<()> {
        let user_namespace = users.map_or(0, |users| users.as_raw_fd() as u64);
        let attributes = Attributes { set: attribute, user_namespace, ..Attributes::default() };
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: the empty path and the attributes outlive the call, and the size is that of the attributes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &attributes,
                size_of::<Attributes>(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Puts it at a place of this process's mount namespace.
    pub fn attach(&self, target: &Path) -> io::Result<()> {
        let path = CString::new(target.as_os_str().as_bytes())?;
        // SAFETY: both paths are terminated strings that outlive the call.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsRawFd for Detached {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
