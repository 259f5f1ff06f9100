//! From a record to what the engine runs.

use std::path::{Path, PathBuf};

use engine::{
    ContainerSpec, IdRange, Ipc, LogSpec, Mount, Namespace, PidMode, Resources, Rlimit, Rootfs, SandboxSpec, UserSpec,
};

use super::options::{HostOptions, MountRequest};
use super::record::{MountPoint, Record};
use super::security::{Security, capabilities};
use super::{MAIN, disks, shm};
use crate::error::{ApiError, Result};

/// What of `/proc` may be mounted on: what containers show as theirs, such as the memory they have.
const IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
];

/// Refuses what [`container`] would refuse.
pub(super) fn check(record: &Record) -> Result<()> {
    capabilities(&record.host)?;
    Security::parse(&record.host)?;
    rlimits(&record.host)?;
    let inside = |mount: &&super::record::MountPoint| {
        Path::new(&mount.destination).starts_with("/proc") && !IN_PROC.contains(&mount.destination.as_str())
    };
    if let Some(mount) = record.mounts.iter().find(inside) {
        return Err(ApiError::bad(format!("\"{}\" cannot be mounted because it is inside /proc", mount.destination)));
    }
    for (name, _) in record.host.sysctls.iter().flatten() {
        let separate = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        if !separate.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(ApiError::bad(format!("sysctl '{name}' is not allowed")));
        }
    }
    let shares = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    let host = &record.host;
    for (what, mode, known) in [
        ("IPC", &host.ipc_mode, &["", "host", "private", "shareable", "none"][..]),
        ("PID", &host.pid_mode, &["", "host"]),
        ("UTS", &host.uts_mode, &["", "host"]),
    ] {
        if !(known.contains(&mode.as_str()) || what != "UTS" && shares(mode)) {
            return Err(ApiError::bad(format!("invalid {what} mode: {mode}")));
        }
    }
    if !matches!(record.host.userns_mode.as_str(), "" | "host") {
        return Err(ApiError::bad(format!("invalid userns mode: {}", record.host.userns_mode)));
    }
    Ok(())
}

/// Namespaces of other containers that were asked for, and whose ids it has.
#[derive(Default)]
pub(super) struct Shared {
    /// `/proc/PID/ns/pid` of another container.
    pub pid: Option<String>,
    /// `/proc/PID/ns/ipc` and where on the host its `/dev/shm` is.
    pub ipc: Option<(PathBuf, PathBuf)>,
    /// The ids of the host that are its own; `None`: all of them.
    pub users: Option<IdRange>,
}

/// The sandbox around the container.
pub(super) fn sandbox(record: &Record, network: Namespace, hostname: String, shared: &Shared) -> SandboxSpec {
    let host = &record.host;
    SandboxSpec {
        id: record.id.clone(),
        network,
        ipc: if host.ipc_mode == "host" { Ipc::Host } else { Ipc::New },
        ipc_path: shared.ipc.as_ref().map(|(path, _)| path.clone()),
        hostname: (host.uts_mode != "host").then_some(hostname),
        domainname: Some(record.options.domainname.clone()).filter(|name| !name.is_empty()),
        pid: match host.pid_mode.as_str() {
            "host" => PidMode::Host,
            // A reaper is process 1, and the program its neighbour.
            _ if host.init == Some(true) && shared.pid.is_none() => PidMode::Shared,
            _ => PidMode::PerContainer,
        },
        sysctls: host.sysctls.clone().unwrap_or_default(),
        user_ids: shared.users,
        cgroup_parent: match super::mounts::clean(&host.cgroup_parent).trim_matches('/') {
            "" => "docker".to_owned(),
            parent => parent.to_owned(),
        },
        single: true,
        ..SandboxSpec::default()
    }
}

/// The container itself. `lower` is topmost first.
pub(super) fn container(
    record: &Record,
    lower: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    directory: &Path,
    groups: Vec<u32>,
    shared: &Shared,
) -> Result<ContainerSpec> {
    let (options, host) = (&record.options, &record.host);
    let security = Security::parse(host)?;
    if security.writable_cgroups.is_some() && shared.users.is_some() {
        return Err(ApiError::bad("option WritableCgroups conflicts with user namespaces and rootless mode"));
    }
    let hostname = std::fs::read_to_string(directory.join("hostname")).unwrap_or_default();
    let mut mounts = mounts(record, directory);
    if mounts.iter().any(|mount| mount.destination == "/dev/shm") {
        // The user's own.
    } else if host.ipc_mode == "host" {
        mounts.push(Mount::bind("/dev/shm", "/dev/shm", false));
    } else if let Some((_, shm)) = &shared.ipc {
        mounts.push(shared_memory(shm));
    } else if host.ipc_mode == "shareable" {
        mounts.push(shared_memory(&shm::path(directory)));
    } else if host.ipc_mode == "none" {
        mounts.push(Mount { fstype: "none".into(), ..tmpfs("/dev/shm", &[]) });
    } else if !mounts.iter().any(|mount| mount.destination == "/dev") {
        let options = ["nosuid", "noexec", "nodev", "mode=1777", &format!("size={}", host.shm_size)];
        mounts.push(Mount { source: "shm".into(), ..tmpfs("/dev/shm", &options) });
    }
    // Outer directories before what is mounted in them.
    mounts.sort_by_key(|mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
    if shared.users.is_some() {
        map_owners(record, &mut mounts);
    }
    Ok(ContainerSpec {
        id: MAIN.to_owned(),
        // What is removed at its end need not be on any disk before.
        rootfs: Rootfs::Overlay { lower, upper, work, volatile: host.auto_remove },
        args: record.args.clone(),
        env: environment(record, hostname.trim()),
        cwd: options.working_dir.clone(),
        // Who names a group gets that one alone.
        user: UserSpec {
            user: options.user.clone(),
            additional_gids: groups,
            image_groups: !options.user.contains(':'),
        },
        tty: options.tty,
        stdin: options.open_stdin,
        // A terminal outlives the client that leaves it.
        stdin_once: options.stdin_once && !options.tty,
        mounts,
        capabilities: Some(capabilities(host)?),
        seccomp: security.seccomp,
        read_only_rootfs: host.readonly_rootfs,
        no_new_privileges: security.no_new_privileges,
        masked_paths: if security.unmasked { Some(Vec::new()) } else { host.masked_paths.clone() },
        readonly_paths: if security.unmasked { Some(Vec::new()) } else { host.readonly_paths.clone() },
        resources: Resources { block_io: disks::block_io(host)?, ..resources(host) },
        rlimits: rlimits(host)?,
        devices: disks::devices(host)?,
        device_rules: host.device_cgroup_rules.clone().unwrap_or_default(),
        oom_score_adj: Some(host.oom_score_adj),
        // A user namespace has no rights over groups that are not its own.
        host_cgroup_namespace: host.cgroupns_mode == "host" && shared.users.is_none(),
        privileged: host.privileged,
        writable_cgroups: security.writable_cgroups,
        log: log(host, directory),
        pid_of: shared.pid.clone(),
        labels: options.labels.clone(),
        ..ContainerSpec::default()
    })
}

/// A `/dev/shm` that containers share.
fn shared_memory(path: &Path) -> Mount {
    let mut mount = Mount::bind(path.to_string_lossy(), "/dev/shm", false);
    mount.options.extend(["nosuid", "noexec", "nodev"].map(String::from));
    mount
}

/// Where its output goes, and how much of it is kept.
fn log(host: &HostOptions, directory: &Path) -> Option<LogSpec> {
    if host.log_config.kind == "none" {
        return None;
    }
    let option = |name: &str| host.log_config.config.get(name);
    // `local` rotates unless told otherwise.
    let (size, files) = if host.log_config.kind == "local" { (20 << 20, 5) } else { (0, 1) };
    Some(LogSpec {
        path: directory.join("container.log"),
        max_size: option("max-size").and_then(|text| byte_size(text)).unwrap_or(size),
        max_files: option("max-file").and_then(|text| text.parse().ok()).unwrap_or(files),
    })
}

/// `10m`, `1g`, `500k`, `100`.
pub(super) fn byte_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.trim_end_matches('b');
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok().map(|number| number << shift)
}

fn environment(record: &Record, hostname: &str) -> Vec<String> {
    let given = |name: &str| record.options.env.iter().any(|entry| entry.split('=').next() == Some(name));
    // A name without a value takes the variable away.
    let mut env = Vec::new();
    if !given("PATH") {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    }
    if !given("HOSTNAME") {
        env.push(format!("HOSTNAME={hostname}"));
    }
    if record.options.tty && !given("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(record.options.env.iter().filter(|entry| entry.contains('=')).cloned());
    env
}

fn tmpfs(destination: &str, options: &[&str]) -> Mount {
    Mount {
        source: "tmpfs".into(),
        destination: destination.into(),
        fstype: "tmpfs".into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn mounts(record: &Record, directory: &Path) -> Vec<Mount> {
    let host = &record.host;
    let mut mounts = Vec::new();
    for file in ["resolv.conf", "hostname", "hosts"] {
        let destination = format!("/etc/{file}");
        if !record.mounts.iter().any(|mount| mount.destination == destination) {
            mounts.push(Mount::bind(directory.join(file).to_string_lossy(), destination, host.readonly_rootfs));
        }
    }
    for (destination, options) in host.tmpfs.iter().flatten() {
        let mut all = vec!["noexec", "nosuid", "nodev"];
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let opposite = match option {
                "exec" => "noexec",
                "suid" => "nosuid",
                "dev" => "nodev",
                _ => "",
            };
            all.retain(|other| *other != opposite);
            all.push(option);
        }
        mounts.push(tmpfs(&super::mounts::clean(destination), &all));
    }
    for mount in &record.mounts {
        match mount.kind.as_str() {
            "tmpfs" => {
                let request =
                    host.mounts.iter().find(|request| super::mounts::clean(&request.target) == mount.destination);
                mounts.push(requested_tmpfs(mount.destination.clone(), mount.rw, request));
            }
            _ => {
                mounts.push(bind(record, mount, directory));
            }
        }
    }
    mounts
}

/// A bind mount or volume, with all that was asked of it.
fn bind(record: &Record, mount: &MountPoint, directory: &Path) -> Mount {
    let mut bind = Mount::bind(mount.source.clone(), mount.destination.clone(), !mount.rw);
    let requests = record.host.mounts.iter();
    let request = requests.into_iter().find(|request| super::mounts::clean(&request.target) == mount.destination);
    let asked = |name: &str| {
        let options = request.and_then(|request| request.bind_options.as_ref());
        options.is_some_and(|options| options[name].as_bool() == Some(true))
    };
    let alone = asked("NonRecursive");
    let shallow = record.shallow_read_only || asked("ReadOnlyNonRecursive");
    if !mount.rw && !alone && (!shallow || asked("ReadOnlyForceRecursive")) {
        bind.options[2] = "rro".to_owned();
    }
    if alone {
        bind.options[0] = "bind".to_owned();
    }
    // Containers' directories are two below the engine's.
    let own = directory.ancestors().nth(2).unwrap_or(directory);
    match mount.propagation.as_str() {
        "" => {}
        // That nobody asked for: as far as the host's mounts go.
        "rslave" if super::mounts::holds(own, &mount.source) => drop(bind.options.remove(1)),
        propagation => propagation.clone_into(&mut bind.options[1]),
    }
    bind
}

fn requested_tmpfs(destination: String, rw: bool, request: Option<&MountRequest>) -> Mount {
    let mut options = vec!["noexec".to_owned(), "nosuid".into(), "nodev".into()];
    if !rw {
        options.push("ro".into());
    }
    if let Some(wanted) = request.and_then(|request| request.tmpfs_options.as_ref()) {
        if wanted.size_bytes > 0 {
            options.push(format!("size={}", wanted.size_bytes));
        }
        if wanted.mode != 0 {
            options.push(format!("mode={:o}", wanted.mode));
        }
        for option in &wanted.options {
            let exec = option.first().is_some_and(|name| name == "exec");
            options.retain(|other| !exec || other != "noexec");
            options.push(option.join("="));
        }
    }
    Mount { source: "tmpfs".into(), destination, fstype: "tmpfs".into(), options }
}

/// Cgroup limits.
pub(crate) fn resources(host: &HostOptions) -> Resources {
    let positive = |number: i64| (number > 0).then_some(number);
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let (mut quota, mut period) = ((host.cpu_quota != 0).then_some(host.cpu_quota), positive(host.cpu_period));
    if host.nano_cpus > 0 {
        (quota, period) = (Some(host.nano_cpus / 10_000), Some(100_000));
    }
    Resources {
        cpu_shares: positive(host.cpu_shares).and_then(|shares| u64::try_from(shares).ok()),
        cpu_quota: quota,
        cpu_period: period.and_then(|period| u64::try_from(period).ok()),
        cpuset_cpus: text(&host.cpuset_cpus),
        cpuset_mems: text(&host.cpuset_mems),
        memory_limit: positive(host.memory),
        memory_swap: (host.memory_swap != 0).then_some(host.memory_swap),
        memory_reservation: positive(host.memory_reservation),
        memory_swappiness: host.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        oom_kill_disable: host.oom_kill_disable.filter(|wanted| *wanted),
        pids_limit: host.pids_limit.filter(|limit| *limit != 0),
        ..Resources::default()
    }
}

/// `--ulimit`.
pub(crate) fn rlimits(host: &HostOptions) -> Result<Vec<Rlimit>> {
    let known = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let limit = |number: i64| if number < 0 { u64::MAX } else { number as u64 };
    host.ulimits
        .iter()
        .map(|ulimit| match known.contains(&ulimit.name.as_str()) {
            true => Ok(Rlimit {
                kind: format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
                soft: limit(ulimit.soft),
                hard: limit(ulimit.hard),
            }),
            false => Err(ApiError::bad(format!("invalid ulimit type: {}", ulimit.name))),
        })
        .collect()
}

/// What is the engine's own (volumes, files in `/etc`) belongs to the same users in the container as on disk; what the
/// user binds keeps the host's owners, as under dockerd. The kernel does not map an overlay, which is what shows an image:
/// its files are nobody's there.
fn map_owners(record: &Record, mounts: &mut [Mount]) {
    let bound = |mount: &Mount| {
        let own = |point: &MountPoint| matches!(point.kind.as_str(), "bind" | "image");
        record.mounts.iter().any(|point| own(point) && point.destination == mount.destination)
    };
    for mount in mounts.iter_mut().filter(|mount| mount.fstype == "bind" && !bound(mount)) {
        mount.options.push("idmap".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            [byte_size("10m"), byte_size("1kb"), byte_size("7"), byte_size("1x")],
            [Some(10 << 20), Some(1024), Some(7), None]
        );
    }

    #[test]
    fn cpus_become_a_quota() {
        let host = HostOptions { nano_cpus: 1_500_000_000, ..HostOptions::default() };
        assert_eq!((resources(&host).cpu_quota, resources(&host).cpu_period), (Some(150_000), Some(100_000)));
    }
}
