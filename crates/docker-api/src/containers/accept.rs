//! What is asked of a new container, completed and judged.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use engine::cgroup::Cgroups;
use engine::content::{Image, Reference};

use super::options::{Healthcheck, HostOptions, Options, RestartPolicy};
use super::{disks, mounts};
use crate::error::{ApiError, Result};
use crate::http::Version;

/// Less memory than this starts nothing.
const LEAST_MEMORY: i64 = 6 << 20;
const DEFAULT_SHM: i64 = 64 << 20;

/// Refuses another platform than the image's, so that the client pulls.
pub(crate) fn platform(wanted: &str, image: &Image, name: &str) -> Result<()> {
    let mut parts = wanted.split('/');
    let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let differs = |wanted: &str, own: &str| !wanted.is_empty() && !own.is_empty() && wanted != own;
    if differs(os, &image.config.os) || differs(architecture, &image.config.architecture) {
        let shown = Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar());
        return Err(ApiError::not_found(format!(
            "image with reference {shown} was found but its platform ({}/{}) does not match the specified platform ({wanted})",
            image.config.os, image.config.architecture
        )));
    }
    Ok(())
}

/// Refuses what the client's version of the API has not, or what does not go with the kind of a mount.
pub(super) fn mounts_of_version(version: Version, host: &HostOptions) -> Result<()> {
    for mount in &host.mounts {
        let others = [
            ("VolumeOptions", "volume", mount.volume_options.is_some()),
            ("BindOptions", "bind", mount.bind_options.is_some()),
            ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
        ];
        let stray = others.iter().find(|(_, kind, given)| *given && mount.kind != *kind);
        if let Some((options, ..)) = stray.filter(|_| version >= Version(42)) {
            return Err(ApiError::bad(format!("{options} must not be specified on mount type {:?}", mount.kind)));
        }
        let part = mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty());
        if part && version < Version(45) {
            return Err(ApiError::bad("VolumeOptions.Subpath needs API v1.45 or newer"));
        }
        if mount.kind == "image" && version < Version(48) {
            return Err(ApiError::bad("Mount type \"Image\" needs API v1.48 or newer"));
        }
    }
    Ok(())
}

/// Docker's defaults; answers warnings about what is taken and not done.
pub(super) fn complete(host: &mut HostOptions) -> Vec<String> {
    let mut warnings = Vec::new();
    let default = |text: &mut String, value: &str| {
        if text.is_empty() {
            value.clone_into(text);
        }
    };
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    default(&mut host.log_config.kind, "json-file");
    default(&mut host.restart_policy.name, "no");
    default(&mut host.ipc_mode, "private");
    default(&mut host.runtime, "hythe");
    // As dockerd: what reads its own groups' names on v1 looks them up from the host's root.
    default(&mut host.cgroupns_mode, if Cgroups::detect().is_v2() { "private" } else { "host" });
    if host.shm_size == 0 {
        host.shm_size = DEFAULT_SHM;
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    // Of cgroup v1 alone.
    let kept = |file: &str| Path::new("/sys/fs/cgroup/memory").join(file).exists();
    if host.oom_kill_disable.is_some() && !kept("memory.oom_control") {
        if host.oom_kill_disable == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
        }
        host.oom_kill_disable = None;
    }
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running \
             out of resources."
                .into(),
        );
    }
    if host.network_mode == "host" && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    if let Some(warning) = disks::weight_warning(host) {
        host.blkio_weight = 0;
        host.blkio_weight_device.clear();
        warnings.push(warning);
    }
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    if !host.privileged {
        host.masked_paths.get_or_insert_with(engine::default_masked_paths);
        host.readonly_paths.get_or_insert_with(engine::default_readonly_paths);
    }
    host.memory_swappiness = host.memory_swappiness.filter(|value| *value != -1);
    if host.memory_swappiness.is_some() && !kept("memory.swappiness") {
        host.memory_swappiness = None;
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
                .into(),
        );
    }
    warnings
}

/// Refuses options that say contrary things of the network. It is asked before anything is looked up, of what the user
/// said alone.
pub(super) fn contradictions(options: &Options, host: &HostOptions) -> Result<()> {
    let mode = host.network_mode.as_str();
    let mut parts = mode.split(':');
    let shares = parts.next() == Some("container");
    let refuse = |text: &str| Err(ApiError::bad(text));
    if shares && parts.next().is_none_or(str::is_empty) {
        return refuse("invalid network mode: invalid container format container:<name|id>");
    }
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if shares && !options.hostname.is_empty() {
        return refuse("conflicting options: hostname and the network mode");
    }
    if shares && some(&host.links) {
        return refuse(
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        );
    }
    if shares && !host.dns.is_empty() {
        return refuse("conflicting options: dns and the network mode");
    }
    if shares && some(&host.extra_hosts) {
        return refuse("conflicting options: custom host-to-IP mapping and the network mode");
    }
    if (shares || mode == "host") && !options.mac_address.is_empty() {
        return refuse("conflicting options: mac-address and the network mode");
    }
    if shares && (!host.port_bindings.is_empty() || host.publish_all_ports) {
        return refuse("conflicting options: port publishing and the container type network mode");
    }
    if shares && !options.exposed_ports.is_empty() {
        return refuse("conflicting options: port exposing and the container type network mode");
    }
    if host.uts_mode == "host" && !options.hostname.is_empty() {
        return refuse("conflicting options: hostname and the UTS mode");
    }
    if mode == "host" && some(&host.links) {
        return refuse(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    Ok(())
}

/// Refuses limits that dockerd refuses, in its words.
pub(super) fn limits(host: &HostOptions) -> Result<()> {
    let bad = |text: &str| Err(ApiError::bad(text));
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return bad("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        return bad("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(value) = host.memory_swappiness.filter(|value| !(0..=100).contains(value)) {
        return Err(ApiError::bad(format!("Invalid value: {value}, valid memory swappiness range is 0-100")));
    }
    if host.memory_reservation > 0 && host.memory_reservation < LEAST_MEMORY {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0 {
        return bad("kernel does not support CPU real-time scheduler");
    }
    if host.io_maximum_bandwidth != 0 {
        return bad("invalid option: QoS maximum bandwidth configuration is not supported on linux");
    }
    if host.io_maximum_iops != 0 {
        return bad("invalid option: QoS maximum IOPs configuration is not supported on linux");
    }
    let cpus = crate::system::processors();
    if host.nano_cpus < 0 || host.nano_cpus > cpus as i64 * 1_000_000_000 {
        return Err(ApiError::bad(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if host.shm_size < 0 {
        return bad("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(ApiError::bad(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.cpu_shares < 0 {
        return Err(ApiError::bad(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        )));
    }
    if host.cpu_shares == 1 {
        return bad("the minimum allowed cpu-shares is 2");
    }
    if host.cpu_shares > 262_144 {
        return bad("the maximum allowed cpu-shares is 262144");
    }
    for (what, name, list) in [("cpus", "cpu", &host.cpuset_cpus), ("mems", "node", &host.cpuset_mems)] {
        let Some(wanted) = numbers(list) else {
            return Err(ApiError::bad(format!("Invalid value {list} for cpuset {what}")));
        };
        let present = std::fs::read_to_string(format!("/sys/devices/system/{name}/online")).unwrap_or_default();
        let present = present.trim();
        // Where the kernel does not say, it decides.
        let missing = numbers(present).is_some_and(|present| !present.is_empty() && !wanted.is_subset(&present));
        if missing {
            let thing = if name == "cpu" { "CPUs" } else { "memory nodes" };
            return Err(ApiError::bad(format!(
                "Requested {thing} are not available - requested {list}, available: {present}"
            )));
        }
    }
    Ok(())
}

/// Refuses what else dockerd refuses, in its words.
pub(super) fn check(options: &Options, host: &HostOptions) -> Result<()> {
    limits(host)?;
    let bad = |text: &str| Err(ApiError::bad(text));
    if !matches!(host.cgroupns_mode.as_str(), "private" | "host") {
        return Err(ApiError::bad(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode)));
    }
    restart_policy(&host.restart_policy)?;
    if let Some(variable) = options.env.iter().find(|variable| variable.is_empty() || variable.starts_with('=')) {
        return Err(ApiError::bad(format!("invalid environment variable: {variable}")));
    }
    if let Some(check) = &options.healthcheck {
        healthcheck(check)?;
    }
    if host.annotations.iter().flatten().any(|(name, _)| name.is_empty()) {
        return bad("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    for target in host.tmpfs.iter().flatten().map(|(target, _)| target) {
        if !target.starts_with('/') {
            return Err(ApiError::bad(format!("invalid mount path: '{target}' mount path must be absolute")));
        }
        if mounts::clean(target) == "/" {
            return bad("invalid specification: destination can't be '/'");
        }
    }
    for entry in host.extra_hosts.iter().flatten() {
        let Some((_, address)) = entry.split_once(':').filter(|(name, _)| !name.is_empty()) else {
            return Err(ApiError::bad(format!("bad format for add-host: {entry:?}")));
        };
        let known = address == "host-gateway" || address.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if !known {
            return Err(ApiError::bad(format!("invalid IP address in add-host: {address:?}")));
        }
    }
    if !options.working_dir.is_empty() && !options.working_dir.starts_with('/') {
        return Err(ApiError::bad(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            options.working_dir
        )));
    }
    if !matches!(host.runtime.as_str(), "hythe" | "runc" | "io.containerd.runc.v2") {
        return Err(ApiError::bad(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    if let Some(request) = host.device_requests.iter().flatten().next() {
        let driver = request["Driver"].as_str().unwrap_or_default();
        let capabilities: Vec<String> = request["Capabilities"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|set| {
                let names: Vec<&str> = set.as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
                format!("[{}]", names.join(" "))
            })
            .collect();
        return Err(ApiError::bad(format!(
            "could not select device driver {driver:?} with capabilities: [{}]",
            capabilities.join(" ")
        )));
    }
    for (port, bindings) in &host.port_bindings {
        // A protocol may stand beside each.
        let number = |text: &str| text.split('/').next().unwrap_or_default().parse::<u16>().is_ok();
        let range = |text: &str| text.is_empty() || text.split('-').all(number);
        let wanted = bindings.iter().map(|binding| &binding.host_port);
        let wrong = Some(port).filter(|port| !number(port)).or_else(|| wanted.into_iter().find(|port| !range(port)));
        if let Some(port) = wrong {
            return Err(ApiError::bad(format!("invalid port specification: {port:?}")));
        }
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return bad("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    }
    if !matches!(host.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return Err(ApiError::bad(format!("invalid isolation ({}): linux only supports 'default'", host.isolation)));
    }
    if host.auto_remove && host.restart_policy.name != "no" {
        return bad("can't create 'AutoRemove' container with restart policy");
    }
    if !matches!(host.log_config.kind.as_str(), "json-file" | "local" | "none") {
        return Err(ApiError::bad(format!(
            "error looking up logging plugin {0}: plugin \"{0}\" not found",
            host.log_config.kind
        )));
    }
    log_options(host)?;
    if let Some(signal) = &options.stop_signal
        && super::signal::parse(signal).is_none()
    {
        return Err(ApiError::bad(format!("invalid signal: {signal}")));
    }
    Ok(())
}

/// Refuses a restart policy that there is not, or that counts without need.
pub(super) fn restart_policy(policy: &RestartPolicy) -> Result<()> {
    let bad = |text: &str| Err(ApiError::bad(text));
    if policy.maximum_retry_count < 0 {
        return bad(match policy.name.as_str() {
            "on-failure" => "invalid restart policy: maximum retry count cannot be negative",
            _ => {
                "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative"
            }
        });
    }
    match policy.name.as_str() {
        "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            return bad("invalid restart policy: maximum retry count can only be used with 'on-failure'");
        }
        "no" | "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return Err(ApiError::bad(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    }
    Ok(())
}

/// Refuses a check that would never come to an end.
fn healthcheck(check: &Healthcheck) -> Result<()> {
    const LEAST: i64 = 1_000_000;
    let durations = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    if let Some((name, _)) = durations.iter().find(|(_, nanoseconds)| *nanoseconds != 0 && *nanoseconds < LEAST) {
        return Err(ApiError::bad(format!("{name} in Healthcheck cannot be less than 1ms")));
    }
    if check.retries < 0 {
        return Err(ApiError::bad("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// The numbers of `0-2,7`; `None` if it is nothing of the kind.
fn numbers(text: &str) -> Option<BTreeSet<u16>> {
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// The options that each driver knows, and those that have a shape.
fn log_options(host: &HostOptions) -> Result<()> {
    const LOCAL: &[&str] = &["compress", "max-buffer-size", "max-file", "max-size", "mode"];
    const JSON_FILE: &[&str] = &[
        "compress",
        "env",
        "env-regex",
        "labels",
        "labels-regex",
        "max-buffer-size",
        "max-file",
        "max-size",
        "mode",
        "tag",
    ];
    let kind = host.log_config.kind.as_str();
    let known = match kind {
        "local" => LOCAL,
        "json-file" => JSON_FILE,
        _ => return Ok(()),
    };
    let refused = |reason: String| Err(ApiError::bad(format!("failed to initialize logging driver: {reason}")));
    for (name, value) in &host.log_config.config {
        match name.as_str() {
            name if !known.contains(&name) => {
                return Err(ApiError::bad(format!("unknown log opt '{name}' for {kind} log driver")));
            }
            "max-size" if super::spec::byte_size(value).is_none() => {
                return refused(format!("invalid size: '{value}'"));
            }
            "max-file" if value.parse::<u32>().is_err() => {
                return refused(format!("strconv.Atoi: parsing {value:?}: invalid syntax"));
            }
            "max-file" if value == "0" => return refused("max-file cannot be less than 1".into()),
            _ => {}
        }
    }
    Ok(())
}
