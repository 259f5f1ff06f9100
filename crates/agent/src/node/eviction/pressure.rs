//! The kernel's own word that memory is getting short, so that the next look need not wait for its time.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
};

use tokio::io::{Interest, unix::AsyncFd};

/// Told when some task was stalled for 150 ms of a second (`Documentation/accounting/psi.rst`).
const TRIGGER: &[u8] = b"some 150000 1000000\0";

/// An alarm that is ready for `PRIORITY` when it sounds; `None` where the kernel has none.
pub fn alarm() -> Option<AsyncFd<File>> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/proc/pressure/memory").ok()?;
    file.write_all(TRIGGER).ok()?;
    // SAFETY: the descriptor is the file's, which the `AsyncFd` owns from here on.
    unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }.ok()
}
