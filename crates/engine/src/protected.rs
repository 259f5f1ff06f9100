//! A program that containers cannot change.
//!
//! The shim's forks enter containers before they become something else, and there `/proc/PID/exe` leads to the shim's
//! own program on the host, which a root process of the container could reopen for writing (CVE-2019-5736). A program
//! that was started from a read-only mount cannot be: so the engine starts shims from a private one, of that file alone.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::detached::{Detached, READ_ONLY};

/// A detached read-only mount of one file. It is in no mount table and goes with its last user.
#[derive(Debug)]
pub(crate) struct Protected(Detached);

impl Protected {
    pub fn new(program: &Path) -> io::Result<Self> {
        let tree = Detached::of(program, false)?;
        tree.set(READ_ONLY, false, None::<&Detached>)?;
        Ok(Self(tree))
    }

    /// A path at which this process and those it starts can execute it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
