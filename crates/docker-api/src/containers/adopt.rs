//! What a new daemon does with the containers of the last one.

use std::sync::Arc;

use engine::{ContainerState, SandboxState};

use super::ending::{self, should_restart};
use super::record::{Record, Status};
use super::start;
use super::table::Container;
use super::{MAIN, remove, shm};
use crate::daemon::Daemon;
use crate::error::{Result, blocking};
use crate::volumes::subpath;
use crate::{networks, time};

/// Goes on watching containers that still run, settles those that ended meanwhile, and starts those whose policy says so.
pub(crate) async fn adopt(daemon: &Arc<Daemon>) {
    for container in daemon.containers.all() {
        let record = container.snapshot();
        subpath::clear(&container.directory.join(start::PARTS));
        if matches!(record.state.status, Status::Created | Status::Exited | Status::Removing | Status::Dead) {
            clear(daemon, &record).await;
            shm::release(&container.directory);
        }
        let again = match record.state.status {
            Status::Running | Status::Paused | Status::Restarting => take_over(daemon, &container, &record).await,
            Status::Removing | Status::Dead => {
                container.note(|record| record.state.status = Status::Exited);
                remove::auto(daemon, &container).await;
                false
            }
            Status::Created => false,
            Status::Exited => wanted(&record, record.state.exit_code),
        };
        if again {
            let (daemon, container) = (daemon.clone(), container.clone());
            tokio::spawn(async move {
                if let Err(error) = start::run(&daemon, &container).await {
                    tracing::warn!(container = container.id, %error, "a container could not be started again");
                }
            });
        }
    }
    // What is left of containers that were removed before all of their last run was gone.
    let known = |id: &str| daemon.containers.all().iter().any(|container| container.id == id);
    for sandbox in daemon.config.engine.sandboxes().into_iter().filter(|sandbox| !known(sandbox.id())) {
        if let Err(error) = sandbox.destroy().await {
            tracing::warn!(container = sandbox.id(), %error, "what is left of a removed container was not removed");
        }
    }
    let content = &daemon.config.content;
    // One whose record could not be read is nobody's to remove.
    let recorded = |id: &str| known(id) || daemon.config.data_dir.join("containers").join(id).exists();
    for id in content.snapshot_ids().iter().filter(|id| owner(id).is_some_and(|owner| !recorded(owner))) {
        if let Err(error) = content.remove_snapshot(id) {
            tracing::warn!(snapshot = id, %error, "the layer of a removed container was not removed");
        }
    }
    daemon.volumes.unmount_unheld();
}

/// The container that a snapshot belongs to, if it is one of Docker's.
fn owner(snapshot: &str) -> Option<&str> {
    let owner = snapshot.split('.').next()?;
    (owner.len() == 64 && owner.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(owner)
}

/// Takes away what a start that the last daemon did not live to see the end of has left.
async fn clear(daemon: &Arc<Daemon>, record: &Record) {
    let Some(sandbox) = daemon.config.engine.sandbox(&record.id) else { return };
    if let Err(error) = sandbox.destroy().await {
        tracing::warn!(container = record.id, %error, "what is left of a start was not removed");
    }
    let (at, of) = (daemon.clone(), record.clone());
    let _ = blocking(move || networks::detach(&at, &of)).await;
}

/// Whether the container is to be started again.
async fn take_over(daemon: &Arc<Daemon>, container: &Arc<Container>, record: &Record) -> bool {
    let sandbox = daemon.config.engine.sandbox(&record.id);
    let status = sandbox.as_ref().and_then(|sandbox| sandbox.container(MAIN));
    if let (Some(sandbox), Some(status)) = (&sandbox, &status)
        && sandbox.status().state == SandboxState::Ready
        && matches!(status.state, ContainerState::Running | ContainerState::Paused)
    {
        container.note(|record| {
            let paused = status.state == ContainerState::Paused;
            record.state.status = if paused { Status::Paused } else { Status::Running };
        });
        let (at, of) = (daemon.clone(), record.clone());
        // The bridge, its resolver and the names come back; the links were there all the time.
        let resumed = blocking(move || {
            for mount in of.mounts.iter().filter(|mount| mount.kind == "volume") {
                at.volumes.hold(&mount.name, &of.id)?;
            }
            networks::resume(&at, &of)
        });
        let resumed = resumed.await;
        match resumed {
            Ok(held) => *container.held_ports.lock() = held,
            Err(error) => tracing::warn!(container = record.id, %error, "a container's network was not taken over"),
        }
        container.moments.send_modify(|moment| moment.running = true);
        tokio::spawn(ending::watch_end(daemon.clone(), container.clone(), sandbox.clone(), ending::FIRST_PAUSE));
        return false;
    }
    shm::release(&container.directory);
    let exit = status.and_then(|status| status.exit);
    if let Some(sandbox) = sandbox
        && let Err(error) = sandbox.destroy().await
    {
        tracing::warn!(container = record.id, %error, "what is left of a container was not removed");
    }
    let (at, of) = (daemon.clone(), record.clone());
    let _ = blocking(move || networks::detach(&at, &of)).await;
    let code = exit.map_or(255, |exit| exit.exit_code);
    if record.state.status != Status::Restarting {
        ending::settle(daemon, container, exit, code, false);
    } else {
        container.note(|record| record.state.status = Status::Exited);
        container.moments.send_modify(|moment| moment.running = false);
    }
    if record.host.auto_remove {
        remove::auto(daemon, container).await;
        return false;
    }
    wanted(record, code)
}

/// Whether a policy wants a container back with the daemon: as dockerd, any that has run before, even if a user stopped
/// it, but for `unless-stopped`.
fn wanted(record: &Record, exit_code: i32) -> bool {
    let policy = &record.host.restart_policy;
    let has_run = time::parse(&record.state.started_at).is_some();
    let stopped = policy.name == "unless-stopped" && record.manually_stopped;
    has_run && !stopped && should_restart(&policy.name, policy.maximum_retry_count, exit_code, record.restart_count)
}

/// Removes every container, running or not.
pub(crate) async fn remove_all(daemon: &Arc<Daemon>) -> Result<()> {
    for container in daemon.containers.all() {
        match remove::take_away(daemon, &container, true, false).await {
            Err(error) if error.status != http::StatusCode::NOT_FOUND => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_bring_containers_back_as_dockers_do() {
        let of = |policy: &str, stopped, started: &str| {
            let mut record = Record { manually_stopped: stopped, ..Record::default() };
            record.host.restart_policy.name = policy.into();
            record.state.started_at = started.into();
            record
        };
        let some_day = "2026-01-01T00:00:00Z";
        assert!(wanted(&of("always", true, some_day), 0));
        assert!(wanted(&of("unless-stopped", false, some_day), 0));
        assert!(!wanted(&of("unless-stopped", true, some_day), 137));
        assert!(wanted(&of("on-failure", true, some_day), 143) && !wanted(&of("on-failure", false, some_day), 0));
        assert!(!wanted(&of("always", false, time::NEVER), 127) && !wanted(&of("no", false, some_day), 1));
    }
}
