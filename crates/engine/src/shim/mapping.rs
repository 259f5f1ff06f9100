//! What a container with mapped ids is given to mount: a root file system and volumes on which the ids are mapped, at
//! places that nobody of the host's users, as whom the container acts, needs a right to reach.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::create::Order;
use crate::mapped;
use crate::overlay::Layers;
use crate::spec::{IdRange, Mount, Rootfs};

/// The option of a mount that is to be mapped.
pub(super) const IDMAP: &str = "idmap";

/// The mapping, and where mapped mounts are made.
pub(super) struct Mapped {
    pub ids: IdRange,
    /// The user namespace's file.
    pub users: PathBuf,
    /// `run_dir/mapped/SANDBOX/CONTAINER`.
    directory: PathBuf,
}

impl Mapped {
    pub fn new(order: &Order<'_>, ids: IdRange) -> Self {
        let directory = order.directory.mapped().join(order.container);
        Self { ids, users: order.directory.users(), directory }
    }

    /// Mounts the root file system; answers where.
    pub fn rootfs(&self, rootfs: &Rootfs) -> io::Result<PathBuf> {
        let users = File::open(&self.users)?;
        let target = self.directory.join("rootfs");
        match rootfs {
            Rootfs::Path(path) => mapped::bind(path, &target, true, Some(&users))?,
            Rootfs::Overlay { lower, upper, work, volatile } => {
                for directory in [upper, work, &target] {
                    fs::create_dir_all(directory)?;
                }
                let stage = self.directory.join("layers");
                mapped::mount_overlay(
                    &Layers { lower, upper, work, volatile: *volatile },
                    &target,
                    &stage,
                    &users,
                    self.ids.first,
                )?;
            }
        }
        Ok(target)
    }

    /// A PID namespace to join, at a path that can be opened from inside the user namespace.
    pub fn pid_namespace(&self, path: &str) -> io::Result<String> {
        fs::create_dir_all(&self.directory)?;
        let target = self.directory.join("pid");
        File::create(&target)?;
        mount(Some(path), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Puts mounts of these in the place of their sources, mapped where that is asked for.
    pub fn binds(&self, mounts: &mut [Mount]) -> Result<(), String> {
        let users = File::open(&self.users).map_err(|error| format!("open the user namespace: {error}"))?;
        for (index, mount) in mounts.iter_mut().enumerate() {
            let recursive = mount.options.iter().any(|option| option == "rbind");
            let is_bind = recursive || mount.fstype == "bind" || mount.options.iter().any(|option| option == "bind");
            let wanted = mount.options.iter().any(|option| option == IDMAP);
            mount.options.retain(|option| option != IDMAP);
            if !is_bind {
                continue;
            }
            let target = self.directory.join("mounts").join(index.to_string());
            mapped::bind(Path::new(&mount.source), &target, recursive, wanted.then_some(&users))
                .map_err(|error| format!("mount {}: {error}", mount.source))?;
            mount.options.extend(locked(&target, &mount.options));
            mount.source = target.to_string_lossy().into_owned();
        }
        Ok(())
    }
}

/// What a mount has and who is in another user namespace may not take from it: a bind that left these out would be
/// refused.
fn locked(target: &Path, given: &[String]) -> Vec<String> {
    let flags = statvfs(target).map(|stat| stat.flags()).unwrap_or(FsFlags::empty());
    let names = [
        (FsFlags::ST_RDONLY, "ro"),
        (FsFlags::ST_NOSUID, "nosuid"),
        (FsFlags::ST_NODEV, "nodev"),
        (FsFlags::ST_NOEXEC, "noexec"),
        (FsFlags::ST_NOATIME, "noatime"),
        (FsFlags::ST_NODIRATIME, "nodiratime"),
    ];
    let has = |name: &str| given.iter().any(|option| option == name);
    names
        .iter()
        .filter(|(flag, name)| flags.contains(*flag) && !has(name))
        .map(|(_, name)| (*name).to_owned())
        .collect()
}
