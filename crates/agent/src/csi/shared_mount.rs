//! The pods' directory as a shared mount, so that what a driver mounts in it arrives in the pods' mount namespaces.

use std::{fs, io, path::Path};

use nix::mount::{MsFlags, mount};

/// Makes it one, unless it or what it lies on is shared.
pub fn ensure(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    if is_shared(&fs::read_to_string("/proc/self/mountinfo")?, &directory) {
        return Ok(());
    }
    let none = None::<&str>;
    mount(Some(&directory), &directory, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    mount(none, &directory, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)?;
    Ok(())
}

/// Whether the mount that holds the directory is shared (`proc_pid_mountinfo(5)`); the last one there counts.
fn is_shared(table: &str, directory: &Path) -> bool {
    let mut best: Option<(usize, bool)> = None;
    for line in table.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4).map(Path::new).filter(|point| directory.starts_with(point)) else { continue };
        let shared = fields.skip(1).take_while(|f| *f != "-").any(|f| f.starts_with("shared:"));
        let depth = point.components().count();
        if best.is_none_or(|(deepest, _)| depth >= deepest) {
            best = Some((depth, shared));
        }
    }
    best.is_some_and(|(_, shared)| shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_decides() {
        let table = "22 1 8:1 / / rw - ext4 /dev/vda rw\n30 22 8:1 /d /data rw shared:7 master:1 - ext4 /dev/vda rw\n";
        assert!(is_shared(table, Path::new("/data/pods")));
        assert!(!is_shared(table, Path::new("/database/pods")));
    }
}
