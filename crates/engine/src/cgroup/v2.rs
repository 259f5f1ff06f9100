//! cgroup v2: one hierarchy for all controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{
    CpuStats, DiskUse, Group, MemoryStats, Stats, devices, keyed, kill_all, namespace_root, number, processes_below,
    read, write,
};
use crate::spec::{BlockIo, Resources};

/// A group's directory.
pub struct V2Group {
    mount: PathBuf,
    path: PathBuf,
    directory: PathBuf,
}

impl V2Group {
    pub fn new(mount: &Path, path: &Path) -> Self {
        Self { mount: mount.to_owned(), path: path.to_owned(), directory: mount.join(path) }
    }

    /// Lets each ancestor hand its controllers down. One that a parent does not offer is left out.
    fn enable_controllers(&self) {
        let mut directory = self.mount.clone();
        for component in self.path.components() {
            let offered = read(&directory, "cgroup.controllers").unwrap_or_default();
            let enabled = read(&directory, "cgroup.subtree_control").unwrap_or_default();
            let missing = CONTROLLERS.into_iter().filter(|name| lists(&offered, name) && !lists(&enabled, name));
            let missing: Vec<_> = missing.collect();
            if !missing.is_empty() && directory == self.mount {
                namespace_root::clear(&self.mount);
            }
            for name in missing {
                // One controller a write: the kernel refuses a whole line for a single one.
                let _ = write(&directory, "cgroup.subtree_control", &format!("+{name}"));
            }
            directory.push(component);
        }
    }

    /// Writes a limit. Without the controller there is none to set, which the engine has warned of at its start.
    fn limit(&self, file: &str, value: &str) -> io::Result<()> {
        match write(&self.directory, file, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.controls(file) => Ok(()),
            // A missing control file can't be made: that is refused rather than not found.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !self.controls(file) => Ok(()),
            result => result,
        }
    }

    /// Whether this group has the controller of a control file.
    fn controls(&self, file: &str) -> bool {
        let controller = file.split('.').next().unwrap_or(file);
        read(&self.directory, "cgroup.controllers").is_ok_and(|text| lists(&text, controller))
    }

    fn set_cpu(&self, resources: &Resources) -> io::Result<()> {
        if let Some(value) = resources.cpu_shares {
            self.limit("cpu.weight", &weight(value).to_string())?;
        }
        match (resources.cpu_quota, resources.cpu_period) {
            (None, None) => Ok(()),
            (Some(quota), period) => {
                let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
                self.limit("cpu.max", &format!("{quota} {}", period.unwrap_or(100_000)))
            }
            (None, Some(period)) => {
                // Both are one file: the quota stays what it is.
                let current = read(&self.directory, "cpu.max").unwrap_or_default();
                let quota = current.split_whitespace().next().unwrap_or("max");
                self.limit("cpu.max", &format!("{quota} {period}"))
            }
        }
    }

    fn set_memory(&self, resources: &Resources) -> io::Result<()> {
        if let Some(value) = resources.memory_limit {
            self.limit("memory.max", &or_max(value))?;
        }
        if let Some(value) = resources.memory_swap
            && self.directory.join("memory.swap.max").exists()
        {
            // v2 counts swap alone where the specification counts memory and swap together (runtime-spec, "Memory").
            let memory = resources.memory_limit.and_then(|limit| u64::try_from(limit).ok());
            let memory = memory.or_else(|| number(&self.directory, "memory.max")).unwrap_or(0);
            let swap = if value < 0 { -1 } else { (value - memory.cast_signed()).max(0) };
            self.limit("memory.swap.max", &or_max(swap))?;
        }
        if let Some(value) = resources.memory_reservation {
            self.limit("memory.low", &value.max(0).to_string())?;
        }
        Ok(())
    }
}

impl V2Group {
    /// Weights where some scheduler offers them, limits where the `io` controller is.
    fn set_block_io(&self, io: &BlockIo) -> io::Result<()> {
        let weight = |weight: u16| 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
        let file = ["io.weight", "io.bfq.weight"].into_iter().find(|file| self.directory.join(file).exists());
        if let Some(file) = file {
            if let Some(value) = io.weight {
                write(&self.directory, file, &format!("default {}", weight(value)))?;
            }
            for (device, value) in &io.weight_device {
                write(&self.directory, file, &format!("{device} {}", weight(*value)))?;
            }
        }
        let limits =
            [("rbps", &io.read_bps), ("wbps", &io.write_bps), ("riops", &io.read_iops), ("wiops", &io.write_iops)];
        for (name, list) in limits {
            for (device, rate) in list {
                let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
                write(&self.directory, "io.max", &format!("{device} {name}={rate}"))?;
            }
        }
        Ok(())
    }
}

/// The first group, this one or one below it, that has processes.
pub(super) fn inhabited(directory: &Path) -> Option<PathBuf> {
    if read(directory, "cgroup.procs").is_ok_and(|text| !text.is_empty()) {
        return Some(directory.to_owned());
    }
    super::children(directory).iter().find_map(|child| inhabited(child))
}

/// The controllers that limits need.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "io"];

fn lists(text: &str, name: &str) -> bool {
    text.split_whitespace().any(|word| word == name)
}

/// v1 shares (2 to 262144) as a v2 weight (1 to 10000): the curve through both ends and through both defaults (1024
/// and 100) that runc has followed since 1.3.2 and crun since 1.23.
fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Less a rounding error, which must not lift a whole number to the next one.
            (10_f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

impl Group for V2Group {
    fn create(&self, resources: &Resources) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        self.enable_controllers();
        self.set(resources)
    }

    fn set(&self, resources: &Resources) -> io::Result<()> {
        self.set_cpu(resources)?;
        self.set_memory(resources)?;
        if let Some(value) = resources.pids_limit {
            self.limit("pids.max", &or_max(value))?;
        }
        for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
            if let Some(value) = value {
                self.limit(file, value)?;
            }
        }
        self.set_block_io(&resources.block_io)?;
        resources.unified.iter().try_for_each(|(file, value)| {
            if file.contains('/') {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{file:?} is no control file")));
            }
            self.limit(file, value)
        })
    }

    fn allow_devices(&self, rules: &[String]) -> io::Result<()> {
        match devices::restrict(&self.directory, rules) {
            // A kernel without the call, or one that keeps it from this process (a container's own system call
            // filter): nothing short of running no container at all would help.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                eprintln!("shim: no device filter, containers may open every device that they can make: {error}");
                Ok(())
            }
            result => result,
        }
    }

    fn join(&self, pid: i32) -> io::Result<()> {
        match write(&self.directory, "cgroup.procs", &pid.to_string()) {
            // What runs in it has made groups of its own, and processes live in leaves only: beside one of those.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let leaf = inhabited(&self.directory).ok_or(error)?;
                write(&leaf, "cgroup.procs", &pid.to_string())
            }
            result => result,
        }
    }

    fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        processes_below(&self.directory, &mut found);
        found
    }

    fn kill(&self) {
        if write(&self.directory, "cgroup.kill", "1").is_err() {
            kill_all(&self.processes());
            let _ = self.freeze(false);
        }
    }

    fn remove(&self) -> io::Result<()> {
        super::remove_tree(&self.directory, Instant::now())
    }

    fn freeze(&self, frozen: bool) -> io::Result<()> {
        write(&self.directory, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.frozen() != frozen {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the processes could not be frozen"));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    fn frozen(&self) -> bool {
        read(&self.directory, "cgroup.events").is_ok_and(|text| keyed(&text, "frozen") == 1)
    }

    fn oom_kills(&self) -> u64 {
        read(&self.directory, "memory.events").map_or(0, |text| keyed(&text, "oom_kill"))
    }

    fn stats(&self) -> io::Result<Stats> {
        let directory = &self.directory;
        let cpu = read(directory, "cpu.stat")?;
        let micros = |key: &str| keyed(&cpu, key).saturating_mul(1000);
        let memory = read(directory, "memory.stat").unwrap_or_default();
        let usage = number(directory, "memory.current").unwrap_or(0);
        Ok(Stats {
            at: SystemTime::now(),
            cpu: CpuStats {
                usage: micros("usage_usec"),
                user: micros("user_usec"),
                system: micros("system_usec"),
                periods: keyed(&cpu, "nr_periods"),
                throttled_periods: keyed(&cpu, "nr_throttled"),
                throttled: micros("throttled_usec"),
            },
            memory: MemoryStats {
                usage,
                working_set: usage.saturating_sub(keyed(&memory, "inactive_file")),
                rss: keyed(&memory, "anon"),
                limit: number(directory, "memory.max").filter(|limit| *limit > 0),
                page_faults: keyed(&memory, "pgfault"),
                major_page_faults: keyed(&memory, "pgmajfault"),
                oom_kills: self.oom_kills(),
                cache: keyed(&memory, "file"),
                mapped_file: keyed(&memory, "file_mapped"),
                swap: number(directory, "memory.swap.current").unwrap_or(0),
                peak: number(directory, "memory.peak").unwrap_or(0),
                limit_hits: read(directory, "memory.events").map_or(0, |text| keyed(&text, "max")),
            },
            pids: number(directory, "pids.current").unwrap_or(0),
            pids_limit: number(directory, "pids.max").filter(|limit| *limit > 0),
        })
    }

    fn disk_use(&self) -> Vec<DiskUse> {
        let text = read(&self.directory, "io.stat").unwrap_or_default();
        let disk = |line: &str| {
            let (device, counts) = line.split_once(' ')?;
            let count = |name: &str| {
                let value = counts.split(' ').find_map(|count| count.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|value| value.parse().ok()).unwrap_or(0)
            };
            Some(DiskUse {
                read_bytes: count("rbytes"),
                written_bytes: count("wbytes"),
                reads: count("rios"),
                writes: count("wios"),
                ..DiskUse::of(device)?
            })
        };
        text.lines().filter_map(disk).collect()
    }
}
