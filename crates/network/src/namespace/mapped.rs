//! A network namespace that belongs to a new user namespace.
//!
//! A process of several threads may not enter a user namespace, and one that has entered may not come back. So a child
//! is born in both new namespaces, and waits, while the calling thread maps its ids and joins its network namespace.

use std::fs::{self, File};
use std::io;

use nix::sched::{CloneFlags, setns};

use crate::UserIds;

/// Moves the calling thread into a new network namespace, owned by a new user namespace with this mapping.
pub(super) fn enter(users: UserIds) -> io::Result<()> {
    let child = Child::start()?;
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.0), format!("0 {} {}\n", users.first, users.count))?;
    }
    let network = File::open(format!("/proc/{}/ns/net", child.0))?;
    Ok(setns(network, CloneFlags::CLONE_NEWNET)?)
}

/// A process that only waits; killed when dropped.
struct Child(libc::pid_t);

impl Child {
    fn start() -> io::Result<Child> {
        // No signal at its end: whoever waits for this program's other children shall not meet it.
        let flags = (libc::CLONE_NEWUSER | libc::CLONE_NEWNET) as libc::c_ulong;
        // SAFETY: like fork. Other threads may hold locks, so the child makes system calls alone and never returns.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match pid {
            0 => loop {
                // SAFETY: both are plain system calls; the child must not outlive the thread that made it.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            },
            pid if pid > 0 => Ok(Child(pid as libc::pid_t)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the child is this thread's and was not waited for yet, so the number is its own.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL);
        }
    }
}
