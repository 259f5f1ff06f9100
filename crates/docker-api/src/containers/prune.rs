//! `POST /containers/prune`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::list::sizes;
use super::record::Status;
use super::remove;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer};
use crate::time;

/// Removes all containers that do not run.
pub(crate) async fn prune(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let filters = call.filters()?;
    filters.expect(&["until", "label", "label!"])?;
    let until = match filters.values("until").first() {
        None => None,
        Some(text) => Some(time::query(text).ok_or_else(|| ApiError::bad(format!("failed to parse: {text}")))?),
    };
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for container in daemon.containers.all() {
        let record = container.snapshot();
        let old = until.is_none_or(|until| time::parse(&record.created).is_some_and(|created| created < until));
        let idle = matches!(record.state.status, Status::Created | Status::Exited | Status::Dead);
        if !idle || !old || !filters.labels(&record.options.labels) {
            continue;
        }
        let (at, of) = (daemon.clone(), record.clone());
        let size = blocking(move || Ok(sizes(&at, &of).0)).await?;
        if remove::take_away(&daemon, &container, false, false).await.is_ok() {
            reclaimed += size;
            deleted.push(record.id);
        }
    }
    daemon.events.emit("container", "prune", "", BTreeMap::from([("reclaimed".into(), reclaimed.to_string())]));
    Ok(json_answer(&json!({"ContainersDeleted": deleted, "SpaceReclaimed": reclaimed})))
}
