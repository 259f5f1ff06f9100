//! What the machine has and is called.

use std::fs;

use crate::spec::resource_reference::Allocatable;

/// Facts read once at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Logical CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Bytes of the file system that holds the data directory.
    pub storage_bytes: i64,
    /// The host's name.
    pub hostname: String,
    /// `uname -r`
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// Go's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// `/etc/machine-id`
    pub machine_id: String,
    /// DMI's product UUID.
    pub system_uuid: String,
    /// This boot's id.
    pub boot_id: String,
    /// What is kept from pods.
    pub reserved: Allocatable,
}

impl Machine {
    /// Reads them; `data_dir` tells the file system.
    pub fn read(data_dir: &std::path::Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default();
        let uname = nix::sys::utsname::uname().ok();
        let release = |f: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|u| f(u).to_string_lossy().into_owned()).unwrap_or_default()
        };
        let machine_id = text("/etc/machine-id");
        let boot_id = text("/proc/sys/kernel/random/boot_id");
        let uuid = text("/sys/class/dmi/id/product_uuid");
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            memory_bytes: total_of(&text("/proc/meminfo")).unwrap_or(0),
            storage_bytes: storage(data_dir).map_or(0, |s| s.0),
            hostname: release(nix::sys::utsname::UtsName::nodename),
            kernel: release(nix::sys::utsname::UtsName::release),
            os_image: os_image(&text("/etc/os-release")).unwrap_or_else(|| "Linux".to_owned()),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                "powerpc64" => "ppc64le",
                other => other,
            }
            .to_owned(),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id,
            reserved: Allocatable::default(),
        }
    }

    /// What pods may have of it.
    pub fn allocatable(&self) -> Allocatable {
        Allocatable {
            cpu_milli: (i64::from(self.cpus) * 1000 - self.reserved.cpu_milli).max(0),
            memory: (self.memory_bytes - self.reserved.memory).max(0),
            ephemeral_storage: (self.storage_bytes - self.reserved.ephemeral_storage).max(0),
        }
    }
}

/// Total and free bytes of a file system, and its total and free inodes.
pub fn storage(path: &std::path::Path) -> Option<(i64, i64, u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let size = stat.fragment_size();
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
    Some((bytes(stat.blocks()), bytes(stat.blocks_available()), stat.files(), stat.files_available()))
}

fn total_of(meminfo: &str) -> Option<i64> {
    field(meminfo, "MemTotal:")
}

/// Bytes of memory that could be had without swapping.
pub fn memory_available() -> Option<i64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Bytes of memory.
pub fn memory_total() -> Option<i64> {
    total_of(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// When the machine was started.
pub fn booted_at() -> Option<jiff::Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    jiff::Timestamp::from_second(seconds).ok()
}

/// How many processes and threads there may be, and are.
pub fn processes() -> Option<(u64, u64)> {
    let most = fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let now = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((most, now))
}

/// Memory of no file, in bytes.
pub fn anonymous_memory() -> Option<i64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "AnonPages:")
}

/// Swap in bytes: all, and what is free.
pub fn swap() -> Option<(i64, i64)> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    Some((field(&table, "SwapTotal:")?, field(&table, "SwapFree:")?))
}

/// Page faults since the machine's start, and those that read from disk.
pub fn page_faults() -> Option<(u64, u64)> {
    let table = fs::read_to_string("/proc/vmstat").ok()?;
    let of = |name: &str| table.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    Some((of("pgfault")?, of("pgmajfault")?))
}

/// CPU time that all programs of the machine together have used, in nanoseconds.
pub fn cpu_nanoseconds() -> Option<u64> {
    busy(&fs::read_to_string("/proc/stat").ok()?)
}

/// All but idle, waiting and what guests' time counts twice, from `/proc/stat` in hundredths of a second.
fn busy(stat: &str) -> Option<u64> {
    let counted = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = counted.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks.as_slice() else { return None };
    Some((user + nice + system + irq + softirq + steal) * 10_000_000)
}

fn field(meminfo: &str, name: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kib| kib * 1024)
}

fn os_image(os_release: &str) -> Option<String> {
    os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).map(|v| v.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_all_but_idle() {
        assert_eq!(busy("cpu  1 2 3 400 50 6 7 8 1 0\ncpu0 1 1 1 1\n"), Some(27 * 10_000_000));
        assert_eq!(busy("intr 1"), None);
    }

    #[test]
    fn the_kernels_files_are_understood() {
        assert_eq!(total_of("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
        let machine = Machine::read(std::path::Path::new("/"));
        assert!(machine.cpus >= 1 && machine.memory_bytes > 100 << 20 && machine.storage_bytes > 0);
    }
}
