//! Process 1 of a shared PID namespace: it reaps, and shows nothing.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Uid, pivot_root};

/// The ids of Kubernetes' own pause image.
const NOBODY: u32 = 65_535;

/// Starts it; `root` is a directory to make for its empty root.
pub(super) fn start(root: &Path) -> Result<i32, String> {
    std::fs::create_dir_all(root).map_err(|error| format!("make {}: {error}", root.display()))?;
    let flags = (libc::CLONE_NEWPID | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: like fork, into a new PID namespace; the shim has one thread, so the child may run any code.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        0 => {
            if let Err(errno) = jail(root) {
                eprintln!("shim: pause: {}", errno.desc());
                // SAFETY: ends this process without running the parent's exit handlers.
                unsafe { libc::_exit(1) }
            }
            reap()
        }
        pid if pid > 0 => Ok(pid as i32),
        _ => Err(format!("make a shared PID namespace: {}", std::io::Error::last_os_error())),
    }
}

/// Containers see this process: give it nothing that leads out (`/proc/1/root`, `/proc/1/fd`), and no rights.
fn jail(root: &Path) -> nix::Result<()> {
    let _ = nix::sys::prctl::set_name(c"pause");
    nix::sys::prctl::set_dumpable(false)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("size=0,mode=555"))?;
    nix::unistd::chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    super::fork::close_all_but(Vec::new());
    nix::unistd::setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY))?;
    nix::unistd::setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY))
}

fn reap() -> ! {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&children), None);
    loop {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {}
        let _ = children.wait();
    }
}
