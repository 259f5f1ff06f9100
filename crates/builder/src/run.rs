//! `RUN`: a container on the layers so far; what it writes is the next layer.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::content::Layer;
use engine::{ContainerSpec, Mount as EngineMount, Rootfs, Sandbox, UserSpec};
use rustix::fs::{self as rfs, Mode, OFlags};
use tokio::io::AsyncReadExt;

use crate::agent_socket;
use crate::dockerfile::{CacheSharing, MountKind};
use crate::error::Kind;
use crate::event::Event;
use crate::owner::Owner;
use crate::pattern::{Ignore, clean};
use crate::place::{self, Placing};
use crate::request::RunNetwork;
use crate::tree::open_in;
use crate::view::{self, Upper};
use crate::work::{Origin, SECCOMP, Work};

/// One `RUN`, ready to go.
pub(crate) struct Command {
    pub stage: usize,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub cwd: String,
    pub network: Option<String>,
    pub mounts: Vec<ReadyMount>,
    /// A here-document that is a program of its own: contents and where it is mounted.
    pub script: Option<(String, String)>,
    /// As an error names it.
    pub shown: String,
}

/// What a command has while it runs.
#[derive(Default)]
struct Held {
    /// Of cache mounts.
    locks: Vec<tokio::sync::OwnedMutexGuard<()>>,
    /// Of agents; nobody listens to them when this is dropped.
    sockets: tokio::task::JoinSet<()>,
}

/// A mount whose texts are expanded and whose sources are there.
#[derive(Clone)]
pub(crate) struct ReadyMount {
    pub kind: MountKind,
    /// Absolute.
    pub target: String,
    /// What `from` stands for; `None` for the context.
    pub from: Option<Origin>,
}

/// Runs it on these layers; returns the layer it made.
pub(crate) async fn run(work: &Arc<Work>, layers: &[Layer], command: Command) -> Result<Layer, Kind> {
    let network = match command.network.as_deref() {
        Some("none") => RunNetwork::None,
        Some("host") => RunNetwork::Host,
        _ => work.settings.network.clone(),
    };
    let sandbox = work.sandboxes.get(&network, &work.settings).await?;
    let id: String = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
    let mut held = Held::default();
    let mut mounts = Vec::new();
    let mut env = command.env.clone();
    for mount in &command.mounts {
        if let MountKind::Cache { id, sharing: CacheSharing::Locked, .. } = &mount.kind {
            let id = id.clone().unwrap_or_else(|| mount.target.clone());
            held.locks.push(work.locks.of(&id).lock_owned().await);
        }
        mounts.extend(ready(work, &sandbox, &id, mount, &mut env, &mut held).await?);
    }
    let stage_files = work.scratch("etc");
    mounts.extend(files(work, &stage_files, command.script.as_ref())?);
    if sandbox.spec().user_ids.is_some() {
        mounts.iter_mut().filter(|mount| mount.fstype == "bind").for_each(|mount| mount.options.push("idmap".into()));
    }
    let directory = work.scratch("run");
    let (upper, init) = (directory.join("upper"), directory.join("init"));
    let lower = {
        let (layers, init, scratch) = (layers.to_vec(), init.clone(), directory.join("init-work"));
        let targets: Vec<(String, bool)> = mounts
            .iter()
            .map(|mount| (mount.destination.clone(), mount.fstype != "bind" || Path::new(&mount.source).is_dir()))
            .collect();
        work.blocking(move |work| mount_points(work, &layers, &init, &scratch, &targets)).await?
    };
    let spec = ContainerSpec {
        id: id.clone(),
        rootfs: Rootfs::Overlay { lower, upper: upper.clone(), work: directory.join("work"), volatile: true },
        args: command.args.clone(),
        env,
        cwd: command.cwd.clone(),
        user: UserSpec { user: command.user.clone(), image_groups: !command.user.contains(':'), ..UserSpec::default() },
        mounts,
        seccomp: SECCOMP,
        rlimits: work.settings.rlimits.clone(),
        ..ContainerSpec::default()
    };
    prepare_upper(&upper, &spec)?;
    work.tell(Event::Running { stage: command.stage, container: id.clone() });
    let code = execute(work, &sandbox, spec, &command).await;
    match sandbox.remove_container(&id).await {
        // It was never made.
        Ok(()) | Err(engine::Error::NotFound { .. }) => {}
        Err(error) => return Err(code.err().unwrap_or_else(|| error.into())),
    }
    drop(held);
    let code = code?;
    work.tell(Event::Removed { stage: command.stage, container: id });
    if code != 0 {
        return Err(Kind::Exit { command: command.shown, code });
    }
    work.blocking(move |work| {
        let layer = work.content.commit_upper(&upper, work.settings.clamp)?;
        let _ = std::fs::remove_dir_all(&directory);
        Ok(layer)
    })
    .await
}

/// The upper directory is the container's `/`: it has the mode of the tree's.
fn prepare_upper(upper: &Path, spec: &ContainerSpec) -> Result<(), Kind> {
    std::fs::create_dir_all(upper).map_err(|e| Kind::io("create", upper, e))?;
    let Rootfs::Overlay { lower, .. } = &spec.rootfs else { return Ok(()) };
    let mode = lower.first().and_then(|top| std::fs::metadata(top).ok()).map_or(0o755, |top| top.permissions().mode());
    std::fs::set_permissions(upper, std::fs::Permissions::from_mode(mode & 0o7777))
        .map_err(|e| Kind::io("chmod", upper, e))
}

/// Starts the container and passes on what it says until it ends.
async fn execute(work: &Arc<Work>, sandbox: &Sandbox, spec: ContainerSpec, command: &Command) -> Result<i32, Kind> {
    let id = spec.id.clone();
    let failed = |error: engine::Error| match error {
        // In Docker's words; a command that never ran has no exit code.
        engine::Error::Start { message, .. } => Err(Kind::invalid(format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start \
             container process: error during container init: {message}: unknown"
        ))),
        other => Err(Kind::from(other)),
    };
    if let Err(error) = sandbox.create_container(spec).await {
        return failed(error);
    }
    let streams = sandbox.attach(&id, true).await?;
    if let Err(error) = sandbox.start(&id).await {
        return failed(error);
    }
    let copy = |output: Option<engine::Output>, error: bool| async move {
        let Some(mut output) = output else { return };
        let mut buffer = vec![0; 1 << 14];
        while let Ok(read) = output.read(&mut buffer).await {
            if read == 0 {
                return;
            }
            work.tell(Event::Output { stage: command.stage, error, bytes: buffer[..read].to_vec() });
        }
    };
    let (exit, (), ()) = tokio::join!(sandbox.wait(&id), copy(streams.stdout, false), copy(streams.stderr, true));
    Ok(exit?.exit_code)
}

/// Makes the places that something is mounted on in a layer of its own below the container's, so that they are in no
/// image. Returns the layers to run on.
fn mount_points(
    work: &Work,
    layers: &[Layer],
    init: &Path,
    scratch: &Path,
    targets: &[(String, bool)],
) -> Result<Vec<PathBuf>, Kind> {
    let fail = |e: std::io::Error| Kind::io("prepare", init, e);
    let mut lower = work.lower(layers)?;
    let root = view::open(&lower, Some(Upper { upper: init, work: scratch }), &work.empty()).map_err(fail)?;
    let usual = ["proc", "sys", "dev"].map(|name| (name.to_owned(), true));
    for (target, is_directory) in usual.iter().chain(targets) {
        let target = clean(target);
        if target == "dev" || !target.starts_with("dev/") {
            make_point(&root, &target, *is_directory).map_err(fail)?;
        }
    }
    drop(root);
    if lower.is_empty() {
        lower.push(work.empty());
    }
    if let Some(top) = lower.first()
        && let Ok(metadata) = std::fs::metadata(top)
    {
        std::fs::set_permissions(init, metadata.permissions()).map_err(fail)?;
    }
    lower.insert(0, init.to_owned());
    Ok(lower)
}

fn make_point(root: &OwnedFd, target: &str, is_directory: bool) -> std::io::Result<()> {
    if open_in(root, target.as_bytes(), OFlags::PATH).is_ok() {
        return Ok(());
    }
    if is_directory {
        return place::directory(root, target, Owner::default()).map(drop);
    }
    let (above, name) = target.rsplit_once('/').unwrap_or(("", target));
    let (parent, _) = place::directory(root, above, Owner::default())?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rfs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
        // A link to nothing: the runtime decides.
        Ok(_) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `/etc/hosts`, `/etc/resolv.conf` and a script of the command's own.
fn files(work: &Work, directory: &Path, script: Option<&(String, String)>) -> Result<Vec<EngineMount>, Kind> {
    let fail = |e: std::io::Error| Kind::io("write", directory, e);
    std::fs::create_dir_all(directory).map_err(fail)?;
    let mut hosts = match work.settings.network {
        RunNetwork::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned(),
    };
    for (name, address) in &work.settings.extra_hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let resolv = match &work.settings.resolv_conf {
        Some(text) => text.clone(),
        None => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    let mut mounts = Vec::new();
    for (name, text) in [("hosts", hosts), ("resolv.conf", resolv)] {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(fail)?;
        mounts.push(EngineMount::bind(path.display().to_string(), format!("/etc/{name}"), false));
    }
    if let Some((text, target)) = script {
        let path = directory.join("script");
        std::fs::write(&path, text).map_err(fail)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        mounts.push(EngineMount::bind(path.display().to_string(), target.clone(), true));
    }
    if let Some(size) = work.settings.shm_size {
        mounts.push(EngineMount {
            source: "tmpfs".into(),
            destination: "/dev/shm".into(),
            fstype: "tmpfs".into(),
            options: ["nosuid", "noexec", "nodev", "mode=1777", &format!("size={size}")].map(String::from).to_vec(),
        });
    }
    Ok(mounts)
}

/// Makes the source of one mount.
async fn ready(
    work: &Arc<Work>,
    sandbox: &Sandbox,
    container: &str,
    mount: &ReadyMount,
    env: &mut Vec<String>,
    held: &mut Held,
) -> Result<Option<EngineMount>, Kind> {
    match &mount.kind {
        MountKind::Tmpfs { size } => {
            let mut options = ["nosuid", "nodev", "mode=1777"].map(String::from).to_vec();
            options.extend(size.map(|size| format!("size={size}")));
            Ok(Some(EngineMount {
                source: "tmpfs".into(),
                destination: mount.target.clone(),
                fstype: "tmpfs".into(),
                options,
            }))
        }
        MountKind::Secret { id, env: variable, required, mode, uid, gid } => {
            let value = match (work.settings.secrets.get(id), &work.settings.secret_source) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(source)) => {
                    source.secret(id).await.map_err(|error| Kind::invalid(format!("secret {id}: {error}")))?
                }
                (None, None) => None,
            };
            let Some(value) = value else {
                return match required {
                    true => Err(Kind::invalid(format!("secret {id}: not found"))),
                    false => Ok(None),
                };
            };
            if let Some(variable) = variable {
                env.retain(|entry| entry.split('=').next() != Some(variable));
                env.push(format!("{variable}={}", String::from_utf8_lossy(&value)));
                if mount.target.is_empty() {
                    return Ok(None);
                }
            }
            let name = format!("{container}-{}", env.len() + held.locks.len() + id.len());
            let inside = work.sandboxes.secrets().join(format!("{name}-{}", hex::encode(id.as_bytes())));
            let path = sandbox.path(&inside);
            let fail = |e: std::io::Error| Kind::io("write", &inside, e);
            std::fs::write(&path, &value).map_err(fail)?;
            std::os::unix::fs::chown(&path, Some(*uid), Some(*gid)).map_err(fail)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).map_err(fail)?;
            let target = if mount.target.is_empty() { format!("/run/secrets/{id}") } else { mount.target.clone() };
            Ok(Some(EngineMount::bind(inside.display().to_string(), target, true)))
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            let found = match work.settings.agents.clone() {
                Some(agents) => agents.check(id).await.map(|()| agents),
                None => Err(format!("no SSH key {id:?} forwarded from the client")),
            };
            let agents = match found {
                Ok(agents) => agents,
                Err(error) if *required => return Err(Kind::Invalid(error)),
                Err(_) => return Ok(None),
            };
            let target = match mount.target.as_str() {
                "" => format!("/run/buildkit/ssh_agent.{}", held.sockets.len()),
                target => target.to_owned(),
            };
            let path = work.scratch("ssh");
            agent_socket::serve(agents, id.clone(), &path, *mode, (*uid, *gid), &mut held.sockets)?;
            if !env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK=")) {
                env.push(format!("SSH_AUTH_SOCK={target}"));
            }
            Ok(Some(EngineMount::bind(path.display().to_string(), target, false)))
        }
        MountKind::Bind { source, writable, .. } => {
            if mount.from.is_none()
                && !writable
                && let Some(path) = work.context.as_ref().and_then(|context| context.real_path(&clean(source)))
            {
                return Ok(Some(EngineMount::bind(path.display().to_string(), mount.target.clone(), true)));
            }
            let path = work.scratch("bind");
            let (from, source, target, only_read) = (mount.from.clone(), source.clone(), path.clone(), !writable);
            work.blocking(move |work| copy_out(work, from.as_ref(), &source, &target)).await?;
            Ok(Some(EngineMount::bind(path.display().to_string(), mount.target.clone(), only_read)))
        }
        MountKind::Cache { id, source, read_only, sharing, mode, uid, gid, .. } => {
            let id = id.clone().unwrap_or_else(|| mount.target.clone());
            let mut path = work.data_dir.join("mounts").join(engine::content::Digest::of(id.as_bytes()).hex());
            if *sharing == CacheSharing::Private {
                match work.locks.of(&id).try_lock_owned() {
                    Ok(guard) => held.locks.push(guard),
                    Err(_) => path = work.scratch("cache"),
                }
            }
            if !path.exists() {
                let (from, source, target) = (mount.from.clone(), source.clone(), path.clone());
                let (mode, uid, gid) = (*mode, *uid, *gid);
                work.blocking(move |work| {
                    let fail = |e: std::io::Error| Kind::io("create", &target, e);
                    match from {
                        Some(origin) => copy_out(work, Some(&origin), &source, &target)?,
                        None => std::fs::create_dir_all(&target).map_err(fail)?,
                    }
                    std::os::unix::fs::chown(&target, Some(uid), Some(gid)).map_err(fail)?;
                    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode)).map_err(fail)
                })
                .await?;
            }
            Ok(Some(EngineMount::bind(path.display().to_string(), mount.target.clone(), *read_only)))
        }
    }
}

/// Copies a path of the context or of layers to where a container can have it: no `RUN` ever writes to the user's
/// own files, and links in the path can't lead it elsewhere.
fn copy_out(work: &Work, from: Option<&Origin>, source: &str, target: &Path) -> Result<(), Kind> {
    let fail = |e: std::io::Error| Kind::io("copy", Path::new(source), e);
    let view;
    let root = match from {
        Some(origin) => {
            view = origin.root(work)?;
            &view
        }
        None => work.context.as_ref().ok_or_else(|| Kind::invalid("a bind mount needs a build context"))?,
    };
    let tree = root.tree(&clean(source), &Ignore::default()).map_err(fail)?;
    let open = |path: &Path| rfs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if tree.is_directory() {
        std::fs::create_dir_all(target).map_err(fail)?;
        let directory = open(target).map_err(|e| fail(e.into()))?;
        return place::contents(&tree, &directory, true, &Placing::default()).map_err(fail);
    }
    let above = target.parent().unwrap_or(target);
    std::fs::create_dir_all(above).map_err(fail)?;
    let directory = open(above).map_err(|e| fail(e.into()))?;
    let name = target.file_name().unwrap_or_default();
    place::file(&tree.fd, &tree.stat, &directory, name, &Placing::default()).map_err(fail)
}
