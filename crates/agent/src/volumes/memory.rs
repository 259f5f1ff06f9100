//! The memory file system that holds what must not reach a disk: Secrets and tokens. One for all pods, on the host:
//! it outlives the agent, as the containers do that have its directories mounted.

use std::{io, os::unix::fs::DirBuilderExt, path::Path};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{TMPFS_MAGIC, statfs},
};

/// Makes `dir` lie in memory unless it does already.
pub fn keep_in_memory(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if statfs(dir)?.filesystem_type() == TMPFS_MAGIC {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let with = |options: &str| mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options));
    // Kernels before 6.4 can't keep it from the swap.
    Ok(with("mode=700,noswap").or_else(|_| with("mode=700"))?)
}
