//! cgroup v2: one hierarchy for all controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::devices::{self, Rule};
use super::{CpuStats, Group, MemoryStats, Stats, keyed, kill_all, number, processes_below, read, write};
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
            for name in ["cpu", "memory", "pids", "cpuset", "io"] {
                let has = |text: &str| text.split_whitespace().any(|word| word == name);
                if has(&offered) && !has(&enabled) {
                    // One controller a write: the kernel refuses a whole line for a single one.
                    let _ = write(&directory, "cgroup.subtree_control", &format!("+{name}"));
                }
            }
            directory.push(component);
        }
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

/// v1 shares (2 to 262144) as a v2 weight (1 to 10000), by the formula of KEP-2254.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
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
        let directory = &self.directory;
        if let Some(value) = resources.cpu_shares {
            write(directory, "cpu.weight", &weight(value).to_string())?;
        }
        if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
            let quota = resources.cpu_quota.map_or_else(
                || "max".to_owned(),
                |quota| match quota {
                    ..=0 => "max".to_owned(),
                    quota => quota.to_string(),
                },
            );
            write(directory, "cpu.max", &format!("{quota} {}", resources.cpu_period.unwrap_or(100_000)))?;
        }
        if let Some(value) = resources.memory_limit {
            write(directory, "memory.max", &or_max(value))?;
        }
        if let Some(value) = resources.memory_swap
            && directory.join("memory.swap.max").exists()
        {
            // v2 counts swap alone where the specification counts memory and swap together (runtime-spec, "Memory").
            let swap = if value < 0 { -1 } else { (value - resources.memory_limit.unwrap_or(0)).max(0) };
            write(directory, "memory.swap.max", &or_max(swap))?;
        }
        if let Some(value) = resources.memory_reservation {
            write(directory, "memory.low", &value.max(0).to_string())?;
        }
        if let Some(value) = resources.pids_limit {
            write(directory, "pids.max", &or_max(value))?;
        }
        for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
            if let Some(value) = value {
                write(directory, file, value)?;
            }
        }
        self.set_block_io(&resources.block_io)?;
        resources.unified.iter().try_for_each(|(file, value)| {
            if file.contains('/') {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{file:?} is no control file")));
            }
            write(directory, file, value)
        })
    }

    fn allow_devices(&self, rules: &[String]) -> io::Result<()> {
        let invalid =
            |rule: &String| io::Error::new(io::ErrorKind::InvalidInput, format!("{rule:?} is no device rule"));
        let rules: Vec<Rule> =
            rules.iter().map(|rule| Rule::parse(rule).ok_or_else(|| invalid(rule))).collect::<Result<_, _>>()?;
        match devices::restrict(&self.directory, &rules) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                eprintln!("shim: containers may use all devices they find a node of: {error}");
                Ok(())
            }
            other => other,
        }
    }

    fn join(&self, pid: i32) -> io::Result<()> {
        write(&self.directory, "cgroup.procs", &pid.to_string())
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
            },
            pids: number(directory, "pids.current").unwrap_or(0),
            pids_limit: number(directory, "pids.max").filter(|limit| *limit > 0),
        })
    }
}
