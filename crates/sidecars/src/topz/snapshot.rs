//! All processes at one moment, and what lies between two moments.

use std::{collections::HashMap, fs, io, path::PathBuf, time::Instant};

use serde::Serialize;

use super::{
    groups::{Limits, limits},
    process::{Process, read},
};

/// Where the kernel tells of processes and groups.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys/fs/cgroup`.
    pub groups: PathBuf,
}

/// All processes at one moment.
pub struct Snapshot {
    /// When.
    pub at: Instant,
    /// The processes.
    pub processes: Vec<Process>,
}

/// A process as it is told to people and programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent_pid: i32,
    /// The effective user's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// `R` running, `S` sleeping, `D` waiting for a disk, `Z` dead and not yet collected, `T` stopped.
    pub state: char,
    /// Its name.
    pub name: String,
    /// Its command line.
    pub command: String,
    /// Threads.
    pub threads: u64,
    /// Of one processor, in percent, since the last moment.
    pub cpu_percent: f64,
    /// Processor time used since it began, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Resident memory in percent of its limit, or of the machine's.
    pub memory_percent: f64,
    /// Seconds since it began.
    pub age_seconds: f64,
    /// The limits of its control group that can be seen from here.
    pub limits: Limits,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Processors.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Memory that is still to be had, in bytes.
    pub memory_available_bytes: u64,
    /// Load over 1, 5 and 15 minutes.
    pub load: Vec<f64>,
}

impl Host {
    /// All processes now.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn snapshot(&self) -> io::Result<Snapshot> {
        let at = Instant::now();
        let numbered = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let processes = fs::read_dir(&self.proc)?
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(numbered))
            .filter_map(|entry| read(&entry.path()))
            .collect();
        Ok(Snapshot { at, processes })
    }

    /// The machine now.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let memory = fs::read_to_string(self.proc.join("meminfo")).unwrap_or_default();
        let of = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        let load = fs::read_to_string(self.proc.join("loadavg")).unwrap_or_default();
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: of("MemTotal"),
            memory_available_bytes: of("MemAvailable"),
            load: load.split_ascii_whitespace().take(3).filter_map(|number| number.parse().ok()).collect(),
        }
    }

    /// What lies between two moments.
    #[must_use]
    pub fn rows(&self, before: &Snapshot, now: &Snapshot) -> Vec<Row> {
        let ticks = number(nix::unistd::SysconfVar::CLK_TCK, 100.0);
        let page = number(nix::unistd::SysconfVar::PAGE_SIZE, 4096.0) as u64;
        let uptime = fs::read_to_string(self.proc.join("uptime")).unwrap_or_default();
        let uptime: f64 = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
        let all = self.machine().memory_bytes;
        let elapsed = now.at.saturating_duration_since(before.at).as_secs_f64();
        // A number may have been given to another process in between.
        let earlier: HashMap<(i32, u64), u64> =
            before.processes.iter().map(|one| ((one.pid, one.start_ticks), one.cpu_ticks)).collect();
        let row = |process: &Process| {
            let limits = limits(&self.groups, &process.groups);
            let resident_bytes = process.resident_pages * page;
            let most = limits.memory_limit_bytes.unwrap_or(all).min(all.max(1)).max(1);
            let used = earlier.get(&(process.pid, process.start_ticks)).copied();
            // One that began since then has used all of its time since then.
            let used = process.cpu_ticks.saturating_sub(used.unwrap_or(0)) as f64 / ticks;
            Row {
                pid: process.pid,
                parent_pid: process.parent,
                user: process.user,
                state: process.state,
                name: process.name.clone(),
                command: process.command.clone(),
                threads: process.threads,
                cpu_percent: if elapsed > 0.0 { round(100.0 * used / elapsed) } else { 0.0 },
                cpu_seconds: process.cpu_ticks as f64 / ticks,
                resident_bytes,
                virtual_bytes: process.virtual_bytes,
                memory_percent: round(100.0 * resident_bytes as f64 / most as f64),
                age_seconds: (uptime - process.start_ticks as f64 / ticks).max(0.0).round(),
                limits,
            }
        };
        now.processes.iter().map(row).collect()
    }
}

fn round(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

fn number(variable: nix::unistd::SysconfVar, otherwise: f64) -> f64 {
    nix::unistd::sysconf(variable).ok().flatten().map_or(otherwise, |number| number as f64)
}
