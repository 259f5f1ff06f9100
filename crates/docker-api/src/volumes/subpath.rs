//! A part of a volume (`volume-subpath`), found and mounted without leaving the volume, whatever links its users make in
//! it meanwhile.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{ApiError, Result};

/// Whether a path is one within a volume, by its words.
pub(crate) fn is_inside(subpath: &str) -> bool {
    let mut depth = 0;
    for part in Path::new(subpath).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

/// Opens a part of a volume.
pub(crate) fn open(volume: &Path, subpath: &str) -> Result<File> {
    let path = volume.join(subpath);
    let root = File::open(volume)?;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH);
    match openat2(&root, Path::new(subpath), how) {
        Ok(found) => Ok(File::from(found)),
        Err(nix::Error::EXDEV | nix::Error::ELOOP) => Err(ApiError::bad(format!(
            "path concatenation escapes the base directory, base: {}, subpath: {subpath}",
            volume.display()
        ))),
        Err(errno) => {
            let (path, why) = (path.display(), errno.desc().to_lowercase());
            Err(ApiError::not_found(format!("cannot access path {path}: lstat {path}: {why}")))
        }
    }
}

/// Images and parts of volumes, mounted where nobody else reaches them; unmounted when dropped. Who mounted them on meanwhile keeps
/// them.
#[derive(Default)]
pub(crate) struct Held(Vec<PathBuf>);

impl Held {
    /// Mounts something at a place of the caller's.
    pub fn hold(&mut self, target: &Path, mount: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.0.push(target.to_owned());
        mount(target)
    }

    /// Mounts a part in a directory of the caller's, and answers where.
    pub fn mount(&mut self, directory: &Path, volume: &Path, subpath: &str) -> Result<PathBuf> {
        let part = open(volume, subpath)?;
        fs::create_dir_all(directory)?;
        let target = directory.join(format!("part-{}", self.0.len()));
        match part.metadata()?.is_dir() {
            true => fs::create_dir_all(&target)?,
            false => drop(File::options().create(true).append(true).open(&target)?),
        }
        let source = format!("/proc/self/fd/{}", part.as_raw_fd());
        mount(Some(source.as_str()), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(io::Error::from)?;
        self.0.push(target.clone());
        Ok(target)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.iter().for_each(|target| release(target));
    }
}

/// Takes away what [`Held`] of a process that was killed has left in its directory.
pub(crate) fn clear(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        release(&entry.path());
    }
    let _ = fs::remove_dir(directory);
}

fn release(target: &Path) {
    let _ = umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    // Empty, or something is still mounted there that must not be emptied.
    let _ = fs::remove_dir(target);
    let _ = fs::remove_file(target);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_part_is_named_by_a_path_that_stays_inside() {
        for (path, inside) in
            [("a/b", true), ("./a/../b", true), ("a/..", true), ("/a", false), ("..", false), ("a/../../b", false)]
        {
            assert_eq!(is_inside(path), inside, "{path}");
        }
    }

    #[test]
    fn links_that_lead_out_of_the_volume_are_not_followed() {
        let volume = tempfile::tempdir().unwrap();
        let at = |name: &str| volume.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        symlink("a", at("inside")).unwrap();
        symlink("/etc", at("outside")).unwrap();
        symlink("../..", at("a/up")).unwrap();
        assert!(open(volume.path(), "a/b").is_ok());
        assert!(open(volume.path(), "inside/b").is_ok());
        for path in ["outside", "outside/passwd", "a/up"] {
            assert!(open(volume.path(), path).unwrap_err().message.contains("escapes the base directory"), "{path}");
        }
        let missing = open(volume.path(), "c").unwrap_err().message;
        assert!(missing.ends_with("/c: no such file or directory"), "{missing}");
    }
}
