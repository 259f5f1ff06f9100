//! A container's specification as an OCI runtime configuration.
//!
//! Written as JSON rather than by `oci-spec`'s builders, which add defaults of their own (open file limit, capabilities,
//! masked paths) to whatever is not said.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::seccomp;
use crate::spec::{
    Capabilities, ContainerSpec, Mount, Seccomp, default_capabilities, default_masked_paths, default_mounts,
    default_readonly_paths,
};
use crate::user::Ids;

/// Where programs are looked for when the environment does not say.
pub(crate) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What only the shim knows.
pub(crate) struct Surroundings<'a> {
    /// The root file system, mounted.
    pub rootfs: &'a Path,
    /// The user, resolved.
    pub ids: &'a Ids,
    /// The PID namespace: `None` for the host's, `Some("")` for a new one, else the path of one to join.
    pub pid_namespace: Option<String>,
    /// The user namespace to join, if any.
    pub user_namespace: Option<&'a Path>,
    /// The cgroup path to name; the process is in it already.
    pub cgroup: &'a str,
}

/// The configuration (config.json of the OCI runtime specification 1.2).
pub(crate) fn config(spec: &ContainerSpec, surroundings: &Surroundings<'_>) -> Value {
    let mut namespaces = vec![json!({"type": "mount"})];
    if !spec.host_cgroup_namespace {
        namespaces.push(json!({"type": "cgroup"}));
    }
    match surroundings.pid_namespace.as_deref() {
        None => {}
        Some("") => namespaces.push(json!({"type": "pid"})),
        Some(path) => namespaces.push(json!({"type": "pid", "path": path})),
    }
    if let Some(path) = surroundings.user_namespace {
        namespaces.push(json!({"type": "user", "path": path}));
    }
    // No filter: the launcher loads it, from a program that is kept.
    let linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": surroundings.cgroup,
        "maskedPaths": masked_paths(spec),
        "readonlyPaths": readonly_paths(spec),
        "devices": devices(spec),
    });
    json!({
        "ociVersion": "1.0.2",
        "process": process(spec, surroundings.ids),
        "root": {"path": surroundings.rootfs, "readonly": spec.read_only_rootfs},
        "mounts": mounts(spec),
        "linux": linux,
    })
}

/// What the container's first process holds beyond its own capabilities until its filter is loaded: without
/// `no_new_privs` that takes CAP_SYS_ADMIN (seccomp(2)).
pub(crate) fn lent_capability(spec: &ContainerSpec) -> Option<&'static str> {
    const SYS_ADMIN: &str = "CAP_SYS_ADMIN";
    let needed = !spec.no_new_privileges && filter(spec, false).is_some();
    (needed && !capabilities(spec, false).effective.iter().any(|name| name == SYS_ADMIN)).then_some(SYS_ADMIN)
}

/// The system call filter of the container, or of an exec in it.
pub(crate) fn filter(spec: &ContainerSpec, privileged_exec: bool) -> Option<Value> {
    // A profile of its own holds for a privileged container, too; the usual one does not.
    if privileged_exec || spec.privileged && !matches!(spec.seccomp, Seccomp::Profile(_)) {
        return None;
    }
    let effective = capabilities(spec, false).bounding;
    seccomp::resolve(&spec.seccomp, &effective, std::env::consts::ARCH)
}

fn process(spec: &ContainerSpec, ids: &Ids) -> Value {
    let mut set = capabilities(spec, false);
    for list in [&mut set.effective, &mut set.permitted] {
        list.extend(lent_capability(spec).filter(|lent| !list.iter().any(|name| name == lent)).map(str::to_owned));
    }
    let rlimits: Vec<Value> =
        spec.rlimits.iter().map(|r| json!({"type": r.kind, "soft": r.soft, "hard": r.hard})).collect();
    let mut process = json!({
        "terminal": spec.tty,
        "user": {"uid": ids.uid, "gid": ids.gid, "additionalGids": ids.additional_gids},
        "args": spec.args,
        // With HOME, or else libcontainer asks the C library for it, in the container's root.
        "env": environment(&spec.env, ids.home.as_deref()),
        "cwd": if spec.cwd.is_empty() { "/" } else { &spec.cwd },
        "rlimits": rlimits,
        "capabilities": {
            "bounding": set.bounding,
            "effective": set.effective,
            "permitted": set.permitted,
            "inheritable": set.inheritable,
            "ambient": set.ambient,
        },
    });
    if spec.no_new_privileges {
        // Absent rather than false: libcontainer takes `false` for "set", and then loads the filter too late.
        process["noNewPrivileges"] = true.into();
    }
    process
}

/// The environment with what every process needs; its home is `/` if it is not known (as runc does).
pub(crate) fn environment(env: &[String], home: Option<&str>) -> Vec<String> {
    let mut env = env.to_vec();
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push(DEFAULT_PATH.to_owned());
    }
    if !env.iter().any(|entry| entry.starts_with("HOME=") && entry.len() > 5) {
        env.retain(|entry| entry != "HOME=");
        env.push(format!("HOME={}", home.unwrap_or("/")));
    }
    env
}

/// The capability sets, without what this process itself may not hand on.
pub(crate) fn capabilities(spec: &ContainerSpec, privileged_exec: bool) -> Capabilities {
    let held = held_capabilities();
    let all = || Capabilities::uniform(NAMES.iter().copied());
    let wanted = match &spec.capabilities {
        _ if privileged_exec => all(),
        Some(set) => set.clone(),
        None if spec.privileged => all(),
        None => default_capabilities(),
    };
    let keep = |names: Vec<String>| -> Vec<String> {
        let bit = |name: &String| NAMES.iter().position(|known| known == name);
        names.into_iter().filter(|name| bit(name).is_some_and(|bit| held >> bit & 1 == 1)).collect()
    };
    Capabilities {
        bounding: keep(wanted.bounding),
        effective: keep(wanted.effective),
        inheritable: keep(wanted.inheritable),
        permitted: keep(wanted.permitted),
        ambient: keep(wanted.ambient),
    }
}

/// Whether this process could hand that capability on.
pub(crate) fn holds(name: &str) -> bool {
    NAMES.iter().position(|known| *known == name).is_some_and(|bit| held_capabilities() >> bit & 1 == 1)
}

/// This process's bounding set.
fn held_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Every capability's name, as in a container that is allowed everything.
pub fn all_capabilities() -> &'static [&'static str] {
    &NAMES
}

/// Names by number (capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The type of a mount that is none: what would be mounted there otherwise is not.
const NO_MOUNT: &str = "none";

fn mounts(spec: &ContainerSpec) -> Vec<Value> {
    let replaced = |default: &Mount| spec.mounts.iter().any(|mount| mount.destination == default.destination);
    let defaults = default_mounts(spec.privileged, writes_cgroups(spec)).into_iter().filter(|mount| !replaced(mount));
    let entry = |mount: Mount| json!({"destination": mount.destination, "type": mount.fstype, "source": mount.source, "options": mount.options});
    let own = spec.mounts.iter().filter(|mount| mount.fstype != NO_MOUNT).cloned();
    defaults.chain(own).map(entry).collect()
}

fn writes_cgroups(spec: &ContainerSpec) -> bool {
    spec.writable_cgroups.unwrap_or(spec.privileged)
}

fn masked_paths(spec: &ContainerSpec) -> Vec<String> {
    let default = || if spec.privileged { Vec::new() } else { default_masked_paths() };
    spec.masked_paths.clone().unwrap_or_else(default)
}

fn readonly_paths(spec: &ContainerSpec) -> Vec<String> {
    let default = || if spec.privileged { Vec::new() } else { default_readonly_paths() };
    let mut paths = spec.readonly_paths.clone().unwrap_or_else(default);
    let own = spec.mounts.iter().any(|mount| mount.destination == "/sys/fs/cgroup");
    if !writes_cgroups(spec) && !own {
        paths.extend(hierarchies(Path::new("/sys/fs/cgroup")));
    }
    paths
}

/// Mounts of a container's own groups of cgroup v1, in place of the one mount that stands for all of them: libcontainer
/// looks the groups up by the process's id, which means another process, or none, on the host when it joined a PID
/// namespace.
pub(crate) fn own_groups(spec: &ContainerSpec, directories: Vec<(&Path, PathBuf)>) -> Vec<Mount> {
    const ROOT: &str = "/sys/fs/cgroup";
    let replaced = spec.mounts.iter().any(|mount| mount.destination == ROOT);
    let directories: Vec<_> = directories.into_iter().filter(|(at, _)| at.starts_with(ROOT)).collect();
    if replaced || directories.is_empty() {
        return Vec::new();
    }
    let root = Mount {
        source: "tmpfs".into(),
        destination: ROOT.into(),
        fstype: "tmpfs".into(),
        options: ["noexec", "nosuid", "nodev", "mode=755"].map(String::from).into(),
    };
    let own = directories.into_iter().map(|(at, directory)| {
        let mut mount = Mount::bind(directory.to_string_lossy(), at.to_string_lossy(), !writes_cgroups(spec));
        mount.options.extend(["nosuid", "noexec", "nodev"].map(String::from));
        mount
    });
    std::iter::once(root).chain(own).collect()
}

/// The hierarchies of cgroup v1. They are mounted one by one, whatever the options of the mount that stands for all of
/// them: a container that could write there would set its own limits.
fn hierarchies(root: &Path) -> Vec<String> {
    if root.join("cgroup.controllers").exists() {
        return Vec::new();
    }
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut paths: Vec<String> = directories.map(|entry| entry.path().to_string_lossy().into_owned()).collect();
    paths.sort();
    paths
}

/// A device of the host: its type, major and minor number, permission bits and owner.
fn device(host: &Path, container: &Path) -> Option<Value> {
    let metadata = std::fs::metadata(host).ok()?;
    let kind = if metadata.file_type().is_char_device() {
        "c"
    } else if metadata.file_type().is_block_device() {
        "b"
    } else {
        return None;
    };
    Some(json!({
        "path": container,
        "type": kind,
        "major": libc::major(metadata.rdev()),
        "minor": libc::minor(metadata.rdev()),
        "fileMode": metadata.mode() & 0o777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    }))
}

/// Entries of `/dev` that every container has anyway, that belong to a terminal, or that hold no devices.
const GIVEN: [&str; 14] = [
    "null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "pts", "shm", "fd", "mqueue", ".lxc",
    ".udev",
];

fn devices(spec: &ContainerSpec) -> Vec<Value> {
    let mut found: Vec<Value> =
        spec.devices.iter().filter_map(|wanted| device(&wanted.host_path, &wanted.container_path)).collect();
    if spec.privileged {
        let mut all = Vec::new();
        host_devices(Path::new("/dev"), &mut all);
        let wanted = |path: &Path| spec.devices.iter().any(|device| device.container_path == path);
        found.extend(all.iter().filter(|path| !wanted(path)).filter_map(|path| device(path, path)));
    }
    found
}

/// Every device node below a directory. Symbolic links are not followed: they are names of what is found anyway, or
/// lead away (`/dev/stdin`).
fn host_devices(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if GIVEN.iter().any(|given| entry.file_name() == *given) {
            continue;
        }
        if kind.is_dir() {
            host_devices(&entry.path(), found);
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(entry.path());
        }
    }
}

/// The device cgroup's rules; `None` leaves all devices allowed.
pub(crate) fn device_rules(spec: &ContainerSpec) -> Option<Vec<String>> {
    if spec.privileged {
        return None;
    }
    // Making nodes is harmless without permission to open them; then null, zero, full, random, urandom, tty, console,
    // ptmx and the terminals (runtime-spec, config-linux.md, "Default Devices").
    let mut rules: Vec<String> =
        ["c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm"]
            .into_iter()
            .chain(["c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm"])
            .map(String::from)
            .collect();
    for wanted in &spec.devices {
        if let Some(found) = device(&wanted.host_path, &wanted.container_path) {
            let kind = found["type"].as_str().unwrap_or("c");
            rules.push(format!("{kind} {}:{} {}", found["major"], found["minor"], wanted.permissions));
        }
    }
    rules.extend(spec.device_rules.iter().cloned());
    Some(rules)
}
