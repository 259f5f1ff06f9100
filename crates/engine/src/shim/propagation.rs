//! What is mounted later below a bind mount: whether it shows on the other side (OCI runtime specification, config.md,
//! "Mounts"; Kubernetes' mount propagation).
//!
//! libcontainer leaves every bind mount a slave of the host's: mounts of the host show inside, never the other way. So
//! once a container's mounts stand, and before its program starts, private ones are cut off, and shared ones replaced by
//! a copy that was made on the host, which is a peer of the original.
//!
//! A bind mount at `/dev` comes as late, whatever its propagation: libcontainer makes device nodes and links in what is
//! mounted there, where runc leaves a directory of the host's as it is. So it works on a `/dev` of the container's own
//! ([`held_back`]), which the other then replaces.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};

use crate::detached::{Detached, READ_ONLY};
use crate::mount_table::{governing, has_source};
use crate::spec::Mount;

/// Where devices are.
const DEVICES: &str = "/dev";
/// What stays of the container's own devices when a mount replaces them: its terminal.
const TERMINAL: [&str; 2] = ["/dev/pts", "/dev/console"];

/// Whether libcontainer is not to see a mount, because it comes when the others stand.
pub(super) fn held_back(mount: &Mount) -> bool {
    is_bind(mount) && mount.destination == DEVICES
}

fn is_bind(mount: &Mount) -> bool {
    mount.fstype == "bind" || has(mount, &["bind", "rbind"])
}

/// What is to be done inside once the mounts stand.
pub(super) struct Propagation<'a> {
    private: Vec<&'a Path>,
    shared: Vec<Shared<'a>>,
    /// At `/dev`, whether or not shared.
    devices: Option<Shared<'a>>,
    /// Slaves already; only whether there is anything to receive from is to be looked at.
    slaves: Vec<&'a Mount>,
}

struct Shared<'a> {
    mount: &'a Mount,
    /// Other mounts of the container within it.
    within: Vec<&'a Path>,
}

impl<'a> Propagation<'a> {
    /// Of a container's mounts, as they were asked for; with `tty` it has a terminal.
    pub fn of(mounts: &'a [Mount], tty: bool) -> Self {
        let binds = || mounts.iter().filter(|m| is_bind(m));
        let private = binds().filter(|m| has(m, &["rprivate", "private"])).map(|m| Path::new(&m.destination)).collect();
        let late = |mount: &'a Mount| {
            let inside = |m: &&Mount| {
                m.destination != mount.destination && Path::new(&m.destination).starts_with(&mount.destination)
            };
            Shared { mount, within: mounts.iter().filter(inside).map(|m| Path::new(&m.destination)).collect() }
        };
        let shared = binds().filter(|m| has(m, &["rshared", "shared"]) && !held_back(m)).map(late).collect();
        let devices = mounts.iter().find(|m| held_back(m)).map(|mount| {
            let mut late = late(mount);
            late.within.extend(TERMINAL.iter().filter(|_| tty).map(Path::new));
            late
        });
        let slaves = binds().filter(|m| has(m, &["rslave", "slave"])).collect();
        Self { private, shared, devices, slaves }
    }

    /// Mounts to put where others are.
    fn late(&self) -> impl Iterator<Item = &Shared<'a>> {
        self.devices.iter().chain(&self.shared)
    }

    /// Visits the mount namespaces of the host and of the container whose process is `pid`, and comes back. The caller
    /// has one thread.
    ///
    /// # Errors
    /// What the container is not to be started with.
    pub fn apply(&self, host: &File, pid: i32) -> Result<(), String> {
        if self.private.is_empty() && self.late().next().is_none() && self.slaves.is_empty() {
            return Ok(());
        }
        let open = |path: &str| File::open(path).map_err(|error| format!("open {path}: {error}"));
        let (before, inside) = (open("/proc/self/ns/mnt")?, open(&format!("/proc/{pid}/ns/mnt"))?);
        let place = open(".")?;
        let on_host = self.late().next().is_some() || !self.slaves.is_empty();
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
            if has(mount, &["rshared", "shared"]) && !peers.contains("shared:") {
                return Err(format!("path {:?} is mounted on {on:?} but it is not a shared mount", mount.source));
            }
            let tree = Detached::of(&source, has(mount, &["rbind"])).map_err(fail)?;
            if has(mount, &["ro", "rro"]) {
                tree.set(READ_ONLY, has(mount, &["rro"]), None::<&File>).map_err(fail)?;
            }
            Ok(tree)
        };
        self.late().map(copy).collect()
    }

    /// In the container.
    fn change(&self, trees: Vec<Detached>) -> Result<(), String> {
        for (Shared { mount, within }, tree) in self.late().zip(trees) {
            let fail = |error: io::Error| format!("mount {}: {error}", mount.destination);
            let kept: Vec<(&Path, bool, Detached)> = within
                .iter()
                .filter_map(|place| Some((*place, place.is_dir(), Detached::of(place, true).ok()?)))
                .collect();
            let place = Path::new(&mount.destination);
            umount2(place, MntFlags::MNT_DETACH).map_err(|error| fail(error.into()))?;
            tree.attach(place).map_err(fail)?;
            if !has(mount, &["rshared", "shared"]) {
                spread(place, MsFlags::MS_SLAVE)?;
            }
            for (place, directory, tree) in kept {
                // As runc makes what is mounted on, on the host too; where it may not, the mount tells.
                match directory {
                    _ if place.exists() => {}
                    true => drop(fs::create_dir_all(place)),
                    false => drop(File::create(place)),
                }
                tree.attach(place).map_err(fail)?;
            }
        }
        self.private.iter().try_for_each(|place| spread(place, MsFlags::MS_PRIVATE))
    }
}

/// Sets the propagation of a mount and of all below it.
fn spread(place: &Path, propagation: MsFlags) -> Result<(), String> {
    mount(None::<&str>, place, None::<&str>, propagation | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| format!("make {} {propagation:?}: {error}", place.display()))
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
        let found = Propagation::of(&mounts, false);
        assert_eq!(found.private, [Path::new("/a")]);
        let slaves: Vec<&str> = found.slaves.iter().map(|mount| mount.destination.as_str()).collect();
        assert_eq!(slaves, ["/b", "/c/d"]);
        assert_eq!((found.shared.len(), found.shared[0].within.as_slice()), (1, &[Path::new("/c/d")][..]));
        assert!(found.devices.is_none());
    }

    #[test]
    fn a_bind_at_dev_comes_when_the_others_stand_and_leaves_a_terminal_its_devices() {
        let mounts = [Mount::bind("/dev", "/dev", false), Mount::bind("/srv", "/dev/srv", false)];
        assert_eq!(mounts.iter().map(held_back).collect::<Vec<_>>(), [true, false]);
        let within = |tty| Propagation::of(&mounts, tty).devices.map(|late| late.within).unwrap_or_default();
        assert_eq!(within(false), [Path::new("/dev/srv")]);
        assert_eq!(within(true), ["/dev/srv", "/dev/pts", "/dev/console"].map(Path::new));
        let tmpfs = Mount { destination: "/dev".into(), fstype: "tmpfs".into(), ..Mount::default() };
        assert!(!held_back(&tmpfs));
    }
}
