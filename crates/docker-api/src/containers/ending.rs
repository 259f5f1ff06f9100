//! What happens when a run ends: the record, the events, and the next run where a policy wants one.

use std::sync::Arc;
use std::time::Duration;

use engine::{ExitStatus, Sandbox};

use super::record::{Record, Status};
use super::start::{announce_networks, launch};
use super::table::Container;
use super::{MAIN, health, shm};
use crate::daemon::Daemon;
use crate::error::blocking;
use crate::networks;
use crate::time;

/// A run this long makes up for earlier failures: the next restart comes soon again.
const STEADY: Duration = Duration::from_secs(10);
/// How long a first restart waits; each further one twice as long, up to [`LONGEST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Waits for the end of a run and does what is to be done then; restarts included.
pub(super) async fn watch_end(daemon: Arc<Daemon>, container: Arc<Container>, sandbox: Sandbox, mut pause: Duration) {
    let checks = health::watch(&daemon, &container, &sandbox);
    let exit = sandbox.wait(MAIN).await;
    drop(checks);
    let sweep = container.sweep().await;
    let record = container.snapshot();
    let exit_code = exit.as_ref().map_or(255, |exit| exit.exit_code);
    // What others may want at once (addresses, ports, volumes) is let go before anybody is told; the rest of the run
    // (its shim, cgroups and mounts) goes behind their backs.
    let (at, of, directory) = (daemon.clone(), record.clone(), container.directory.clone());
    let detached = blocking(move || {
        shm::release(&directory);
        at.volumes.let_go(&of.id);
        for mount in of.mounts.iter().filter(|mount| mount.kind == "volume") {
            let attributes = [("container", of.id.clone()), ("driver", "local".to_owned())];
            let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).into();
            at.events.emit("volume", "unmount", &mount.name, attributes);
        }
        networks::detach(&at, &of)
    });
    let _ = detached.await;
    daemon.execs.run_is_over(&container.id);
    tokio::spawn({
        let id = container.id.clone();
        async move {
            if let Err(error) = sandbox.destroy().await {
                tracing::error!(container = id, %error, "an ended container was not removed from the engine");
            }
            drop(sweep);
        }
    });
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
        let _turn = container.turn().await;
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
            endpoint.ipv6_gateway.clear();
            endpoint.global_ipv6_address.clear();
            endpoint.global_ipv6_prefix_len = 0;
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
