//! What is mounted later below a bind mount: whether it shows on the other side (OCI runtime specification, config.md,
//! "Mounts"; Kubernetes' mount propagation).
//!
//! libcontainer leaves every bind mount a slave of the host's: mounts of the host show inside, never the other way. So
//! once a container's mounts stand, and before its program starts, private ones are cut off, and shared ones replaced by
//! a copy that was made on the host, which is a peer of the original.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};

use crate::detached::{Detached, READ_ONLY};
use crate::mount_table::{governing, has_source};
use crate::spec::Mount;

/// What is to be done inside once the mounts stand.
pub(super) struct Propagation<'a> {
    private: Vec<&'a Path>,
    shared: Vec<Shared<'a>>,
    /// Slaves already; only whether there is anything to receive from is to be looked at.
    slaves: Vec<&'a Mount>,
}

struct Shared<'a> {
    mount: &'a Mount,
    /// Other mounts of the container within it.
    within: Vec<&'a Path>,
}

impl<'a> Propagation<'a> {
    /// Of a container's mounts, as they were asked for.
    pub fn of(mounts: &'a [Mount]) -> Self {
        let binds = || mounts.iter().filter(|m| m.fstype == "bind" || has(m, &["bind", "rbind"]));
        let private = binds().filter(|m| has(m, &["rprivate", "private"])).map(|m| Path::new(&m.destination)).collect();
        let shared = binds().filter(|m| has(m, &["rshared", "shared"])).map(|mount| {
            let inside = |m: &&Mount| {
                m.destination != mount.destination && Path::new(&m.destination).starts_with(&mount.destination)
            };
            Shared { mount, within: mounts.iter().filter(inside).map(|m| Path::new(&m.destination)).collect() }
        });
        let slaves = binds().filter(|m| has(m, &["rslave", "slave"])).collect();
        Self { private, shared: shared.collect(), slaves }
    }

    /// Visits the mount namespaces of the host and of the container whose process is `pid`, and comes back. The caller
    /// has one thread.
    ///
    /// # Errors
    /// What the container is not to be started with.
    pub fn apply(&self, host: &File, pid: i32) -> Result<(), String> {
        if self.private.is_empty() && self.shared.is_empty() && self.slaves.is_empty() {
            return Ok(());
        }
        let open = |path: &str| File::open(path).map_err(|error| format!("open {path}: {error}"));
        let (before, inside) = (open("/proc/self/ns/mnt")?, open(&format!("/proc/{pid}/ns/mnt"))?);
        let place = open(".")?;
        let on_host = !self.shared.is_empty() || !self.slaves.is_empty();
        let trees = if on_host { enter(host).and_then(|()| self.copies()) } else { Ok(Vec::new()) };
        let outcome = trees.and_then(|trees| {
            enter(&inside)?;
            self.change(trees)
        });
        enter(&before)?;
        nix::unistd::fchdir(place.as_fd()).map_err(|error| format!("return to the directory: {error}"))?;
        outcome
    }

    /// On the host: peers of what is to be shared, once what is to receive has been found to have a source.
    fn copies(&self) -> Result<Vec<Detached>, String> {
        let table = fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("read the mounts: {error}"))?;
        for mount in &self.slaves {
            let source = fs::canonicalize(&mount.source).map_err(|error| format!("mount {}: {error}", mount.source))?;
            let (on, peers) = governing(&table, &source);
            if !has_source(&peers) {
                return Err(format!(
                    "path {:?} is mounted on {on:?} but it is not a shared or slave mount",
                    mount.source
                ));
            }
        }
        let copy = |Shared { mount, .. }: &Shared<'_>| {
            let fail = |error: io::Error| format!("mount {}: {error}", mount.source);
            let source = fs::canonicalize(&mount.source).map_err(fail)?;
            let (on, peers) = governing(&table, &source);
            if !peers.contains("shared:") {
                return Err(format!("path {:?} is mounted on {on:?} but it is not a shared mount", mount.source));
            }
            let tree = Detached::of(&source, has(mount, &["rbind"])).map_err(fail)?;
            if has(mount, &["ro", "rro"]) {
                tree.set(READ_ONLY, has(mount, &["rro"]), None::<&File>).map_err(fail)?;
            }
            Ok(tree)
        };
        self.shared.iter().map(copy).collect()
    }

    /// In the container.
    fn change(&self, trees: Vec<Detached>) -> Result<(), String> {
        for place in &self.private {
            mount(None::<&str>, *place, None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
                .map_err(|error| format!("make {} private: {error}", place.display()))?;
        }
        for (Shared { mount, within }, tree) in self.shared.iter().zip(trees) {
            let fail = |error: io::Error| format!("share {}: {error}", mount.destination);
            let kept: Vec<(&Path, Detached)> =
                within.iter().filter_map(|place| Some((*place, Detached::of(place, true).ok()?))).collect();
            let place = Path::new(&mount.destination);
            umount2(place, MntFlags::MNT_DETACH).map_err(|error| fail(error.into()))?;
            tree.attach(place).map_err(fail)?;
            for (place, tree) in kept {
                tree.attach(place).map_err(fail)?;
            }
        }
        Ok(())
    }
}

fn enter(namespace: &File) -> Result<(), String> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS).map_err(|error| format!("enter a mount namespace: {error}"))
}

fn has(mount: &Mount, options: &[&str]) -> bool {
    mount.options.iter().any(|option| options.contains(&option.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_shared_binds_are_told_from_the_rest_with_what_lies_within() {
        let bind = |destination: &str, propagation: &str| {
            let mut mount = Mount::bind("/srv", destination, false);
            mount.options[1] = propagation.to_owned();
            mount
        };
        let tmpfs = Mount { destination: "/tmp".into(), fstype: "tmpfs".into(), ..Mount::default() };
        let mounts =
            [bind("/a", "rprivate"), bind("/b", "rslave"), bind("/c", "rshared"), bind("/c/d", "rslave"), tmpfs];
        let found = Propagation::of(&mounts);
        assert_eq!(found.private, [Path::new("/a")]);
        let slaves: Vec<&str> = found.slaves.iter().map(|mount| mount.destination.as_str()).collect();
        assert_eq!(slaves, ["/b", "/c/d"]);
        assert_eq!((found.shared.len(), found.shared[0].within.as_slice()), (1, &[Path::new("/c/d")][..]));
    }
}
