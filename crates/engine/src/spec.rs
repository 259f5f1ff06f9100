//! What a caller asks for: sandboxes, containers, executions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A group of containers that share namespaces, a parent cgroup and one shim.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// Unique in the engine. 1 to 128 of `[A-Za-z0-9_.-]`, beginning with a letter or digit.
    pub id: String,
    /// The network namespace all containers share.
    pub network: Namespace,
    /// The IPC namespace all containers share (`/dev/shm` follows it: one tmpfs for all unless a mount replaces it).
    pub ipc: Ipc,
    /// An existing IPC namespace to join instead, by the path of its file (`/proc/PID/ns/ipc`). What is to be at
    /// `/dev/shm` is then the caller's business.
    pub ipc_path: Option<PathBuf>,
    /// Host name. `None` with [`Namespace::Host`] network keeps the host's UTS namespace (no new one is made).
    pub hostname: Option<String>,
    /// NIS domain name; only with a `hostname`.
    pub domainname: Option<String>,
    /// Which processes a container sees.
    pub pid: PidMode,
    /// Namespaced kernel parameters (`net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`), written
    /// before the first container starts.
    pub sysctls: BTreeMap<String, String>,
    /// A user namespace for all containers, in which ids from 0 are these of the host: files of images and of mounts
    /// with the option `idmap` belong to the same users inside as on disk. A network namespace given by its path should
    /// belong to a user namespace with this mapping (which is then the sandbox's), or containers have no rights over it.
    pub user_ids: Option<IdRange>,
    /// Cgroup directory between the engine's root and this sandbox (`burstable`); empty for none.
    pub cgroup_parent: String,
    /// There is one container at most, and the sandbox's cgroup is its own: what looks for a container by the last part of
    /// its group's path finds the sandbox's id. `resources` are the container's alone then.
    pub single: bool,
    /// Limits of the whole sandbox.
    pub resources: Resources,
    /// Memory file systems made in the sandbox's own mount namespace, visible only to its containers (as mount
    /// sources) and to the host through [`crate::Sandbox::path`]. They vanish with the sandbox, whatever ends it.
    pub tmpfs: Vec<Tmpfs>,
    /// For the caller; kept, never interpreted.
    pub labels: BTreeMap<String, String>,
    /// For the caller; kept, never interpreted.
    pub annotations: BTreeMap<String, String>,
    /// Directory made (0755) for the containers' log files, if set.
    pub log_dir: Option<PathBuf>,
}

/// A tmpfs of a sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tmpfs {
    /// An existing directory of the host; the tmpfs covers it inside the sandbox's mount namespace.
    pub path: PathBuf,
    /// Size limit in bytes; `None` for the kernel's default (half of memory).
    pub size: Option<u64>,
    /// Mode of its root directory, for example `0o777`.
    pub mode: u32,
}

/// Which network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The host's own.
    Host,
    /// An existing one, by the path of its file (a bind mount or `/proc/PID/ns/net`).
    Path(PathBuf),
    /// A new one with nothing but a loopback link, which is up.
    #[default]
    New,
}

/// Which IPC namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipc {
    /// The host's own.
    Host,
    /// One for the sandbox.
    #[default]
    New,
}

/// Which processes the containers of a sandbox see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Each container has its own PID namespace.
    #[default]
    PerContainer,
    /// One PID namespace for all, whose process 1 is a tiny reaper (`shareProcessNamespace`).
    Shared,
    /// The host's own.
    Host,
}

/// One container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Unique in its sandbox; the alphabet of [`SandboxSpec::id`].
    pub id: String,
    /// The root file system.
    pub rootfs: Rootfs,
    /// The program and its arguments; the program is looked up in `PATH` of `env` unless it holds a slash.
    pub args: Vec<String>,
    /// `NAME=value`. `HOME` and `PATH` are supplied when missing (`HOSTNAME` is the caller's business).
    pub env: Vec<String>,
    /// Working directory, made if missing; empty means `/`.
    pub cwd: String,
    /// Who runs it.
    pub user: UserSpec,
    /// A pseudo terminal as stdin, stdout and stderr (then everything is logged as stdout).
    pub tty: bool,
    /// Keep stdin open for [`crate::Sandbox::attach`]; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close stdin when the first attached client that had stdin goes.
    pub stdin_once: bool,
    /// Mounts in order, on top of [`default_mounts`] (one with the same destination replaces the default).
    pub mounts: Vec<Mount>,
    /// Capability sets; `None` means [`default_capabilities`] (or all, when `privileged`).
    pub capabilities: Option<Capabilities>,
    /// System call filter, for the container and every exec in it.
    pub seccomp: Seccomp,
    /// Mount the root file system read-only.
    pub read_only_rootfs: bool,
    /// Set `no_new_privs` (`allowPrivilegeEscalation: false`).
    pub no_new_privileges: bool,
    /// Paths hidden from the container; `None` means [`default_masked_paths`] (none when `privileged`).
    pub masked_paths: Option<Vec<String>>,
    /// Paths that are read-only; `None` means [`default_readonly_paths`] (none when `privileged`).
    pub readonly_paths: Option<Vec<String>>,
    /// Cgroup limits.
    pub resources: Resources,
    /// Resource limits of the process. One that may not be raised is left alone with a warning.
    pub rlimits: Vec<Rlimit>,
    /// Device nodes beside the usual (`null`, `zero`, `full`, `random`, `urandom`, `tty`, `ptmx`).
    pub devices: Vec<Device>,
    /// More rules of the device cgroup, in the form of its files (`c 1:3 rwm`), beside those of `devices`.
    pub device_rules: Vec<String>,
    /// OOM score adjustment, −1000 to 1000. A refused negative value becomes the lowest permitted, with a warning.
    pub oom_score_adj: Option<i32>,
    /// The host's cgroup namespace instead of one of its own: `/proc/self/cgroup` names its groups from the host's root.
    pub host_cgroup_namespace: bool,
    /// All capabilities, all host devices, no masks, no seccomp, `/sys` and cgroups writable.
    pub privileged: bool,
    /// Whether the container may write to its own cgroup; `None` means that a privileged one may.
    pub writable_cgroups: Option<bool>,
    /// Where its output goes; `None` drops it (attached clients still see it).
    pub log: Option<LogSpec>,
    /// Join the PID namespace of this container of the sandbox, which must be running; or, with an absolute path
    /// (`/proc/PID/ns/pid`), the one whose file this is.
    pub pid_of: Option<String>,
    /// For the caller; kept, never interpreted.
    pub labels: BTreeMap<String, String>,
    /// For the caller; kept, never interpreted.
    pub annotations: BTreeMap<String, String>,
}

/// A root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// A directory that is ready to be the root.
    Path(PathBuf),
    /// An overlay, mounted by the shim in its own mount namespace and gone with the container.
    Overlay {
        /// Read-only layers, the topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The writable layer. Made if missing.
        upper: PathBuf,
        /// The overlay's work directory, on the file system of `upper`. Made if missing.
        work: PathBuf,
        /// What is written need not outlive a crash of the machine: nothing of it is waited for (`fsync` does nothing),
        /// above all not when it is unmounted, which otherwise takes as long as the whole file system has to be written.
        #[serde(default)]
        volatile: bool,
    },
}

impl Default for Rootfs {
    fn default() -> Self {
        Self::Path(PathBuf::new())
    }
}

/// Who runs a process, resolved against `/etc/passwd` and `/etc/group` of the container's root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserSpec {
    /// `user[:group]`, each a name or a number as in an image's configuration; empty is root. Without a group, it is
    /// the user's own in `/etc/passwd`, or 0.
    pub user: String,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Add the groups in which `/etc/group` lists the user (`supplementalGroupsPolicy: Merge`).
    pub image_groups: bool,
}

impl From<(u32, u32)> for UserSpec {
    fn from((uid, gid): (u32, u32)) -> Self {
        Self { user: format!("{uid}:{gid}"), ..Self::default() }
    }
}

/// One mount, as in the OCI runtime specification (config.md, "Mounts").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// A host path for bind mounts, else the file system's source.
    pub source: String,
    /// Absolute path in the container; made if missing (a file when the source is a file).
    pub destination: String,
    /// `bind`, `tmpfs`, `proc`…; `none` keeps what every container has there from being mounted.
    pub fstype: String,
    /// `rbind`, `ro`, `nosuid`, `rprivate`, `size=64m`… `idmap`: its files belong to the same users inside as on disk, in
    /// a sandbox with [`SandboxSpec::user_ids`] (else it means nothing).
    pub options: Vec<String>,
}

impl Mount {
    /// A recursive private bind mount of `source` at `destination`.
    pub fn bind(source: impl Into<String>, destination: impl Into<String>, read_only: bool) -> Self {
        let options = ["rbind", "rprivate", if read_only { "ro" } else { "rw" }];
        Self {
            source: source.into(),
            destination: destination.into(),
            fstype: "bind".into(),
            options: options.map(String::from).to_vec(),
        }
    }
}

/// Capability sets, names as `CAP_NET_BIND_SERVICE`. Ones this kernel or the engine itself lacks are left out with a
/// warning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The upper bound of what can be gained.
    pub bounding: Vec<String>,
    /// In force at start (of a root process; the kernel clears it for others).
    pub effective: Vec<String>,
    /// Kept across exec with file capabilities.
    pub inheritable: Vec<String>,
    /// What may be put into effect.
    pub permitted: Vec<String>,
    /// Kept across exec without file capabilities.
    pub ambient: Vec<String>,
}

impl Capabilities {
    /// The same names as bounding, effective and permitted; nothing inheritable or ambient (as CRI runtimes do).
    pub fn uniform(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        Self {
            bounding: names.clone(),
            effective: names.clone(),
            permitted: names,
            inheritable: Vec::new(),
            ambient: Vec::new(),
        }
    }
}

/// A system call filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The list that Docker and containerd apply, see [`crate::seccomp`].
    RuntimeDefault,
    /// An OCI `linux.seccomp` object, or a profile file in Docker's format (`archMap`, conditional `includes`).
    Profile(serde_json::Value),
}

/// Cgroup limits; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative CPU weight in v1 units (2 to 262144; 1024 is one CPU). Converted for v2.
    pub cpu_shares: Option<u64>,
    /// CPU time per period, in µs; −1 for none.
    pub cpu_quota: Option<i64>,
    /// Period in µs; 100,000 when only a quota is given.
    pub cpu_period: Option<u64>,
    /// CPUs (`0-2,7`).
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Memory limit in bytes; −1 for none.
    pub memory_limit: Option<i64>,
    /// Memory and swap together, in bytes; −1 for none.
    pub memory_swap: Option<i64>,
    /// Soft limit in bytes (v1 `memory.soft_limit_in_bytes`, v2 `memory.low`).
    pub memory_reservation: Option<i64>,
    /// How readily its memory goes to swap, 0 to 100; v1 alone.
    pub memory_swappiness: Option<u64>,
    /// Whether processes wait for memory instead of being killed for want of it; v1 alone.
    pub oom_kill_disable: Option<bool>,
    /// Number of processes and threads; −1 for none.
    pub pids_limit: Option<i64>,
    /// Use of disks.
    pub block_io: BlockIo,
    /// v2 files written as they are (`memory.high`: `1048576`); ignored on v1.
    pub unified: BTreeMap<String, String>,
}

/// Shares and limits of disks' time and throughput. Devices are `major:minor`; weights are of 10 to 1000 (converted for
/// v2), and kept only where the disks' scheduler knows them. A rate of 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// For all disks.
    pub weight: Option<u16>,
    /// For one.
    pub weight_device: Vec<(String, u16)>,
    /// Bytes a second.
    pub read_bps: Vec<(String, u64)>,
    /// Bytes a second.
    pub write_bps: Vec<(String, u64)>,
    /// Operations a second.
    pub read_iops: Vec<(String, u64)>,
    /// Operations a second.
    pub write_iops: Vec<(String, u64)>,
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`…
    pub kind: String,
    /// The limit in force.
    pub soft: u64,
    /// Its ceiling.
    pub hard: u64,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the host; its type and numbers are taken from there.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: PathBuf,
    /// Cgroup permissions, of `rwm`.
    pub permissions: String,
}

/// User and group ids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first: root's in the container.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A log file in the CRI format: `2006-01-02T15:04:05.000000000Z stdout F text`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Absolute; its directory is made if missing.
    pub path: PathBuf,
    /// Rotate beyond this many bytes: `PATH` becomes `PATH.1`, `PATH.1` becomes `PATH.2`… 0 never rotates.
    pub max_size: u64,
    /// How many files are kept, the current one included; at least 1.
    pub max_files: u32,
}

/// A process to run in a running container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    /// The container's id.
    pub container: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Environment; `None` takes the container's.
    pub env: Option<Vec<String>>,
    /// Working directory; `None` takes the container's.
    pub cwd: Option<String>,
    /// `None` takes the container's.
    pub user: Option<UserSpec>,
    /// All capabilities and no system call filter.
    pub privileged: bool,
    /// A pseudo terminal; then stderr comes with stdout.
    pub tty: bool,
    /// The terminal's first size.
    pub size: Option<TerminalSize>,
    /// Connect stdin; otherwise `/dev/null`.
    pub stdin: bool,
    /// Connect stdout; otherwise `/dev/null`.
    pub stdout: bool,
    /// Connect stderr; otherwise `/dev/null`.
    pub stderr: bool,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// The capabilities Docker and containerd give a container that asks for nothing.
pub fn default_capabilities() -> Capabilities {
    Capabilities::uniform([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ])
}

/// The paths Docker and containerd hide from a container.
pub fn default_masked_paths() -> Vec<String> {
    // In Docker's order, which clients compare.
    strings(&[
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ])
}

/// The paths Docker and containerd make read-only in a container.
pub fn default_readonly_paths() -> Vec<String> {
    strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"])
}

/// The file systems every container has: `/proc`, `/dev`, `/dev/pts`, `/dev/shm`, `/dev/mqueue`, `/sys`,
/// `/sys/fs/cgroup`.
/// `writable_cgroups` is about the last of them.
pub fn default_mounts(privileged: bool, writable_cgroups: bool) -> Vec<Mount> {
    let mount = |fstype: &str, destination: &str, options: &[&str]| Mount {
        source: fstype.into(),
        destination: destination.into(),
        fstype: fstype.into(),
        options: strings(options),
    };
    let access = |writable: bool| if writable { "rw" } else { "ro" };
    vec![
        mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", access(privileged)]),
        mount("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", access(writable_cgroups)]),
    ]
}
