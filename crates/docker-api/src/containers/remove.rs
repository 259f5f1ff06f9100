//! `DELETE /containers/NAME`, and `--rm`.

use std::sync::Arc;

use http::StatusCode;

use super::record::Status;
use super::table::Container;
use super::{life, shown};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, empty};

/// Removes a container.
pub(crate) async fn remove(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    if call.flag("link") {
        unlink(&daemon, call.param("name"))?;
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let container = daemon.containers.find(call.param("name"))?;
    take_away(&daemon, &container, call.flag("force"), call.flag("v")).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Takes a link away, which `docker rm --link` names without escaping its slash.
pub(crate) async fn remove_link(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let name = format!("{}/{}", call.param("name"), call.param("alias"));
    if !call.flag("link") {
        return Err(ApiError::not_found(format!("No such container: {name}")));
    }
    unlink(&daemon, &name)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Takes a link (`PARENT/ALIAS`) away; both containers stay.
fn unlink(daemon: &Daemon, name: &str) -> Result<()> {
    let Some((parent, alias)) = name.trim_start_matches('/').rsplit_once('/') else {
        return Err(ApiError::conflict("Conflict, cannot remove the default link name of the container"));
    };
    let missing = |_| ApiError::internal(format!("Cannot get parent /{parent} for link name {name}"));
    let container = daemon.containers.find(parent).map_err(missing)?;
    container.change(|record| {
        let links = record.host.links.iter_mut();
        links.for_each(|links| links.retain(|link| link.rsplit(':').next() != Some(alias)));
        record.host.links.take_if(|links| links.is_empty());
    })
}

/// Removes a container that ended, with its anonymous volumes.
pub(super) async fn auto(daemon: &Arc<Daemon>, container: &Arc<Container>) {
    // Whoever waits for its removal need not wait until the last of its run is gone.
    let turn = container.early_turn().await;
    match take_away_in(daemon, container, turn, false, true).await {
        Ok(()) => {}
        Err(error) if error.status == StatusCode::CONFLICT || error.status == StatusCode::NOT_FOUND => {}
        Err(error) => tracing::warn!(container = container.id, %error, "a container was not removed"),
    }
}

/// Removes a container; with `force` it is killed first.
pub(super) async fn take_away(
    daemon: &Arc<Daemon>,
    container: &Arc<Container>,
    force: bool,
    volumes: bool,
) -> Result<()> {
    let turn = container.turn().await;
    take_away_in(daemon, container, turn, force, volumes).await
}

async fn take_away_in(
    daemon: &Arc<Daemon>,
    container: &Arc<Container>,
    _turn: tokio::sync::MutexGuard<'_, ()>,
    force: bool,
    volumes: bool,
) -> Result<()> {
    let status = container.status();
    let busy =
        |what: &str| Err(ApiError::conflict(format!("cannot remove container \"{}\": {what}", container.name())));
    match status {
        Status::Removing => {
            return Err(ApiError::conflict(format!("removal of container {} is already in progress", container.id)));
        }
        Status::Running if !force => {
            return busy("container is running: stop the container before removing or force remove");
        }
        Status::Paused if !force => return busy("container is paused and must be unpaused first"),
        Status::Restarting if !force => {
            return busy("container is restarting: stop the container before removing or force remove");
        }
        _ => {}
    }
    if container.moments.borrow().removed {
        return Err(ApiError::not_found(format!("No such container: {}", container.id)));
    }
    container.restart.lock().cancel();
    if status.is_live() {
        // Its end is not to remove it a second time.
        container.note(|record| record.host.auto_remove = false);
        life::slay(daemon, container).await?;
        drop(container.sweep().await);
    }
    container.note(|record| record.state.status = Status::Removing);
    let (at, of) = (daemon.clone(), container.clone());
    let removed = blocking(move || {
        at.config.content.remove_snapshot(&of.id)?;
        let record = of.snapshot();
        shown::let_go(&at, &record)?;
        at.containers.forget(&of)?;
        for volume in record.anonymous_volumes.iter().filter(|_| volumes) {
            if !at.containers.all().iter().any(|other| other.record().uses_volume(volume)) {
                at.volumes.forget(volume)?;
            }
        }
        Ok(record)
    })
    .await;
    let record = removed.inspect_err(|error| {
        container.record().state.status = Status::Dead;
        container.record().state.error.clone_from(&error.message);
    })?;
    daemon.execs.forget(&container.id);
    daemon.events.emit("container", "destroy", &record.id, record.event_attributes());
    container.moments.send_modify(|moment| {
        moment.removed = true;
        moment.running = false;
    });
    Ok(())
}
