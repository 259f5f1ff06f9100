//! The working directory, made where neither the image nor what is mounted has it, as runc does.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use crate::mapped::as_user;
use crate::spec::ContainerSpec;

/// Makes it, as the container's root, who is `owner` on the host. What is mounted read-only, or is not there before the
/// container is, is left as it is.
pub(super) fn make(rootfs: &Path, spec: &ContainerSpec, owner: u32) {
    let cwd = Path::new(&spec.cwd);
    let around = spec.mounts.iter().filter(|mount| {
        let destination = Path::new(&mount.destination);
        cwd.starts_with(destination) && destination != Path::new("/")
    });
    let innermost = around.max_by_key(|mount| mount.destination.len());
    let (root, inside) = match innermost {
        None => (rootfs.to_owned(), cwd),
        Some(mount) => {
            let is_bind = mount.fstype == "bind" || mount.options.iter().any(|option| option.ends_with("bind"));
            if !is_bind || mount.options.iter().any(|option| option == "ro" || option == "rro") {
                return;
            }
            let inside = cwd.strip_prefix(&mount.destination).unwrap_or(Path::new(""));
            (PathBuf::from(&mount.source), inside)
        }
    };
    let made = as_user(owner, || make_in(&root, inside)).and_then(|made| made);
    if let Err(error) = made {
        eprintln!("shim: the working directory {} was not made: {error}", spec.cwd);
    }
}

/// No symbolic link leads out of `root`.
fn make_in(root: &Path, path: &Path) -> io::Result<()> {
    let root = File::open(root)?;
    let mut parent: OwnedFd = root.as_fd().try_clone_to_owned()?;
    let mut so_far = PathBuf::new();
    for part in path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)) {
        so_far.push(part);
        let open = || {
            let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
            openat2(&root, &so_far, how.resolve(ResolveFlag::RESOLVE_IN_ROOT))
        };
        parent = match (open(), part) {
            (Err(Errno::ENOENT), Component::Normal(name)) => {
                match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                open()?
            }
            (found, _) => found?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_inside_whatever_links_lead_where() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("there")).expect("a directory");
        std::os::unix::fs::symlink("/there", at("link")).expect("a link");
        make_in(root.path(), Path::new("/link/new/deep")).expect("makes");
        assert!(at("there/new/deep").is_dir());
        make_in(root.path(), Path::new("/link/new/deep")).expect("is there");
        std::fs::write(at("file"), "").expect("a file");
        assert!(make_in(root.path(), Path::new("/file/x")).is_err());
    }
}
