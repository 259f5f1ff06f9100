//! Control groups: one seam over v1 (also in hybrid layout) and v2.

mod devices;
mod namespace_root;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::spec::Resources;

/// One cgroup, in every hierarchy that holds it. Both versions keep this contract.
pub trait Group: Send + Sync {
    /// Makes it (its parents too, with their controllers enabled) and sets its limits.
    fn create(&self, resources: &Resources) -> io::Result<()>;
    /// Sets limits; `None` fields stay.
    fn set(&self, resources: &Resources) -> io::Result<()>;
    /// Restricts which devices may be used: each rule as `c 1:3 rwm`; all others are refused. Once for a group.
    fn allow_devices(&self, rules: &[String]) -> io::Result<()>;
    /// Moves a process into it.
    fn join(&self, pid: i32) -> io::Result<()>;
    /// Its processes, those of groups below it included.
    fn processes(&self) -> Vec<i32>;
    /// Sends SIGKILL to each of its processes, once.
    fn kill(&self);
    /// Removes it and all below it; a missing one is fine. `EBUSY` while a process is still in it.
    fn remove(&self) -> io::Result<()>;
    /// Freezes or thaws it; returns when done.
    fn freeze(&self, frozen: bool) -> io::Result<()>;
    /// Whether it is frozen.
    fn frozen(&self) -> bool;
    /// Processes the kernel killed in it for want of memory.
    fn oom_kills(&self) -> u64;
    /// What it has used.
    fn stats(&self) -> io::Result<Stats>;
    /// What it has read and written, by disk; nothing where nobody counts it.
    fn disk_use(&self) -> Vec<DiskUse>;
}

/// Where the hierarchies of this machine are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    layout: Layout,
    /// Every mounted hierarchy, those without a controller of interest included.
    mounts: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    V1(v1::Mounts),
    V2(PathBuf),
    None,
}

impl Cgroups {
    /// Finds the hierarchies in `/proc/self/mounts`.
    pub fn detect() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
    }

    /// Finds the hierarchies in text of the form of `/proc/self/mounts`.
    pub fn parse(mounts: &str) -> Self {
        let mut v1 = v1::Mounts::default();
        let mut v2 = None;
        let mut all: Vec<PathBuf> = Vec::new();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(target), Some(fstype), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let target = PathBuf::from(target);
            match fstype {
                "cgroup" if !all.contains(&target) => {
                    v1.add(&target, options);
                    all.push(target);
                }
                "cgroup2" if !all.contains(&target) => {
                    v2.get_or_insert_with(|| target.clone());
                    all.push(target);
                }
                _ => {}
            }
        }
        let layout = match v2 {
            _ if v1.has_controllers() => Layout::V1(v1),
            Some(mount) => Layout::V2(mount),
            None => Layout::None,
        };
        Self { layout, mounts: all }
    }

    /// Whether the controllers are on v2.
    pub fn is_v2(&self) -> bool {
        matches!(self.layout, Layout::V2(_))
    }

    /// The group at `path` below every hierarchy's root.
    pub fn group(&self, path: impl AsRef<Path>) -> Box<dyn Group> {
        let path = path.as_ref();
        match &self.layout {
            Layout::V1(mounts) => Box::new(v1::V1Group::new(mounts, path)),
            Layout::V2(mount) => Box::new(v2::V2Group::new(mount, path)),
            Layout::None => Box::new(v1::V1Group::new(&v1::Mounts::default(), path)),
        }
    }

    /// Where the group at `path` is in each hierarchy of v1 that has it: mount point and directory. None on v2.
    pub fn directories(&self, path: &Path) -> Vec<(&Path, PathBuf)> {
        if !matches!(self.layout, Layout::V1(_)) {
            return Vec::new();
        }
        let directories = self.mounts.iter().map(|mount| (mount.as_path(), mount.join(path)));
        directories.filter(|(_, directory)| directory.is_dir()).collect()
    }

    /// Moves the calling process into `path` in every hierarchy, so that it no longer belongs to the group it was
    /// started in. Failures are returned only if no hierarchy accepted it.
    pub fn leave_for(&self, path: &Path) -> io::Result<()> {
        let mut result = Err(io::Error::from(io::ErrorKind::Unsupported));
        for mount in &self.mounts {
            let directory = mount.join(path);
            let step = fs::create_dir_all(&directory)
                .and_then(|()| v1::inherit_cpuset(&directory))
                .and_then(|()| fs::write(directory.join("cgroup.procs"), "0"));
            match step {
                Ok(()) => result = Ok(()),
                Err(error) if result.is_err() => result = Err(error),
                Err(_) => {}
            }
        }
        result
    }

    /// Removes `path` and everything below it from every hierarchy, waiting up to `patience` for processes to end.
    pub fn purge(&self, path: &Path, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        for mount in &self.mounts {
            remove_tree(&mount.join(path), deadline)?;
        }
        Ok(())
    }

    /// Gives back what [`Group::create`] had to change outside the groups it made, if nobody needs it any more.
    pub fn restore(&self) {
        if let Layout::V2(mount) = &self.layout {
            namespace_root::restore(mount);
        }
    }

    /// What a limit in the group at `path`, which exists, would not do: controllers that the group lacks.
    pub fn missing_controllers(&self, path: &Path) -> Vec<&'static str> {
        let present = |name: &str| match &self.layout {
            Layout::V1(mounts) => mounts.has(name),
            Layout::V2(mount) => read(&mount.join(path), "cgroup.controllers")
                .is_ok_and(|text| text.split_whitespace().any(|word| word == name)),
            Layout::None => false,
        };
        ["cpu", "memory", "pids"].into_iter().filter(|name| !present(name)).collect()
    }
}

/// Removes a cgroup directory and those below it. The kernel refuses one in which a process is still ending, so
/// this tries again until the deadline.
pub(crate) fn remove_tree(directory: &Path, deadline: Instant) -> io::Result<()> {
    for child in children(directory) {
        remove_tree(&child, deadline)?;
    }
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

/// The processes of a directory and all below it.
fn processes_below(directory: &Path, found: &mut Vec<i32>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(directory) {
        processes_below(&child, found);
    }
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        // 0 stands for a process of another PID namespace; a signal to it would go to this process's own group.
        if *pid > 0 {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Writes a control file, naming it in the error.
fn write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("write {value:?} to {}: {error}", path.display())))
}

fn read(directory: &Path, file: &str) -> io::Result<String> {
    fs::read_to_string(directory.join(file))
}

/// A number in a file; 0 when it is missing, `None` for `max`.
fn number(directory: &Path, file: &str) -> Option<u64> {
    match read(directory, file) {
        Ok(text) => text.trim().parse().ok(),
        Err(_) => Some(0),
    }
}

/// The value of `key` in a file of `key value` lines; 0 when missing.
fn keyed(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// What a cgroup has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// When it was read.
    pub at: SystemTime,
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: u64,
    /// Their limit.
    pub pids_limit: Option<u64>,
}

/// Processor time used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// All, in ns.
    pub usage: u64,
    /// In user mode, in ns.
    pub user: u64,
    /// In the kernel, in ns.
    pub system: u64,
    /// Periods of the quota that ran.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent throttled, in ns.
    pub throttled: u64,
}

/// What was read from a disk and written to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// The device's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
    /// Bytes.
    pub read_bytes: u64,
    /// Bytes.
    pub written_bytes: u64,
    /// Operations.
    pub reads: u64,
    /// Operations.
    pub writes: u64,
}

impl DiskUse {
    fn of(device: &str) -> Option<Self> {
        let (major, minor) = device.split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()?, ..Self::default() })
    }
}

/// Memory used, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// All that is charged, page cache included.
    pub usage: u64,
    /// `usage` less inactive file pages: what Kubernetes calls the working set.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// The limit, if any.
    pub limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from disk.
    pub major_page_faults: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// Page cache.
    #[serde(default)]
    pub cache: u64,
    /// Files that are mapped.
    #[serde(default)]
    pub mapped_file: u64,
    /// What is swapped out.
    #[serde(default)]
    pub swap: u64,
    /// The most that `usage` ever was, where the kernel tells.
    #[serde(default)]
    pub peak: u64,
    /// How often the limit was hit.
    #[serde(default)]
    pub limit_hits: u64,
}
