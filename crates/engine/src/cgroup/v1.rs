//! cgroup v1: one hierarchy a controller. Kept apart, because runtimes are leaving it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{CpuStats, DiskUse, Group, MemoryStats, Stats, keyed, kill_all, number, processes_below, read, write};
use crate::spec::{BlockIo, Resources};

/// Controllers every group gets a directory for. Each costs a directory and a migration at every container start, so
/// this is only what limits, counts or freezes.
const ALWAYS: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer"];

/// Controllers in which a group may also have a directory (cpuset limits; libcontainer makes one in all of them).
const SOMETIMES: [&str; 6] = ["cpuset", "blkio", "hugetlb", "net_cls", "net_prio", "perf_event"];

/// Memory values from here on mean "no limit": the kernel rounds the greatest counter down to a page.
const UNLIMITED: u64 = 1 << 62;

/// Mount point by controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts(BTreeMap<String, PathBuf>);

impl Mounts {
    pub fn add(&mut self, target: &Path, options: &str) {
        for option in options.split(',') {
            if ALWAYS.contains(&option) || SOMETIMES.contains(&option) {
                self.0.entry(option.to_owned()).or_insert_with(|| target.to_owned());
            }
        }
    }

    pub fn has_controllers(&self) -> bool {
        !self.0.is_empty()
    }

    pub fn has(&self, controller: &str) -> bool {
        self.0.contains_key(controller)
    }
}

/// A group's directories.
pub struct V1Group {
    directories: BTreeMap<String, PathBuf>,
}

impl V1Group {
    pub fn new(mounts: &Mounts, path: &Path) -> Self {
        let directories = mounts.0.iter().map(|(name, mount)| (name.clone(), mount.join(path))).collect();
        Self { directories }
    }

    fn directory(&self, controller: &str) -> Option<&Path> {
        self.directories.get(controller).map(PathBuf::as_path)
    }

    fn need(&self, controller: &'static str) -> io::Result<&Path> {
        self.directory(controller).ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, format!("cgroup controller {controller} is not mounted"))
        })
    }

    /// The directories that exist or should: those of [`ALWAYS`], and others once someone made them. Controllers
    /// mounted together share a directory, which then comes once.
    fn present(&self) -> Vec<&Path> {
        let mut found: Vec<&Path> = Vec::new();
        for (name, directory) in &self.directories {
            let wanted = ALWAYS.contains(&name.as_str()) || directory.exists();
            if wanted && !found.contains(&directory.as_path()) {
                found.push(directory);
            }
        }
        found
    }

    fn set_memory(&self, directory: &Path, resources: &Resources) -> io::Result<()> {
        let limit = resources.memory_limit.map(|value| value.to_string());
        // Swap accounting is often absent; a limit of memory and swap can then not be kept, which is the norm.
        let swap = resources.memory_swap.filter(|_| directory.join("memory.memsw.limit_in_bytes").exists());
        let swap = swap.map(|value| value.to_string());
        let mut steps = vec![("memory.limit_in_bytes", &limit), ("memory.memsw.limit_in_bytes", &swap)];
        // memory ≤ memory + swap must hold at every moment: which goes first depends on the direction.
        let current = number(directory, "memory.memsw.limit_in_bytes").unwrap_or(u64::MAX);
        if resources.memory_limit.is_some_and(|value| value < 0 || value as u64 > current) {
            steps.reverse();
        }
        for (file, value) in steps {
            if let Some(value) = value {
                write(directory, file, value)?;
            }
        }
        if let Some(value) = resources.memory_reservation {
            write(directory, "memory.soft_limit_in_bytes", &value.to_string())?;
        }
        if let Some(value) = resources.memory_swappiness {
            write(directory, "memory.swappiness", &value.to_string())?;
        }
        if let Some(value) = resources.oom_kill_disable {
            write(directory, "memory.oom_control", if value { "1" } else { "0" })?;
        }
        Ok(())
    }

    /// The directory of one of [`SOMETIMES`], made if need be, with the group's processes in it.
    fn made(&self, controller: &'static str, prepare: impl Fn(&Path) -> io::Result<()>) -> io::Result<&Path> {
        let directory = self.need(controller)?;
        if !directory.exists() {
            let members = self.processes();
            fs::create_dir_all(directory)?;
            prepare(directory)?;
            for pid in members {
                // One that has ended meanwhile needs no moving.
                let _ = write(directory, "cgroup.procs", &pid.to_string());
            }
        }
        Ok(directory)
    }

    /// Weights where some scheduler offers them, limits where they can be.
    fn set_block_io(&self, io: &BlockIo) -> io::Result<()> {
        if *io == BlockIo::default() {
            return Ok(());
        }
        let directory = self.made("blkio", |_| Ok(()))?;
        for (file, device_file) in
            [("blkio.weight", "blkio.weight_device"), ("blkio.bfq.weight", "blkio.bfq.weight_device")]
        {
            if let (Some(weight), true) = (io.weight, directory.join(file).exists()) {
                write(directory, file, &weight.to_string())?;
            }
            for (device, weight) in io.weight_device.iter().filter(|_| directory.join(device_file).exists()) {
                write(directory, device_file, &format!("{device} {weight}"))?;
            }
        }
        for (name, list) in [
            ("read_bps", &io.read_bps),
            ("write_bps", &io.write_bps),
            ("read_iops", &io.read_iops),
            ("write_iops", &io.write_iops),
        ] {
            for (device, rate) in list {
                write(directory, &format!("blkio.throttle.{name}_device"), &format!("{device} {rate}"))?;
            }
        }
        Ok(())
    }

    fn set_cpuset(&self, resources: &Resources) -> io::Result<()> {
        if resources.cpuset_cpus.is_none() && resources.cpuset_mems.is_none() {
            return Ok(());
        }
        let directory = self.made("cpuset", inherit_cpuset)?;
        for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
            if let Some(value) = value {
                write(directory, file, value)?;
            }
        }
        Ok(())
    }
}

/// A new cpuset is empty and accepts no process: it must first get its parent's CPUs and memory nodes.
pub fn inherit_cpuset(directory: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read(directory, file).is_ok_and(|text| text.trim().is_empty())
            && let Some(parent) = directory.parent()
        {
            inherit_cpuset(parent)?;
            write(directory, file, read(parent, file)?.trim())?;
        }
    }
    Ok(())
}

impl Group for V1Group {
    fn create(&self, resources: &Resources) -> io::Result<()> {
        for directory in self.present() {
            fs::create_dir_all(directory)?;
        }
        self.set(resources)
    }

    fn set(&self, resources: &Resources) -> io::Result<()> {
        // Without a controller there is no limit to set, which the engine has warned of at its start.
        if let Some(directory) = self.directory("cpu") {
            let period = resources.cpu_quota.filter(|quota| *quota > 0).map(|_| 100_000);
            let settings = [
                ("cpu.shares", resources.cpu_shares.map(|value| value.to_string())),
                ("cpu.cfs_period_us", resources.cpu_period.or(period).map(|value| value.to_string())),
                ("cpu.cfs_quota_us", resources.cpu_quota.map(|value| value.to_string())),
            ];
            for (file, value) in settings {
                value.map_or(Ok(()), |value| write(directory, file, &value))?;
            }
        }
        if let Some(directory) = self.directory("memory") {
            self.set_memory(directory, resources)?;
        }
        if let (Some(value), Some(directory)) = (resources.pids_limit, self.directory("pids")) {
            let value = if value < 0 { "max".to_owned() } else { value.to_string() };
            write(directory, "pids.max", &value)?;
        }
        self.set_block_io(&resources.block_io)?;
        self.set_cpuset(resources)
    }

    fn allow_devices(&self, rules: &[String]) -> io::Result<()> {
        let Some(directory) = self.directory("devices") else { return Ok(()) };
        write(directory, "devices.deny", "a")?;
        rules.iter().try_for_each(|rule| write(directory, "devices.allow", rule))
    }

    fn join(&self, pid: i32) -> io::Result<()> {
        let pid = pid.to_string();
        self.present().into_iter().try_for_each(|directory| write(directory, "cgroup.procs", &pid))
    }

    fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        if let Some(directory) = ["freezer", "pids", "memory"].iter().find_map(|name| self.directory(name)) {
            processes_below(directory, &mut found);
        }
        found
    }

    fn kill(&self) {
        kill_all(&self.processes());
        // A frozen process dies only once it is thawed.
        let _ = self.freeze(false);
    }

    fn remove(&self) -> io::Result<()> {
        self.directories.values().try_for_each(|directory| super::remove_tree(directory, Instant::now()))
    }

    fn freeze(&self, frozen: bool) -> io::Result<()> {
        let directory = self.need("freezer")?;
        let target = if frozen { "FROZEN" } else { "THAWED" };
        // The kernel may give up on a process that forks at that moment (state FREEZING): ask again.
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            write(directory, "freezer.state", target)?;
            if read(directory, "freezer.state")?.trim() == target {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        write(directory, "freezer.state", "THAWED")?;
        Err(io::Error::new(io::ErrorKind::TimedOut, "the processes could not be frozen"))
    }

    fn frozen(&self) -> bool {
        self.directory("freezer").is_some_and(|d| read(d, "freezer.state").is_ok_and(|text| text.trim() == "FROZEN"))
    }

    fn oom_kills(&self) -> u64 {
        let text = self.directory("memory").and_then(|directory| read(directory, "memory.oom_control").ok());
        text.map_or(0, |text| keyed(&text, "oom_kill"))
    }

    fn stats(&self) -> io::Result<Stats> {
        let mut cpu = CpuStats::default();
        if let Some(directory) = self.directory("cpuacct") {
            cpu.usage = read(directory, "cpuacct.usage")?.trim().parse().unwrap_or(0);
            cpu.user = number(directory, "cpuacct.usage_user").unwrap_or(0);
            cpu.system = number(directory, "cpuacct.usage_sys").unwrap_or(0);
        }
        if let Some(text) = self.directory("cpu").and_then(|directory| read(directory, "cpu.stat").ok()) {
            cpu.periods = keyed(&text, "nr_periods");
            cpu.throttled_periods = keyed(&text, "nr_throttled");
            cpu.throttled = keyed(&text, "throttled_time");
        }
        let mut memory = MemoryStats::default();
        if let Some(directory) = self.directory("memory") {
            let text = read(directory, "memory.stat")?;
            memory.usage = number(directory, "memory.usage_in_bytes").unwrap_or(0);
            memory.working_set = memory.usage.saturating_sub(keyed(&text, "total_inactive_file"));
            memory.rss = keyed(&text, "total_rss");
            memory.page_faults = keyed(&text, "total_pgfault");
            memory.major_page_faults = keyed(&text, "total_pgmajfault");
            memory.limit = number(directory, "memory.limit_in_bytes").filter(|limit| (1..UNLIMITED).contains(limit));
            memory.oom_kills = self.oom_kills();
            memory.cache = keyed(&text, "total_cache");
            memory.mapped_file = keyed(&text, "total_mapped_file");
            memory.swap = keyed(&text, "total_swap");
            memory.peak = number(directory, "memory.max_usage_in_bytes").unwrap_or(0);
            memory.limit_hits = number(directory, "memory.failcnt").unwrap_or(0);
        }
        let pids = self.directory("pids");
        Ok(Stats {
            at: SystemTime::now(),
            cpu,
            memory,
            pids: pids.and_then(|directory| number(directory, "pids.current")).unwrap_or(0),
            pids_limit: pids.and_then(|directory| number(directory, "pids.max")),
        })
    }

    fn disk_use(&self) -> Vec<DiskUse> {
        let Some(directory) = self.directory("blkio") else { return Vec::new() };
        let mut disks: BTreeMap<String, DiskUse> = BTreeMap::new();
        for (file, is_bytes) in
            [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
        {
            let text = read(directory, file).unwrap_or_default();
            // `8:0 Read 4096`, and a sum at the end that is of no disk.
            for line in text.lines() {
                let [device, operation, count] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
                let (Some(new), Ok(count)) = (DiskUse::of(device), count.parse()) else { continue };
                let disk = disks.entry(device.to_owned()).or_insert(new);
                match (operation, is_bytes) {
                    ("Read", true) => disk.read_bytes = count,
                    ("Write", true) => disk.written_bytes = count,
                    ("Read", false) => disk.reads = count,
                    ("Write", false) => disk.writes = count,
                    _ => {}
                }
            }
        }
        disks.into_values().collect()
    }
}
