//! What becomes of each flag of `docker run`; `docs/docker.md` is written from this.

/// What the engine does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As Docker does.
    Served,
    /// Taken, shown by `inspect`, and without effect.
    Kept,
    /// Taken and dropped, with a warning to the user.
    Warned,
    /// An error of `create`.
    Refused,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// `-m, --memory`.
    pub name: &'static str,
    /// What becomes of it.
    pub state: State,
    /// A remark, or nothing.
    pub note: &'static str,
}

macro_rules! flags {
    ($(($name:literal, State::$state:ident, $note:literal),)*) => {
        &[$(Flag { name: $name, state: State::$state, note: $note }),*]
    };
}

/// Every flag of `docker run` (client 28), by name.
pub const RUN_FLAGS: &[Flag] = flags![
    ("--add-host", State::Served, "names in /etc/hosts; `host-gateway` is the default network's gateway"),
    ("--annotation", State::Kept, "shown by inspect"),
    ("-a, --attach", State::Served, ""),
    ("--blkio-weight", State::Served, "dropped with a warning where the kernel has no weights"),
    ("--blkio-weight-device", State::Served, "dropped with a warning where the kernel has no weights"),
    ("--cap-add", State::Served, ""),
    ("--cap-drop", State::Served, ""),
    ("--cgroup-parent", State::Served, "below the engine's own group"),
    ("--cgroupns", State::Served, "private where ids are remapped"),
    ("--cidfile", State::Served, ""),
    ("--cpu-count", State::Kept, "of Windows"),
    ("--cpu-percent", State::Kept, "of Windows"),
    ("--cpu-period", State::Served, ""),
    ("--cpu-quota", State::Served, ""),
    ("--cpu-rt-period", State::Refused, "as by Docker on a kernel without real-time groups"),
    ("--cpu-rt-runtime", State::Refused, "as by Docker on a kernel without real-time groups"),
    ("-c, --cpu-shares", State::Served, ""),
    ("--cpus", State::Served, ""),
    ("--cpuset-cpus", State::Served, ""),
    ("--cpuset-mems", State::Served, ""),
    ("-d, --detach", State::Served, ""),
    ("--detach-keys", State::Served, ""),
    ("--device", State::Served, ""),
    ("--device-cgroup-rule", State::Served, ""),
    ("--device-read-bps", State::Served, ""),
    ("--device-read-iops", State::Served, ""),
    ("--device-write-bps", State::Served, ""),
    ("--device-write-iops", State::Served, ""),
    ("--disable-content-trust", State::Kept, "of the client alone"),
    ("--dns", State::Served, ""),
    ("--dns-option", State::Served, ""),
    ("--dns-search", State::Served, ""),
    ("--domainname", State::Served, ""),
    ("--entrypoint", State::Served, ""),
    ("-e, --env", State::Served, ""),
    ("--env-file", State::Served, ""),
    ("--expose", State::Served, ""),
    ("--gpus", State::Refused, "in Docker's words where no driver is installed"),
    ("--group-add", State::Served, ""),
    ("--health-cmd", State::Served, ""),
    ("--health-interval", State::Served, ""),
    ("--health-retries", State::Served, ""),
    ("--health-start-interval", State::Served, ""),
    ("--health-start-period", State::Served, ""),
    ("--health-timeout", State::Served, ""),
    ("-h, --hostname", State::Served, ""),
    ("--init", State::Served, "the reaper is the engine's own"),
    ("-i, --interactive", State::Served, ""),
    ("--io-maxbandwidth", State::Kept, "of Windows"),
    ("--io-maxiops", State::Kept, "of Windows"),
    ("--ip", State::Served, ""),
    ("--ip6", State::Served, ""),
    ("--ipc", State::Served, ""),
    ("--isolation", State::Served, "default alone, as there is no other on Linux"),
    ("--kernel-memory", State::Kept, "gone from the kernel"),
    ("-l, --label", State::Served, ""),
    ("--label-file", State::Served, ""),
    ("--link", State::Served, "lines in /etc/hosts and variables on the default network, names on others"),
    ("--link-local-ip", State::Kept, "not given to the container"),
    ("--log-driver", State::Served, "json-file, local, none; any other is refused as not found"),
    ("--log-opt", State::Served, "max-size and max-file"),
    ("--mac-address", State::Served, ""),
    ("-m, --memory", State::Served, ""),
    ("--memory-reservation", State::Served, ""),
    ("--memory-swap", State::Served, ""),
    ("--memory-swappiness", State::Served, "on cgroup v1; dropped with a warning on v2, which has no such thing"),
    ("--mount", State::Served, "bind, volume, tmpfs, image"),
    ("--name", State::Served, ""),
    ("--network", State::Served, "bridge, host, none, container:NAME, user-defined"),
    ("--network-alias", State::Served, ""),
    ("--no-healthcheck", State::Served, ""),
    ("--oom-kill-disable", State::Served, "on cgroup v1; dropped with a warning on v2, which has no such thing"),
    ("--oom-score-adj", State::Served, ""),
    ("--pid", State::Served, "host, container:NAME"),
    ("--pids-limit", State::Served, ""),
    ("--platform", State::Served, "this machine's own; another is refused"),
    ("--privileged", State::Served, ""),
    ("-p, --publish", State::Served, "TCP and UDP, ranges"),
    ("-P, --publish-all", State::Served, ""),
    ("--pull", State::Served, ""),
    ("-q, --quiet", State::Served, ""),
    ("--read-only", State::Served, ""),
    ("--restart", State::Served, "over restarts of the engine and of the machine"),
    ("--rm", State::Served, ""),
    ("--runtime", State::Served, "hythe; runc is taken for it; any other is refused"),
    (
        "--security-opt",
        State::Served,
        "seccomp, no-new-privileges, systempaths, writable-cgroups; apparmor and label do nothing"
    ),
    ("--shm-size", State::Served, ""),
    ("--sig-proxy", State::Served, ""),
    ("--stop-signal", State::Served, ""),
    ("--stop-timeout", State::Served, ""),
    ("--storage-opt", State::Refused, "as by Docker on a file system without project quotas"),
    ("--sysctl", State::Served, "those of the container's own namespaces"),
    ("--tmpfs", State::Served, ""),
    ("-t, --tty", State::Served, ""),
    ("--ulimit", State::Served, ""),
    ("--use-api-socket", State::Served, "experimental, of the client alone"),
    ("-u, --user", State::Served, ""),
    ("--userns", State::Served, ""),
    ("--uts", State::Served, ""),
    ("-v, --volume", State::Served, ""),
    ("--volume-driver", State::Served, "local"),
    ("--volumes-from", State::Served, ""),
    ("-w, --workdir", State::Served, ""),
];
