//! `subPath`: a part of a volume, found without following a link out of it, and bound where containers of one sandbox
//! can have it mounted.
//!
//! A container may change the volume at any moment. So the part is opened beneath the volume's root and the very file
//! that was opened is bound: to a path that no container can reach, in the sandbox's own mount namespace.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat},
};
use tokio::sync::oneshot;

/// A part of a volume and where it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubPath {
    /// Root of the volume.
    pub volume: PathBuf,
    /// Relative path below it; made as a directory if it does not exist.
    pub path: String,
    /// Where the containers' mounts take it from.
    pub target: PathBuf,
}

/// Binds it in the mount namespace of process `pid`.
pub async fn stage(pid: i32, wanted: SubPath) -> io::Result<()> {
    within(pid, move || bind(&wanted)).await
}

/// Takes the binds away; a container that has one mounted keeps it.
pub async fn unstage(pid: i32, wanted: Vec<SubPath>) -> io::Result<()> {
    within(pid, move || {
        for sub_path in &wanted {
            match umount2(&sub_path.target, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
            // Empty by now, or never made.
            let _ = fs::remove_file(&sub_path.target).or_else(|_| fs::remove_dir(&sub_path.target));
        }
        Ok(())
    })
    .await
}

/// Works in a mount namespace, on a thread that ends there.
pub(super) async fn within(pid: i32, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("sub-path".to_owned()).spawn(move || {
        let enter = || {
            let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
            // A thread that shares its root and working directory may not change namespaces.
            unshare(CloneFlags::CLONE_FS)?;
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
            Ok(())
        };
        let _ = sender.send(enter().and_then(|()| work()));
    })?;
    receiver.await.map_err(io::Error::other)?
}

fn bind(sub_path: &SubPath) -> io::Result<()> {
    let found = open(&sub_path.volume, &sub_path.path)?;
    let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        fs::create_dir_all(&sub_path.target)?;
    } else {
        if let Some(parent) = sub_path.target.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create(&sub_path.target)?;
    }
    // Through the descriptor: no name of the volume is looked up again.
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(Some(source.as_str()), &sub_path.target, None::<&str>, flags, None::<&str>)?)
}

/// Opens `path` beneath `volume`. What is missing is made with the mode of the volume's root.
fn open(volume: &Path, path: &str) -> io::Result<OwnedFd> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat2(AT_FDCWD, volume, OpenHow::new().flags(directory))?;
    let mode = fs::metadata(volume)?.permissions().mode() & 0o7777;
    let beneath = |path: &Path, flags: OFlag| {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        loop {
            // The kernel gives up when something was renamed meanwhile and it can't tell.
            match openat2(&root, path, how) {
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
    };
    let mut reached = PathBuf::from(".");
    for component in Path::new(path).components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let next = reached.join(name);
        match beneath(&next, OFlag::O_PATH) {
            Ok(_) => {}
            Err(Errno::ENOENT) => {
                let parent = beneath(&reached, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
                match mkdirat(&parent, name, Mode::from_bits_truncate(0o750)) {
                    Ok(()) => {
                        let made = beneath(&next, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
                        fchmod(&made, Mode::from_bits_truncate(mode))?;
                    }
                    Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        reached = next;
    }
    Ok(beneath(&reached, OFlag::O_PATH)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_part_is_found_or_made_and_no_link_leads_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("real/deep")).expect("made");
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2777)).expect("set");
        fs::write(volume.join("real/file"), "").expect("written");
        symlink("real", volume.join("inside")).expect("linked");
        symlink("/etc", volume.join("out")).expect("linked");
        symlink("../..", volume.join("real/up")).expect("linked");
        let inode = |path: &Path| fs::metadata(path).expect("there").ino();
        let found = |path: &str| open(&volume, path).map(|fd| fstat(&fd).expect("a file").st_ino);
        for (path, real) in [("real", "real"), ("inside/deep", "real/deep"), ("./inside/file", "real/file")] {
            assert_eq!(found(path).expect(path), inode(&volume.join(real)), "{path}");
        }
        let made = found("inside/new/newer").expect("made");
        assert_eq!(made, inode(&volume.join("real/new/newer")));
        assert_eq!(fs::metadata(volume.join("real/new")).expect("there").mode() & 0o7777, 0o2777);
        for path in ["..", "../x", "/etc", "out", "out/passwd", "out/made", "real/up/x", "real/file/x"] {
            assert!(found(path).is_err(), "{path}");
        }
        assert!(!Path::new("/etc/made").exists() && !dir.path().join("x").exists());
    }

    #[test]
    fn a_racing_writer_swaps_in_vain() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        let secret = dir.path().join("secret");
        fs::create_dir_all(volume.join("a")).expect("made");
        fs::create_dir(&secret).expect("made");
        symlink(&secret, volume.join("b")).expect("linked");
        let forbidden = fs::metadata(&secret).expect("there").ino();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                    let _ = nix::fcntl::renameat2(AT_FDCWD, &volume.join("a"), AT_FDCWD, &volume.join("b"), flags);
                }
            });
            for _ in 0..20_000 {
                if let Ok(fd) = open(&volume, "a") {
                    assert_ne!(fstat(&fd).expect("a file").st_ino, forbidden);
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
