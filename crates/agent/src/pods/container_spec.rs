//! One container as the runtime wants it. All inputs are gathered before; nothing is fetched here.

use std::{collections::BTreeMap, path::Path};

use engine::{ContainerSpec, Device, LogSpec, Mount, Rootfs};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{
    context::Context,
    device_plugins::Allocation,
    paths::PodPaths,
    runtime::ImageInfo,
    spec::{
        command, environment, oom_score, qos, quantity,
        resources::{self, CgroupResources, Side},
        security::{self, Seccomp},
        user,
    },
};

/// What was gathered for a container.
pub struct Parts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Its id in the sandbox.
    pub id: String,
    /// How often it was started before.
    pub attempt: u32,
    /// Its image.
    pub image: &'a ImageInfo,
    /// Its root file system.
    pub root: Rootfs,
    /// The pod's variables.
    pub environment: Vec<(String, String)>,
    /// The mounts of its volumes.
    pub mounts: Vec<Mount>,
    /// What its devices need.
    pub devices: Allocation,
    /// The container whose processes it is to see.
    pub pid_of: Option<String>,
    /// Where the pod's things lie.
    pub paths: &'a PodPaths,
}

/// Builds it. Errors are the text of `CreateContainerError` or `CreateContainerConfigError`.
pub fn build(context: &Context, parts: Parts<'_>) -> Result<ContainerSpec, String> {
    let Parts { pod, container, image, paths, .. } = parts;
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let shared = spec.security_context.as_ref();
    let security = security::of(pod, container, context.config.seccomp_default);
    let args = command::arguments(container, &image.entrypoint, &image.cmd, &parts.environment);
    if args.is_empty() {
        return Err("no command specified".to_owned());
    }
    let environment = environment::over_image(&image.env, parts.environment);
    let from_devices = parts.devices.env.iter().filter(|(k, _)| !environment.iter().any(|(known, _)| known == *k));
    let from_devices: Vec<String> = from_devices.map(|(k, v)| format!("{k}={v}")).collect();
    let mut env: Vec<String> = environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if !environment.iter().any(|(k, _)| k == "HOSTNAME") {
        let of_pod = || super::etc_files::kernel_hostname(pod, &context.config.cluster_domain);
        let name = if spec.host_network == Some(true) { context.machine.hostname.clone() } else { of_pod()? };
        env.push(format!("HOSTNAME={name}"));
    }
    if container.tty == Some(true) && !environment.iter().any(|(k, _)| k == "TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(from_devices);
    let cgroup = resources::of(container, context.config.pod_pids_limit);
    let class = qos::of(pod);
    let request =
        resources::amount(container.resources.as_ref(), Side::Requests, "memory", quantity::whole).unwrap_or(0);
    let critical = spec.priority.is_some_and(|p| p >= 2_000_000_000);
    let mut mounts = parts.mounts;
    let of_devices = parts.devices.mounts.iter().map(|(inside, host, ro)| Mount::bind(host, inside, *ro));
    mounts.extend(of_devices);
    if security.read_only_root {
        let dir = paths.image_volumes(&container.name, parts.attempt);
        mounts.extend(image_volumes(&image.volumes, &parts.root, &dir, &mounts).map_err(|e| e.to_string())?);
    }
    mounts.extend(etc_mounts(container, paths, &mounts));
    mounts.extend(termination_mount(container, paths, parts.attempt));
    if spec.host_users == Some(false) {
        // What the kubelet does for all mounts of such a pod: files belong to the same users inside as on disk.
        // The kernel does not map an overlay, which is what shows an image: its files are nobody's there.
        let images: Vec<&str> =
            spec.volumes.iter().flatten().filter(|v| v.image.is_some()).map(|v| v.name.as_str()).collect();
        let shown = |path: &str| {
            let mounted = container.volume_mounts.iter().flatten().filter(|m| images.contains(&m.name.as_str()));
            mounted.into_iter().any(|m| m.mount_path.trim_start_matches('/') == path.trim_start_matches('/'))
        };
        for mount in mounts.iter_mut().filter(|mount| mount.fstype == "bind" && !shown(&mount.destination)) {
            mount.options.push("idmap".to_owned());
        }
    }
    let seccomp = match &security.seccomp {
        Seccomp::Unconfined => engine::Seccomp::Unconfined,
        Seccomp::RuntimeDefault => engine::Seccomp::RuntimeDefault,
        Seccomp::Localhost(path) => localhost_profile(context.data_dir(), path)?,
    };
    let mut identity = user::of(shared, container.security_context.as_ref(), &image.user);
    identity.additional_gids.extend(parts.devices.groups);
    Ok(ContainerSpec {
        id: parts.id,
        rootfs: parts.root,
        args,
        env,
        cwd: container.working_dir.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| image.working_dir.clone()),
        user: identity,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        mounts,
        capabilities: Some(engine::Capabilities::uniform(security.capabilities)),
        seccomp,
        read_only_rootfs: security.read_only_root,
        no_new_privileges: security.no_new_privileges,
        masked_paths: security.unmasked_proc.then(Vec::new),
        readonly_paths: security.unmasked_proc.then(Vec::new),
        resources: limits(&cgroup),
        oom_score_adj: Some(oom_score::adjustment(class, request, context.machine.memory_bytes, critical)),
        privileged: security.privileged,
        pid_of: parts.pid_of,
        log: Some(LogSpec {
            path: paths.log(&container.name, parts.attempt),
            max_size: context.config.log_max_size,
            max_files: context.config.log_max_files,
        }),
        devices: parts.devices.devices.into_iter().map(device).collect(),
        annotations: parts.devices.annotations,
        labels: labels(pod, container, parts.attempt),
        ..ContainerSpec::default()
    })
}

fn device((container, host, permissions): (String, String, String)) -> Device {
    Device { host_path: host.into(), container_path: container.into(), permissions }
}

/// A container's cgroup settings for the runtime.
pub fn limits(cgroup: &CgroupResources) -> engine::Resources {
    engine::Resources {
        cpu_shares: Some(cgroup.cpu_shares),
        cpu_quota: cgroup.cpu_quota,
        cpu_period: cgroup.cpu_quota.map(|_| cgroup.cpu_period),
        memory_limit: cgroup.memory_limit,
        // No swap beyond the limit, as upstream without the swap feature.
        memory_swap: cgroup.memory_limit,
        pids_limit: cgroup.pids_limit,
        // As the kubelet does on cgroup v2: what kills one process for its memory ends the container
        // (its `singleProcessOOMKill` is off by default).
        unified: BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]),
        ..engine::Resources::default()
    }
}

/// The image's VOLUME directories can be written even under a read-only root: each is a layer of its own above what
/// the image has there.
fn image_volumes(volumes: &[String], root: &Rootfs, dir: &Path, taken: &[Mount]) -> std::io::Result<Vec<Mount>> {
    let Rootfs::Overlay { lower, .. } = root else { return Ok(Vec::new()) };
    let mut mounts = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let inside = Path::new(volume.trim_start_matches('/'));
        let strange = inside.components().any(|c| !matches!(c, std::path::Component::Normal(_)));
        if strange || taken.iter().any(|m| Path::new(&m.destination) == Path::new("/").join(inside)) {
            continue;
        }
        let (upper, work) = (dir.join(format!("{index}/upper")), dir.join(format!("{index}/work")));
        std::fs::create_dir_all(&upper)?;
        std::fs::create_dir_all(&work)?;
        let real = |layer: &std::path::PathBuf| {
            let path = layer.join(inside);
            // A link in a layer could lead anywhere.
            path.canonicalize().is_ok_and(|p| p == path && p.is_dir()).then_some(path)
        };
        let below: Vec<_> = lower.iter().filter_map(real).collect();
        let destination = format!("/{}", inside.display());
        let Some(top) = below.first() else {
            mounts.push(Mount::bind(upper.to_string_lossy(), destination, false));
            continue;
        };
        let metadata = std::fs::metadata(top)?;
        std::fs::set_permissions(&upper, metadata.permissions())?;
        std::os::unix::fs::chown(
            &upper,
            Some(std::os::unix::fs::MetadataExt::uid(&metadata)),
            Some(std::os::unix::fs::MetadataExt::gid(&metadata)),
        )?;
        let layers: Vec<_> = below.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        mounts.push(Mount {
            source: "overlay".to_owned(),
            destination,
            fstype: "overlay".to_owned(),
            options: vec![
                format!("lowerdir={}", layers.join(":")),
                format!("upperdir={}", upper.display()),
                format!("workdir={}", work.display()),
            ],
        });
    }
    Ok(mounts)
}

/// The labels that CRI runtimes give.
fn labels(pod: &Pod, container: &Container, attempt: u32) -> BTreeMap<String, String> {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    BTreeMap::from([
        ("io.kubernetes.pod.name".to_owned(), text(&pod.metadata.name)),
        ("io.kubernetes.pod.namespace".to_owned(), text(&pod.metadata.namespace)),
        ("io.kubernetes.pod.uid".to_owned(), text(&pod.metadata.uid)),
        ("io.kubernetes.container.name".to_owned(), container.name.clone()),
        ("io.kubernetes.container.restartCount".to_owned(), attempt.to_string()),
    ])
}

fn etc_mounts(container: &Container, paths: &PodPaths, taken: &[Mount]) -> Vec<Mount> {
    let read_only = container.security_context.as_ref().and_then(|c| c.read_only_root_filesystem) == Some(true);
    ["hosts", "hostname", "resolv.conf"]
        .into_iter()
        .map(|file| (paths.etc(file), format!("/etc/{file}")))
        .filter(|(_, destination)| !taken.iter().any(|m| m.destination == *destination || m.destination == "/etc"))
        .map(|(source, destination)| Mount::bind(source.to_string_lossy(), destination, read_only))
        .collect()
}

/// Where its last words go.
fn termination_mount(container: &Container, paths: &PodPaths, attempt: u32) -> Option<Mount> {
    let destination = container.termination_message_path.as_deref().filter(|p| !p.is_empty())?;
    let source = paths.termination_message(&container.name, attempt);
    std::fs::create_dir_all(source.parent()?).ok()?;
    std::fs::write(&source, b"").ok()?;
    std::os::unix::fs::chown(&source, None, None).ok();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&source, everyone).ok()?;
    Some(Mount::bind(source.to_string_lossy(), destination, false))
}

fn localhost_profile(data_dir: &Path, path: &str) -> Result<engine::Seccomp, String> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("invalid seccomp profile path {path:?}"));
    }
    let file = data_dir.join("seccomp").join(path);
    let bytes = std::fs::read(&file).map_err(|e| format!("cannot load seccomp profile {:?}: {e}", file.display()))?;
    let profile = serde_json::from_slice(&bytes).map_err(|e| format!("decoding seccomp profile failed: {e}"))?;
    Ok(engine::Seccomp::Profile(profile))
}
