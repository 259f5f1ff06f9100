//! A program that containers cannot change.
//!
//! The shim's forks enter containers before they become something else, and there `/proc/PID/exe` leads to the shim's
//! own program on the host, which a root process of the container could reopen for writing (CVE-2019-5736). A program
//! that was started from a read-only mount cannot be: so the engine starts shims from a private one, of that file alone.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A detached read-only mount of one file. It is in no mount table and goes with its last user.
#[derive(Debug)]
pub(crate) struct Protected(OwnedFd);

impl Protected {
    pub fn new(program: &Path) -> io::Result<Self> {
        let path = CString::new(program.as_os_str().as_bytes())?;
        let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
        // SAFETY: the path is a terminated string that outlives the call, which returns a new descriptor or -1.
        let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        let tree = i32::try_from(tree).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call has just made this descriptor; nobody else owns it.
        let tree = unsafe { OwnedFd::from_raw_fd(tree) };
        let attributes = MountAttributes { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
        // SAFETY: the empty path and the attributes outlive the call, and the size is that of the attributes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &attributes,
                size_of::<MountAttributes>(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(tree)) }
    }

    /// A path at which this process and those it starts can execute it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
