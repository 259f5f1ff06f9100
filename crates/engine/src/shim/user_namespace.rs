//! The user namespace of a sandbox whose ids are mapped, and the namespaces that belong to it.
//!
//! A process may not come back from a user namespace, so a child makes it and all that is to belong to it, and waits
//! while the shim joins those (it keeps its own user namespace, and with it its rights). The user namespace itself is
//! held by a mount in the shim's mount namespace.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use crate::spec::IdRange;

/// `NS_GET_USERNS` of ioctl_ns(2).
const NS_GET_USERNS: libc::c_ulong = 0xb701;

/// Moves this process into new namespaces `flags` that belong to the sandbox's user namespace, and mounts that one at
/// `at`. It is the owner of the network namespace, if that has one of its own; else it is made, with the mapping `ids`.
pub(super) fn enter(ids: IdRange, network: Option<&Path>, flags: CloneFlags, at: &Path) -> Result<(), String> {
    let because = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let owner = match network {
        Some(path) => owner_of(path).map_err(because("find the network namespace's owner"))?,
        None => None,
    };
    let made_here = owner.is_none();
    let (mut ours, theirs) = UnixStream::pair().map_err(because("make a socket"))?;
    // SAFETY: the shim has one thread, so the child may run any code.
    let child = match unsafe { fork() }.map_err(|errno| format!("fork: {}", errno.desc()))? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(ours);
            hold(owner, flags, theirs)
        }
    };
    drop(theirs);
    let joined = join(&mut ours, child, made_here.then_some(ids), flags, at);
    let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    let _ = waitpid(child, None);
    joined
}

fn join(
    child_says: &mut UnixStream,
    child: Pid,
    mapping: Option<IdRange>,
    flags: CloneFlags,
    at: &Path,
) -> Result<(), String> {
    let expect = |stream: &mut UnixStream| {
        let mut word = [0; 256];
        match stream.read(&mut word) {
            Ok(1) if word[0] == b'.' => Ok(()),
            Ok(length) => Err(String::from_utf8_lossy(&word[..length]).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    expect(child_says)?;
    if let Some(ids) = mapping {
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{child}/{map}");
            std::fs::write(&path, format!("0 {} {}\n", ids.first, ids.count))
                .map_err(|error| format!("map ids {} to {}: {error}", ids.first, ids.first + (ids.count - 1)))?;
        }
    }
    child_says.write_all(b".").map_err(|error| format!("answer: {error}"))?;
    expect(child_says)?;
    let namespace = |name: &str| format!("/proc/{child}/ns/{name}");
    File::create(at).map_err(|error| format!("make {}: {error}", at.display()))?;
    mount(Some(namespace("user").as_str()), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| format!("hold the user namespace: {}", errno.desc()))?;
    for (name, flag) in
        [("ipc", CloneFlags::CLONE_NEWIPC), ("uts", CloneFlags::CLONE_NEWUTS), ("net", CloneFlags::CLONE_NEWNET)]
    {
        if flags.contains(flag) {
            let file = File::open(namespace(name)).map_err(|error| format!("open the {name} namespace: {error}"))?;
            setns(&file, flag).map_err(|errno| format!("join the {name} namespace: {}", errno.desc()))?;
        }
    }
    Ok(())
}

/// The child: makes what is to be made and waits for its end.
fn hold(owner: Option<OwnedFd>, flags: CloneFlags, mut parent: UnixStream) -> ! {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let user = match &owner {
        Some(owner) => setns(owner, CloneFlags::CLONE_NEWUSER),
        None => unshare(CloneFlags::CLONE_NEWUSER),
    };
    let mut tell = |outcome: nix::Result<()>| match outcome {
        Ok(()) => parent.write_all(b".").is_ok() && parent.read(&mut [0]).is_ok_and(|length| length == 1),
        Err(errno) => {
            let _ = parent.write_all(format!("make a user namespace: {}", errno.desc()).as_bytes());
            false
        }
    };
    if tell(user) {
        // Nothing answers a second time: this waits until it is killed.
        tell(unshare(flags));
    }
    // SAFETY: ends this process without running the parent's exit handlers.
    unsafe { libc::_exit(0) }
}

/// The user namespace that owns a network namespace; `None` if that is this process's own.
fn owner_of(network: &Path) -> std::io::Result<Option<OwnedFd>> {
    let file = File::open(network)?;
    // SAFETY: the descriptor is open; the call takes no argument and returns a new descriptor or -1.
    let fd = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor; nobody else owns it.
    let owner = unsafe { OwnedFd::from_raw_fd(fd) };
    let inode = |path: &str| std::fs::metadata(path).map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata));
    let own = inode("/proc/self/ns/user")?;
    let other = inode(&format!("/proc/self/fd/{}", owner.as_raw_fd()))?;
    Ok((own != other).then_some(owner))
}
