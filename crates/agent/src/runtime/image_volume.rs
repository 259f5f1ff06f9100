//! Volumes of images: what is in an image, to be read by the containers of one sandbox.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::sub_path::within;

/// Mounts them in the mount namespace of process `pid`, unless something is mounted there.
pub async fn stage(pid: i32, layers: Vec<PathBuf>, target: PathBuf) -> io::Result<()> {
    within(pid, move || {
        if mounted(&fs::read_to_string("/proc/thread-self/mountinfo")?, &target) {
            return Ok(());
        }
        engine::mount_read_only(&layers, &target)
    })
    .await
}

/// Whether a table of mounts (proc_pid_mountinfo(5)) has one at `path`.
fn mounted(table: &str, path: &Path) -> bool {
    let path = path.to_string_lossy();
    let path = path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|target| target == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_path_as_the_kernel_writes_it() {
        let table =
            "36 35 98:0 / / rw - ext4 /dev/vda rw\n41 36 0:33 / /my\\040data/v ro,relatime - overlay overlay ro\n";
        assert!(mounted(table, Path::new("/my data/v")));
        assert!(!mounted(table, Path::new("/my data")) && !mounted(table, Path::new("/my data/v/w")));
    }
}
