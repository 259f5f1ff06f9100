//! What a container uses beyond CPU and memory as a whole: looked at only when someone asks for all of it.

use std::{fs, path::Path};

use engine::{
    Sandbox,
    cgroup::{CpuStats, DiskUse, MemoryStats},
};

/// All that cgroups and `/proc` tell of a container.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Disks that it has used, by their names (`/dev/NAME`; empty if one has none).
    pub disks: Vec<(String, DiskUse)>,
    /// Threads, and how many there may be.
    pub threads: (u64, Option<u64>),
    /// Its processes.
    pub processes: Processes,
}

/// What the processes of a container have open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// How many there are.
    pub count: u64,
    /// File descriptors.
    pub files: u64,
    /// Those of them that are sockets.
    pub sockets: u64,
    /// How many files the first of them may have open; `None` if it has gone or there is no limit.
    pub most_files: Option<u64>,
}

/// Reads it; `None` if the container has gone.
pub(super) async fn of(sandbox: &Sandbox, container: &str) -> Option<Detail> {
    let stats = sandbox.stats(container).await.ok()?;
    let disks = sandbox.disk_use(container).await.unwrap_or_default();
    let disks = disks.into_iter().map(|disk| (device_name(disk.major, disk.minor), disk)).collect();
    let pids = sandbox.processes(container).await.unwrap_or_default();
    let processes = tokio::task::spawn_blocking(move || look_at(Path::new("/proc"), &pids)).await.unwrap_or_default();
    Some(Detail { cpu: stats.cpu, memory: stats.memory, disks, threads: (stats.pids, stats.pids_limit), processes })
}

fn device_name(major: u32, minor: u32) -> String {
    let told = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    told.lines().find_map(|l| l.strip_prefix("DEVNAME=")).map_or_else(String::new, |name| format!("/dev/{name}"))
}

/// Processes that go meanwhile are left out.
fn look_at(proc: &Path, pids: &[i32]) -> Processes {
    let mut found = Processes { count: pids.len() as u64, ..Processes::default() };
    for pid in pids {
        let Ok(files) = fs::read_dir(proc.join(pid.to_string()).join("fd")) else { continue };
        for file in files.flatten() {
            found.files += 1;
            let target = fs::read_link(file.path()).unwrap_or_default();
            found.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    let first = pids.iter().min().and_then(|pid| fs::read_to_string(proc.join(pid.to_string()).join("limits")).ok());
    let soft = |text: &str| {
        text.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
    };
    found.most_files = first.and_then(|text| soft(&text));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_and_sockets_are_counted_of_those_that_still_run() {
        let proc = tempfile::tempdir().expect("a directory");
        let open = proc.path().join("7/fd");
        fs::create_dir_all(&open).expect("made");
        for (number, target) in [("0", "/dev/null"), ("1", "pipe:[5]"), ("2", "socket:[6]")] {
            std::os::unix::fs::symlink(target, open.join(number)).expect("linked");
        }
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096     files\n";
        fs::write(proc.path().join("7/limits"), limits).expect("written");
        let seen = look_at(proc.path(), &[9, 7]);
        assert_eq!(seen, Processes { count: 2, files: 3, sockets: 1, most_files: Some(1024) });
    }
}
