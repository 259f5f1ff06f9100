//! Working on the files of a container, running or not, as it sees them.
//!
//! A thread of its own changes its root to the container's, so that every path and every symbolic link, whatever the
//! container makes of them meanwhile, ends inside. The files of a container that does not run are mounted in a mount
//! namespace of that thread's own, which goes with it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::record::Record;
use super::table::Container;
use super::{shown, start};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::volumes::subpath;

/// Runs `work` with the container's root as `/`, its volumes in their places. The container must not be started
/// meanwhile: hold its turn unless it runs.
pub(super) fn within<T: Send>(
    daemon: &Daemon,
    container: &Container,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let record = container.snapshot();
    aside(daemon, |scratch| {
        match record.state.status.is_live() {
            true => enter_running(&record)?,
            false => enter_stopped(daemon, &record, true, scratch)?,
        }
        work()
    })
}

/// Runs `work` on a thread of its own, with an empty directory that goes afterwards: what the thread mounted on it was in a
/// namespace that went before.
fn aside<T: Send>(daemon: &Daemon, work: impl FnOnce(&Path) -> Result<T> + Send) -> Result<T> {
    let scratch = tempfile::tempdir_in(daemon.scratch())?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("container-root".into());
        let inside = thread.spawn_scoped(scope, || work(scratch.path()))?;
        inside.join().unwrap_or_else(|_| Err(ApiError::internal("defect: the work in a container's root panicked")))
    })
}

/// Runs `work` with the container's layers alone as `/`: without volumes and the kernel's file systems. May be used while
/// it runs.
pub(super) fn layers_of<T: Send>(
    daemon: &Daemon,
    container: &Container,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let record = container.snapshot();
    aside(daemon, |scratch| {
        enter_layers(daemon, &record, scratch)?;
        work()
    })
}

/// A read-only view: the writable layer is just the topmost of the layers.
fn enter_layers(daemon: &Daemon, record: &Record, scratch: &Path) -> Result<()> {
    let snapshot = daemon.config.content.snapshot(&record.id);
    let snapshot = snapshot.ok_or_else(|| ApiError::internal("the container's layer is missing"))?;
    let mut lower = vec![snapshot.upper.clone()];
    lower.extend(start::layers(daemon, &snapshot));
    for directory in ["root", "upper", "work"] {
        fs::create_dir(scratch.join(directory))?;
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).map_err(io::Error::from)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).map_err(io::Error::from)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| scratch.join(name));
    engine::mount_overlay(&lower, &upper, &work, &root, true)?;
    Ok(enter(&root)?)
}

fn enter_running(record: &Record) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    enter(Path::new(&format!("/proc/{}/root", record.state.pid)))
}

/// With `all`, what is mounted in it is in its place, too: volumes, and the files that the engine writes.
fn enter_stopped(daemon: &Daemon, record: &Record, all: bool, root: &Path) -> Result<()> {
    let snapshot = daemon.config.content.snapshot(&record.id);
    let snapshot = snapshot.ok_or_else(|| ApiError::internal("the container's layer is missing"))?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).map_err(io::Error::from)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).map_err(io::Error::from)?;
    engine::mount_overlay(&start::layers(daemon, &snapshot), &snapshot.upper, &snapshot.work, root, false)?;
    let directory = daemon.config.data_dir.join("containers").join(&record.id);
    for file in ["hosts", "hostname", "resolv.conf"].into_iter().filter(|_| all) {
        let source = directory.join(file);
        if source.exists() {
            bind(&source, root, &format!("/etc/{file}"));
        }
    }
    for mount_point in record.mounts.iter().filter(|mount| all && mount.kind != "tmpfs") {
        let source = Path::new(&mount_point.source);
        if mount_point.kind == "image" {
            shown::mount(daemon, record, &mount_point.destination, source)?;
        }
        match record.subpath(&mount_point.destination) {
            None => bind(source, root, &mount_point.destination),
            Some(part) => {
                if let Ok(part) = subpath::open(source, part) {
                    bind(Path::new(&format!("/proc/self/fd/{}", part.as_raw_fd())), root, &mount_point.destination);
                }
            }
        }
    }
    enter(root)?;
    // A start would make it, and dockerd does at once.
    if all && !record.options.working_dir.is_empty() && record.state.started_at == crate::time::NEVER {
        let _ = fs::create_dir_all(&record.options.working_dir);
    }
    Ok(())
}

/// Binds a path of the host on one below the root; a failure leaves the mount out, as does a symbolic link on the way.
fn bind(source: &Path, root: &Path, destination: &str) {
    let mut target = root.to_owned();
    for part in destination.split('/').filter(|part| !part.is_empty()) {
        target.push(part);
        if target.is_symlink() {
            return;
        }
    }
    let _ = match source.is_dir() {
        true => fs::create_dir_all(&target),
        false => fs::File::options().create(true).append(true).open(&target).map(drop),
    };
    let none = None::<&str>;
    if let Err(errno) = mount(Some(source), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none) {
        tracing::debug!(destination, %errno, "a volume is not in its place");
    }
}

fn enter(root: &Path) -> io::Result<()> {
    nix::unistd::chroot(root)?;
    std::env::set_current_dir("/")
}

/// Copies a directory of the container's image (its volumes aside) to a directory of the host.
pub(super) fn copy_out(daemon: &Daemon, container: &Container, from: &Path, to: &Path) -> Result<()> {
    let record = container.snapshot();
    let spool = tempfile::tempfile_in(daemon.scratch())?;
    let writer = spool.try_clone()?;
    let metadata = aside(daemon, |scratch| {
        enter_stopped(daemon, &record, false, scratch)?;
        let metadata = fs::metadata(from)?;
        let mut tar = super::tarball::Tarball::new(io::BufWriter::new(writer));
        tar.tree(from, Path::new("."))?;
        tar.finish()?;
        Ok(metadata)
    })?;
    // An archive's own top is not unpacked: who may write there is the image's choice, too.
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, metadata.permissions())?;
    let mut spool = spool;
    io::Seek::rewind(&mut spool)?;
    super::tarball::unpack(io::BufReader::new(spool), to)?;
    Ok(())
}
