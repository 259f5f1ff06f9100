//! A container's start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Sandbox;
use engine::content::Snapshot;
use http::StatusCode;

use super::ending::{FIRST_PAUSE, watch_end};
use super::record::{Health, MountPoint, Record, Status};
use super::spec::{self, Shared};
use super::table::Container;
use super::{MAIN, health, init_layer, root, shm, shown, users};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::networks::{self, Attached};
use crate::time;
use crate::volumes::subpath;

/// Starts a container; false when it runs already.
pub(super) async fn run(daemon: &Arc<Daemon>, container: &Arc<Container>) -> Result<bool> {
    let _turn = container.turn().await;
    match container.status() {
        Status::Running => return Ok(false),
        Status::Paused => {
            return Err(ApiError::conflict("cannot start a paused container, try unpause instead"));
        }
        Status::Removing | Status::Dead => {
            return Err(ApiError::conflict("container is marked for removal and cannot be started"));
        }
        Status::Created | Status::Exited | Status::Restarting => {}
    }
    container.restart.lock().cancel();
    // Whoever starts it begins to count anew.
    container.record().restart_count = 0;
    let result = launch(daemon, container).await;
    container.waiting.lock().clear();
    match result {
        Ok(sandbox) => {
            tokio::spawn(watch_end(daemon.clone(), container.clone(), sandbox, FIRST_PAUSE));
            Ok(true)
        }
        Err((error, code)) => {
            container.note(|record| {
                record.state.exit_code = code;
                record.state.error.clone_from(&error.message);
                record.state.pid = 0;
                if record.state.status == Status::Restarting {
                    record.state.status = Status::Exited;
                }
            });
            container.moments.send_modify(|moment| {
                moment.ends += 1;
                moment.running = false;
                moment.exit_code = code;
            });
            if container.record().host.auto_remove {
                let (daemon, container) = (daemon.clone(), container.clone());
                tokio::spawn(async move { super::remove::auto(&daemon, &container).await });
            }
            Err(error)
        }
    }
}

/// Where images and parts of volumes are mounted while a container is made, in its directory.
pub(super) const PARTS: &str = "parts";

type Failure = (ApiError, i32);

pub(super) async fn launch(daemon: &Arc<Daemon>, container: &Arc<Container>) -> Result<Sandbox, Failure> {
    let plain = |error: ApiError| (error, 128);
    let record = container.snapshot();
    let (at, of) = (daemon.clone(), container.clone());
    let prepared = blocking(move || {
        prepare(&at, &of, &record).inspect_err(|_| {
            shm::release(&of.directory);
            at.volumes.let_go(&of.id);
        })
    });
    let prepared = prepared.await.map_err(plain)?;
    // Images and parts of volumes are in their places once the container is made.
    let Prepared { attached, sandbox_spec, container_spec, parts: _parts } = prepared;
    let Attached { networks, ports, held, .. } = attached;
    let tty = container_spec.tty;
    let made = async {
        let sandbox = daemon.config.engine.create_sandbox(*sandbox_spec).await.map_err(said)?;
        let started = async {
            sandbox.create_container(*container_spec).await.map_err(said)?;
            // Whoever attached before sees the first byte.
            let waiting: Vec<_> = std::mem::take(&mut *container.waiting.lock());
            for client in waiting {
                let streams = sandbox.attach(MAIN, client.stdin).await.map_err(said)?;
                let _ = client.streams.send(streams);
            }
            let [height, width] = container.record().host.console_size;
            if tty && width > 0 {
                let size = engine::TerminalSize { width: width as u16, height: height as u16 };
                let _ = sandbox.resize_tty(MAIN, size).await;
            }
            sandbox.start(MAIN).await.map_err(said)
        };
        match started.await {
            Ok(()) => Ok(sandbox),
            Err(failure) => {
                if let Err(error) = sandbox.destroy().await {
                    tracing::warn!(container = container.id, %error, "what failed to start was not removed whole");
                }
                Err(failure)
            }
        }
    };
    let sandbox = match made.await {
        Ok(sandbox) => sandbox,
        Err(failure) => {
            let (at, of) = (daemon.clone(), container.clone());
            let _ = blocking(move || {
                shm::release(&of.directory);
                at.volumes.let_go(&of.id);
                networks::detach(&at, &of.snapshot())
            })
            .await;
            return Err(failure);
        }
    };
    let status = sandbox.container(MAIN);
    let record = container.note(|record| {
        record.networks = networks;
        record.ports = ports;
        record.manually_stopped = false;
        record.state.status = Status::Running;
        record.state.pid = status.as_ref().and_then(|status| status.pid).unwrap_or(0);
        record.state.exit_code = 0;
        record.state.error.clear();
        record.state.oom_killed = false;
        let started = status.and_then(|status| status.started_at).map(time::from_system);
        record.state.started_at = started.map_or_else(time::now, time::text);
        record.state.health =
            health::is_wanted(record).then(|| Health { status: "starting".into(), ..Health::default() });
        record.clone()
    });
    *container.held_ports.lock() = held;
    container.moments.send_modify(|moment| moment.running = true);
    networks::readdress(daemon, &record);
    announce_networks(daemon, &record, "connect");
    daemon.events.emit("container", "start", &record.id, record.event_attributes());
    Ok(sandbox)
}

/// The engine's failure in dockerd's words, with the exit code that goes with it.
fn said(error: engine::Error) -> Failure {
    let around = |text: &str| {
        format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start \
             container process: error during container init: {text}: unknown"
        )
    };
    match &error {
        // dockerd looks users up itself.
        engine::Error::Start { message, .. } | engine::Error::Create(message)
            if message.starts_with("unable to find ") =>
        {
            (ApiError::bad(message), 125)
        }
        // As dockerd: clients look for these words to tell that it cannot be invoked.
        engine::Error::Start { message, .. } if message.ends_with("is a directory") => {
            (ApiError::bad(around(message) + ": permission denied"), 126)
        }
        engine::Error::Start { message, exit_code } => {
            (ApiError::new(StatusCode::BAD_REQUEST, around(message)), *exit_code)
        }
        engine::Error::Create(message) => (ApiError::internal(around(message)), 128),
        _ => (error.into(), 128),
    }
}

pub(super) fn announce_networks(daemon: &Daemon, record: &Record, action: &str) {
    for name in record.networks.keys() {
        if let Some(network) = daemon.networks.by_name(name) {
            let mut attributes = network.event_attributes();
            attributes.insert("container".into(), record.id.clone());
            daemon.events.emit("network", action, &network.id, attributes);
        }
    }
}

struct Prepared {
    attached: Attached,
    sandbox_spec: Box<engine::SandboxSpec>,
    container_spec: Box<engine::ContainerSpec>,
    parts: subpath::Held,
}

fn prepare(daemon: &Daemon, container: &Container, record: &Record) -> Result<Prepared> {
    let content = &daemon.config.content;
    let snapshot =
        content.snapshot(&record.id).ok_or_else(|| ApiError::internal("the container's layer is missing"))?;
    let layers = layers(daemon, &snapshot);
    for mount in record.mounts.iter().filter(|mount| mount.kind == "volume") {
        daemon.volumes.hold(&mount.name, &record.id)?;
        let attributes = [
            ("container", record.id.clone()),
            ("destination", mount.destination.clone()),
            ("driver", "local".to_owned()),
            ("propagation", mount.propagation.clone()),
            ("read/write", mount.rw.to_string()),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).into();
        daemon.events.emit("volume", "mount", &mount.name, attributes);
    }
    let (mut parts, mut mounts) = (subpath::Held::default(), record.mounts.clone());
    for mount in &mut mounts {
        if mount.kind == "image" {
            parts.hold(Path::new(&mount.source), |at| shown::mount(daemon, record, &mount.destination, at))?;
        }
        if let Some(part) = record.subpath(&mount.destination) {
            let part = parts.mount(&container.directory.join(PARTS), Path::new(&mount.source), part)?;
            mount.source = part.to_string_lossy().into_owned();
        }
    }
    fill_volumes(daemon, container, record, &mounts, &layers)?;
    let shared = shared(daemon, record)?;
    shm::prepare(record, &container.directory)?;
    let groups = groups(record, &snapshot)?;
    let attached = networks::attach(daemon, record)?;
    let specs = || -> Result<_> {
        let mut written = Record { networks: attached.networks.clone(), mounts, ..record.clone() };
        written.options.env.splice(0..0, attached.environment.iter().cloned());
        networks::write_etc_files(daemon, &written, &container.directory, &attached)?;
        let hostname = std::fs::read_to_string(container.directory.join("hostname"))?.trim().to_owned();
        let sandbox = spec::sandbox(record, attached.namespace.clone(), hostname, &shared);
        let Snapshot { upper, work, .. } = snapshot;
        let main = spec::container(&written, layers, upper, work, &container.directory, groups, &shared)?;
        Ok((Box::new(sandbox), Box::new(main)))
    };
    match specs() {
        Ok((sandbox_spec, container_spec)) => Ok(Prepared { attached, sandbox_spec, container_spec, parts }),
        Err(error) => {
            networks::detach(daemon, record)?;
            Err(error)
        }
    }
}

/// What is below the writable layer, topmost first. The mount points come last: whose the directories are that the image
/// has, too, is the image's choice.
pub(super) fn layers(daemon: &Daemon, snapshot: &Snapshot) -> Vec<PathBuf> {
    let init = init_layer::path(&daemon.config.data_dir);
    snapshot.lower.iter().cloned().chain(std::iter::once(init)).collect()
}

/// Gives an empty volume, or its part, what the image has in its place.
fn fill_volumes(
    daemon: &Daemon,
    container: &Container,
    record: &Record,
    mounts: &[MountPoint],
    layers: &[PathBuf],
) -> Result<()> {
    let wants = |mount: &&MountPoint| {
        let inside = mount.destination.trim_start_matches('/');
        mount.kind == "volume"
            && !record.no_copy.contains(&mount.destination)
            && std::fs::read_dir(&mount.source).is_ok_and(|mut entries| entries.next().is_none())
            && layers.iter().any(|layer| layer.join(inside).is_dir())
    };
    for mount in mounts.iter().filter(wants) {
        root::copy_out(daemon, container, Path::new(&mount.destination), Path::new(&mount.source))?;
    }
    Ok(())
}

/// The process of a container whose namespace another joins.
fn donor(daemon: &Daemon, name: &str, namespace: &str) -> Result<i32> {
    let failed = |reason: String| ApiError::internal(format!("failed to join {namespace} namespace: {reason}"));
    let donor = daemon.containers.find(name).map_err(|error| failed(error.message))?;
    match donor.status().is_live() {
        true => Ok(donor.record().state.pid),
        false => Err(failed(format!("container {} is not running", donor.id))),
    }
}

/// The namespaces of other containers.
fn shared(daemon: &Daemon, record: &Record) -> Result<Shared> {
    let mut shared = Shared { users: users::ids(daemon, record), ..Shared::default() };
    if let Some(other) = record.host.pid_mode.strip_prefix("container:") {
        let pid = donor(daemon, other, "PID")?;
        shared.pid = Some(format!("/proc/{pid}/ns/pid"));
    }
    if let Some(other) = record.host.ipc_mode.strip_prefix("container:") {
        let pid = donor(daemon, other, "IPC")?;
        let memory = shm::of(daemon, other)?;
        shared.ipc = Some((format!("/proc/{pid}/ns/ipc").into(), memory));
    }
    Ok(shared)
}

/// `--group-add`, names resolved by the image's own file.
fn groups(record: &Record, snapshot: &Snapshot) -> Result<Vec<u32>> {
    let wanted = record.host.group_add.iter().flatten();
    let mut file = None;
    wanted
        .map(|group| {
            if let Ok(number) = group.parse() {
                return Ok(number);
            }
            let text = file.get_or_insert_with(|| {
                let layers = std::iter::once(&snapshot.upper).chain(&snapshot.lower);
                layers
                    .map(|layer| layer.join("etc/group"))
                    .find_map(|path| std::fs::read_to_string(path).ok())
                    .unwrap_or_default()
            });
            let line = text.lines().find(|line| line.split(':').next() == Some(group));
            let id = line.and_then(|line| line.split(':').nth(2)?.parse().ok());
            id.ok_or_else(|| ApiError::bad(format!("Unable to find group {group}: no matching entries in group file")))
        })
        .collect()
}
