//! Short-lived forks, and how they report.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use super::protocol::{self, Failure};

/// What a worker made, or why not. A terminal's master comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub result: Result<i32, Failure>,
}

/// Forks a worker that does `work` and reports; returns its process id and the socket it reports on.
///
/// The worker keeps only the descriptors named, so that no container holds another's pipes open.
pub(super) fn worker(
    keep: &[RawFd],
    work: impl FnOnce() -> Result<(i32, Option<OwnedFd>), Failure>,
) -> io::Result<(i32, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    // SAFETY: the shim has one thread, so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok((child.as_raw(), ours)),
        ForkResult::Child => {
            let mut keep = keep.to_vec();
            keep.extend([0, 1, 2, theirs.as_raw_fd()]);
            std::mem::forget(ours);
            close_all_but(keep);
            let (result, fd) = match work() {
                Ok((pid, fd)) => (Ok(pid), fd),
                Err(failure) => (Err(failure), None),
            };
            let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
            let text = serde_json::to_vec(&Report { result }).unwrap_or_default();
            let _ = protocol::send(theirs.as_fd(), &text, &fds);
            // SAFETY: ends this process without running the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Closes every descriptor but these.
pub(super) fn close_all_but(mut keep: Vec<RawFd>) {
    keep.sort_unstable();
    keep.dedup();
    let mut from = 0;
    for fd in keep.into_iter().map(|fd| fd as libc::c_uint).chain([libc::c_uint::MAX]) {
        if from < fd {
            // SAFETY: the owners of these descriptors are never used again in this process.
            unsafe { libc::close_range(from, fd - 1, 0) };
        }
        from = fd.saturating_add(1);
    }
}
