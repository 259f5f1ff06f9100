//! A container's start, and what happens when it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::content::Snapshot;
use engine::{ExitStatus, Sandbox};
use http::StatusCode;

use super::record::{Health, MountPoint, Record, Status};
use super::spec::{self, Shared};
use super::table::Container;
use super::{MAIN, health, init_layer, root};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::networks::{self, Attached};
use crate::time;

/// A run this long makes up for earlier failures: the next restart comes soon again.
const STEADY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Starts a container; false when it runs already.
pub(super) async fn run(daemon: &Arc<Daemon>, container: &Arc<Container>) -> Result<bool> {
    let _turn = container.turn.lock().await;
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

type Failure = (ApiError, i32);

async fn launch(daemon: &Arc<Daemon>, container: &Arc<Container>) -> Result<Sandbox, Failure> {
    let plain = |error: ApiError| (error, 128);
    let record = container.snapshot();
    let (at, of) = (daemon.clone(), container.clone());
    let prepared = blocking(move || prepare(&at, &of, &record)).await.map_err(plain)?;
    let Prepared { attached, sandbox_spec, container_spec } = prepared;
    let Attached { networks, ports, held, .. } = attached;
    let tty = container_spec.tty;
    let made = async {
        let sandbox = daemon.config.engine.create_sandbox(*sandbox_spec).await.map_err(said)?;
        let started = async {
            sandbox.create_container(*container_spec).await.map_err(said)?;
            // Whoever attached before sees the first byte.
            let waiting: Vec<_> = std::mem::take(&mut *container.waiting.lock());
            for client in waiting {
                let streams = sandbox.attach(MAIN).await.map_err(said)?;
                let _ = client.send(streams);
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
            let _ = blocking(move || networks::detach(&at, &of.snapshot())).await;
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
}

fn prepare(daemon: &Daemon, container: &Container, record: &Record) -> Result<Prepared> {
    let content = &daemon.config.content;
    let snapshot =
        content.snapshot(&record.id).ok_or_else(|| ApiError::internal("the container's layer is missing"))?;
    let layers = layers(daemon, &snapshot);
    fill_volumes(daemon, container, record, &layers)?;
    let shared = shared(daemon, record)?;
    let groups = groups(record, &snapshot)?;
    let attached = networks::attach(daemon, record)?;
    let specs = || -> Result<_> {
        let written = Record { networks: attached.networks.clone(), ..record.clone() };
        networks::write_etc_files(daemon, &written, &container.directory, &attached.addresses, &attached.links)?;
        let hostname = std::fs::read_to_string(container.directory.join("hostname"))?.trim().to_owned();
        let sandbox = spec::sandbox(record, attached.namespace.clone(), hostname, &shared);
        let Snapshot { upper, work, .. } = snapshot;
        let main = spec::container(record, layers, upper, work, &container.directory, groups, &shared)?;
        Ok((Box::new(sandbox), Box::new(main)))
    };
    match specs() {
        Ok((sandbox_spec, container_spec)) => Ok(Prepared { attached, sandbox_spec, container_spec }),
        Err(error) => {
            networks::detach(daemon, record)?;
            Err(error)
        }
    }
}

/// What is below the writable layer, topmost first.
pub(super) fn layers(daemon: &Daemon, snapshot: &Snapshot) -> Vec<PathBuf> {
    let init = init_layer::path(&daemon.config.data_dir);
    std::iter::once(init).chain(snapshot.lower.iter().cloned()).collect()
}

/// Gives an empty volume what the image has in its place.
fn fill_volumes(daemon: &Daemon, container: &Container, record: &Record, layers: &[PathBuf]) -> Result<()> {
    let wants = |mount: &&MountPoint| {
        let inside = mount.destination.trim_start_matches('/');
        mount.kind == "volume"
            && !record.no_copy.contains(&mount.destination)
            && std::fs::read_dir(&mount.source).is_ok_and(|mut entries| entries.next().is_none())
            && layers.iter().any(|layer| layer.join(inside).is_dir())
    };
    for mount in record.mounts.iter().filter(wants) {
        root::copy_out(daemon, container, Path::new(&mount.destination), Path::new(&mount.source))?;
    }
    Ok(())
}

/// The namespaces of other containers.
fn shared(daemon: &Daemon, record: &Record) -> Result<Shared> {
    let mut shared = Shared::default();
    if let Some(other) = record.host.pid_mode.strip_prefix("container:") {
        let pid = networks::running(daemon, other)?.record().state.pid;
        shared.pid = Some(format!("/proc/{pid}/ns/pid"));
    }
    if let Some(other) = record.host.ipc_mode.strip_prefix("container:") {
        let other = networks::running(daemon, other)?.snapshot();
        if other.host.ipc_mode == "private" {
            return Err(ApiError::conflict("non-shareable IPC (hint: use IpcMode:shareable for the donor container)"));
        }
        let pid = other.state.pid;
        shared.ipc = Some((format!("/proc/{pid}/ns/ipc").into(), format!("/proc/{pid}/root/dev/shm")));
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

/// Waits for the end of a run and does what is to be done then; restarts included.
pub(super) async fn watch_end(daemon: Arc<Daemon>, container: Arc<Container>, sandbox: Sandbox, mut pause: Duration) {
    let checks = health::watch(&daemon, &container, &sandbox);
    let exit = sandbox.wait(MAIN).await;
    drop(checks);
    let record = container.snapshot();
    let exit_code = exit.as_ref().map_or(255, |exit| exit.exit_code);
    let (at, of) = (daemon.clone(), record.clone());
    let (destroyed, _) = tokio::join!(sandbox.destroy(), blocking(move || networks::detach(&at, &of)));
    if let Err(error) = destroyed {
        tracing::error!(container = container.id, %error, "an ended container was not removed from the engine");
    }
    *container.held_ports.lock() = networks::HeldPorts::default();
    let policy = &record.host.restart_policy;
    let again = !container.record().manually_stopped
        && should_restart(&policy.name, policy.maximum_retry_count, exit_code, record.restart_count);
    settle(&daemon, &container, exit.ok(), exit_code, again);
    if !again {
        if record.host.auto_remove {
            super::remove::auto(&daemon, &container).await;
        }
        return;
    }
    let ran = exit_duration(&record);
    if ran >= STEADY {
        pause = FIRST_PAUSE;
    }
    let cancelled = tokio_util::sync::CancellationToken::new();
    *container.restart.lock() = cancelled.clone();
    tokio::spawn(restart_after(daemon, container, cancelled, pause));
}

/// A boxed future, since each run's end begins the next.
fn restart_after(
    daemon: Arc<Daemon>,
    container: Arc<Container>,
    cancelled: tokio_util::sync::CancellationToken,
    pause: Duration,
) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(async move {
        tokio::select! {
            () = cancelled.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let _turn = container.turn.lock().await;
        if container.status() != Status::Restarting || cancelled.is_cancelled() {
            return;
        }
        container.note(|record| record.restart_count += 1);
        match launch(&daemon, &container).await {
            Ok(sandbox) => {
                let next = (pause * 2).min(LONGEST_PAUSE);
                tokio::spawn(watch_end(daemon.clone(), container.clone(), sandbox, next));
            }
            Err((error, code)) => {
                tracing::warn!(container = container.id, %error, "a container could not be restarted");
                container.note(|record| {
                    record.state.status = Status::Exited;
                    record.state.exit_code = code;
                    record.state.error.clone_from(&error.message);
                });
            }
        }
    })
}

fn exit_duration(record: &Record) -> Duration {
    let started = time::parse(&record.state.started_at);
    let ran = started.map(|started| jiff::Timestamp::now().duration_since(started));
    ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or_default()
}

/// Docker's restart policies.
pub(super) fn should_restart(policy: &str, retries: i64, exit_code: i32, restarts: u32) -> bool {
    match policy {
        "always" | "unless-stopped" => true,
        "on-failure" => exit_code != 0 && (retries == 0 || i64::from(restarts) < retries),
        _ => false,
    }
}

/// Writes the end down and tells everybody.
pub(super) fn settle(daemon: &Daemon, container: &Container, exit: Option<ExitStatus>, exit_code: i32, again: bool) {
    let record = container.note(|record| {
        let state = &mut record.state;
        state.status = if again { Status::Restarting } else { Status::Exited };
        state.pid = 0;
        state.exit_code = exit_code;
        state.oom_killed = exit.is_some_and(|exit| exit.oom_killed);
        state.finished_at = exit.map_or_else(time::now, |exit| time::text(time::from_system(exit.finished_at)));
        if let Some(health) = &mut state.health {
            health.status = "unhealthy".into();
        }
        for endpoint in record.networks.values_mut() {
            endpoint.ip_address.clear();
            endpoint.gateway.clear();
            endpoint.mac_address.clear();
            endpoint.endpoint_id.clear();
            endpoint.ip_prefix_len = 0;
        }
        record.ports.clear();
        record.clone()
    });
    let mut attributes = record.event_attributes();
    attributes.insert("exitCode".into(), exit_code.to_string());
    attributes.insert("execDuration".into(), exit_duration(&record).as_secs().to_string());
    if record.state.oom_killed {
        daemon.events.emit("container", "oom", &record.id, record.event_attributes());
    }
    daemon.events.emit("container", "die", &record.id, attributes);
    announce_networks(daemon, &record, "disconnect");
    container.moments.send_modify(|moment| {
        moment.ends += 1;
        moment.running = again;
        moment.exit_code = exit_code;
    });
}

#[cfg(test)]
mod tests {
    use super::should_restart;

    #[test]
    fn policies_decide_as_dockers() {
        for (policy, retries, code, restarts, again) in [
            ("no", 0, 1, 0, false),
            ("always", 0, 0, 9, true),
            ("unless-stopped", 0, 137, 0, true),
            ("on-failure", 0, 0, 0, false),
            ("on-failure", 0, 1, 99, true),
            ("on-failure", 2, 1, 1, true),
            ("on-failure", 2, 1, 2, false),
        ] {
            assert_eq!(should_restart(policy, retries, code, restarts), again, "{policy} {retries} {code} {restarts}");
        }
    }
}
