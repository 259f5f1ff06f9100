//! Process 1 of a shared PID namespace: it reaps, and shows nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork, pivot_root};

/// The ids of Kubernetes' own pause image.
const NOBODY: u32 = 65_535;

/// Starts it; `root` is a directory to make for its empty root, `users` the user namespace to join first.
pub(super) fn start(root: &Path, users: Option<&Path>) -> Result<i32, String> {
    std::fs::create_dir_all(root).map_err(|error| format!("make {}: {error}", root.display()))?;
    let Some(users) = users else { return launch(root, 0) };
    // The namespace must belong to the user namespace, from which there is no way back: a child goes, whose child is
    // this process's own.
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|error| format!("make a socket: {error}"))?;
    // SAFETY: the shim has one thread, so the child may run any code.
    match unsafe { fork() }.map_err(|errno| format!("fork: {}", errno.desc()))? {
        ForkResult::Parent { child } => {
            drop(theirs);
            let mut told = String::new();
            let read = ours.read_to_string(&mut told);
            let _ = waitpid(child, None);
            read.map_err(|error| format!("make a shared PID namespace: {error}"))?;
            told.parse().map_err(|_| told)
        }
        ForkResult::Child => {
            let joined = File::open(users)
                .map_err(|error| format!("open the user namespace: {error}"))
                .and_then(|file| {
                    setns(file, CloneFlags::CLONE_NEWUSER).map_err(|errno| format!("join: {}", errno.desc()))
                })
                .and_then(|()| launch(root, libc::CLONE_PARENT));
            let _ = theirs.write_all(joined.map_or_else(|error| error, |pid| pid.to_string()).as_bytes());
            // SAFETY: ends this process without running the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

fn launch(root: &Path, more_flags: i32) -> Result<i32, String> {
    let flags = (libc::CLONE_NEWPID | libc::SIGCHLD | more_flags) as libc::c_ulong;
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
