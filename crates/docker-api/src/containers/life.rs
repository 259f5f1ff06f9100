//! start, stop, restart, kill, pause and unpause.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::record::Status;
use super::table::Container;
use super::{MAIN, signal, start as starting};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, empty};

/// How long a container is given to end when nobody says.
const STOP_TIMEOUT: i64 = 10;

fn done() -> Result<Response> {
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Starts a container.
pub(crate) async fn start(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    match starting::run(&daemon, &container).await? {
        true => done(),
        false => Err(ApiError::not_modified()),
    }
}

/// Asks a container to end, and makes it.
pub(crate) async fn stop(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let (wanted, timeout) = (signal_of(&call)?, call.number("t")?);
    match end(&daemon, &container, wanted, timeout).await? {
        true => done(),
        false => Err(ApiError::not_modified()),
    }
}

/// Ends and starts it.
pub(crate) async fn restart(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let (wanted, timeout) = (signal_of(&call)?, call.number("t")?);
    let auto_remove = std::mem::take(&mut container.record().host.auto_remove);
    let ended = end(&daemon, &container, wanted, timeout).await;
    container.record().host.auto_remove = auto_remove;
    ended?;
    starting::run(&daemon, &container).await?;
    let record = container.snapshot();
    daemon.events.emit("container", "restart", &record.id, record.event_attributes());
    done()
}

fn signal_of(call: &Call) -> Result<Option<i32>> {
    let Some(text) = call.query("signal") else { return Ok(None) };
    signal::parse(text).map(Some).ok_or_else(|| ApiError::bad(format!("Invalid signal: {text}")))
}

/// Stops a container; false when it does not run. Seconds below zero wait for ever.
pub(super) async fn end(
    daemon: &Arc<Daemon>,
    container: &Arc<Container>,
    wanted: Option<i32>,
    timeout: Option<i64>,
) -> Result<bool> {
    let record = container.snapshot();
    if record.state.status == Status::Restarting {
        container.restart.lock().cancel();
        // Who restarts it may be at it already.
        let turn = container.turn().await;
        let stopped = container.change(|record| {
            record.manually_stopped = true;
            if record.state.status != Status::Restarting {
                return false;
            }
            record.state.status = Status::Exited;
            true
        })?;
        if stopped {
            container.moments.send_modify(|moment| moment.running = false);
            daemon.events.emit("container", "stop", &record.id, record.event_attributes());
            return Ok(true);
        }
        drop(turn);
    }
    if !container.status().is_live() {
        return Ok(false);
    }
    container.change(|record| record.manually_stopped = true)?;
    let timeout = timeout.or(record.options.stop_timeout).unwrap_or(STOP_TIMEOUT);
    let ends = container.moments.borrow().ends;
    send(daemon, container, wanted.unwrap_or_else(|| record.stop_signal())).await?;
    if container.status() == Status::Paused {
        thaw(daemon, container).await?;
    }
    let ended = match u64::try_from(timeout) {
        Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended(container, ends)).await.is_ok(),
        Err(_) => {
            ended(container, ends).await;
            true
        }
    };
    if !ended {
        send(daemon, container, libc::SIGKILL).await?;
        self::ended(container, ends).await;
    }
    daemon.events.emit("container", "stop", &record.id, record.event_attributes());
    Ok(true)
}

/// Kills a container and waits for its end; fine if it does not run.
pub(super) async fn slay(daemon: &Arc<Daemon>, container: &Arc<Container>) -> Result<()> {
    if !matches!(container.status(), Status::Running | Status::Paused) {
        return end(daemon, container, Some(libc::SIGKILL), Some(0)).await.map(drop);
    }
    container.change(|record| record.manually_stopped = true)?;
    let ends = container.moments.borrow().ends;
    send(daemon, container, libc::SIGKILL).await?;
    if container.status() == Status::Paused {
        thaw(daemon, container).await?;
    }
    ended(container, ends).await;
    Ok(())
}

/// Waits until a container has ended more often than `ends`.
pub(super) async fn ended(container: &Container, ends: u64) {
    let mut moments = container.moments.subscribe();
    // The sender is the container's own.
    let _ = moments.wait_for(|moment| moment.ends > ends || moment.removed).await;
}

/// Sends a signal to a running container, with the event.
pub(super) async fn send(daemon: &Daemon, container: &Container, signal: i32) -> Result<()> {
    if let Some(sandbox) = daemon.config.engine.sandbox(&container.id) {
        match sandbox.signal(MAIN, signal).await {
            // It ended at this very moment.
            Err(engine::Error::ShimGone(_) | engine::Error::NotFound { .. }) => {}
            result => result?,
        }
    }
    let record = container.snapshot();
    let mut attributes = record.event_attributes();
    attributes.insert("signal".into(), signal.to_string());
    daemon.events.emit("container", "kill", &record.id, attributes);
    Ok(())
}

/// Sends a signal.
pub(crate) async fn kill(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let signal = signal_of(&call)?.unwrap_or(libc::SIGKILL);
    if container.status() == Status::Restarting {
        // Nothing to send it to: what is about to be started is not.
        end(&daemon, &container, Some(signal), Some(0)).await?;
        return done();
    }
    if !container.status().is_live() {
        return Err(ApiError::conflict(format!(
            "cannot kill container: {}: container {} is not running",
            call.param("name"),
            container.id
        )));
    }
    let record = container.snapshot();
    if signal == libc::SIGKILL || signal == record.stop_signal() {
        container.change(|record| record.manually_stopped = true)?;
    }
    let ends = container.moments.borrow().ends;
    send(&daemon, &container, signal).await?;
    if signal == libc::SIGKILL {
        if container.status() == Status::Paused {
            thaw(&daemon, &container).await?;
        }
        let _ = tokio::time::timeout(Duration::from_secs(10), ended(&container, ends)).await;
    }
    done()
}

/// Freezes a container.
pub(crate) async fn pause(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    match container.status() {
        Status::Running => {}
        Status::Paused => return Err(ApiError::conflict(format!("container {} is already paused", container.id))),
        Status::Restarting => {
            return Err(ApiError::conflict(format!(
                "container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        _ => return Err(ApiError::conflict(format!("container {} is not running", container.id))),
    }
    sandbox(&daemon, &container)?.pause(MAIN).await?;
    let record = container.change(|record| {
        record.state.status = Status::Paused;
        record.clone()
    })?;
    daemon.events.emit("container", "pause", &record.id, record.event_attributes());
    done()
}

/// Thaws a container.
pub(crate) async fn unpause(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    if container.status() != Status::Paused {
        return Err(ApiError::conflict(format!("Container {} is not paused", container.id)));
    }
    thaw(&daemon, &container).await?;
    done()
}

async fn thaw(daemon: &Daemon, container: &Container) -> Result<()> {
    sandbox(daemon, container)?.resume(MAIN).await?;
    let record = container.change(|record| {
        if record.state.status == Status::Paused {
            record.state.status = Status::Running;
        }
        record.clone()
    })?;
    daemon.events.emit("container", "unpause", &record.id, record.event_attributes());
    Ok(())
}

/// The engine's side of a running container.
pub(super) fn sandbox(daemon: &Daemon, container: &Container) -> Result<engine::Sandbox> {
    let running = container.status().is_live().then(|| daemon.config.engine.sandbox(&container.id)).flatten();
    running.ok_or_else(|| ApiError::conflict(format!("container {} is not running", container.id)))
}
