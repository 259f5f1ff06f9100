//! `/volumes`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::filters::name_matches;
use crate::http::{Call, Response, Version, created, empty, json as json_answer};
use crate::system::size_of_tree;

/// The containers that have a volume among their mounts.
fn users(daemon: &Daemon, name: &str) -> Vec<String> {
    let all = daemon.containers.all();
    all.iter().filter(|container| container.record().uses_volume(name)).map(|container| container.id.clone()).collect()
}

/// Lists volumes.
pub(crate) async fn list(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let filters = call.filters()?;
    filters.expect(&["name", "driver", "label", "label!", "dangling"])?;
    let dangling = filters.flag("dangling")?;
    let list: Vec<Value> = daemon
        .volumes
        .all()
        .iter()
        .filter(|volume| {
            filters.any("name", |pattern| name_matches(pattern, &volume.name))
                && filters.any("driver", |driver| driver == "local")
                && filters.labels(&volume.labels)
                && dangling.is_none_or(|wanted| wanted == users(&daemon, &volume.name).is_empty())
        })
        .map(|volume| volume.json(&daemon.volumes))
        .collect();
    Ok(json_answer(&json!({"Volumes": list, "Warnings": null})))
}

/// One volume.
pub(crate) async fn inspect(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    Ok(json_answer(&daemon.volumes.find(call.param("name"))?.json(&daemon.volumes)))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateRequest {
    name: String,
    driver: String,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// Refuses drivers that there are not.
pub(crate) fn known_driver(name: &str, driver: &str) -> Result<()> {
    match driver {
        "" | "local" => Ok(()),
        other => Err(ApiError::not_found(format!(
            "create {name}: error looking up volume plugin {other}: plugin \"{other}\" not found"
        ))),
    }
}

/// Makes a volume.
pub(crate) async fn create(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let request: CreateRequest = call.json_or_default().await?;
    known_driver(&request.name, &request.driver)?;
    let (volume, new) = daemon.volumes.make(&request.name, request.labels, request.driver_opts)?;
    if new {
        let attributes = BTreeMap::from([("driver".into(), "local".into())]);
        daemon.events.emit("volume", "create", &volume.name, attributes);
    }
    Ok(created(&volume.json(&daemon.volumes)))
}

/// Removes a volume no container has.
pub(crate) async fn remove(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let name = call.param("name").to_owned();
    match daemon.volumes.find(&name) {
        Err(_) if call.flag("force") => return Ok(empty(StatusCode::NO_CONTENT)),
        found => drop(found?),
    }
    let users = users(&daemon, &name);
    if !users.is_empty() {
        return Err(ApiError::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
    }
    let (at, gone) = (daemon.clone(), name.clone());
    blocking(move || at.volumes.forget(&gone)).await?;
    daemon.events.emit("volume", "destroy", name, BTreeMap::from([("driver".into(), "local".into())]));
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Removes all volumes no container has: anonymous ones, or all of them with the filter `all`.
pub(crate) async fn prune(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let filters = call.filters()?;
    filters.expect(&["label", "label!", "all"])?;
    let all = filters.flag("all")?.unwrap_or(call.version < Version(42));
    blocking(move || {
        let (mut deleted, mut reclaimed) = (Vec::new(), 0);
        for volume in daemon.volumes.all() {
            let wanted = (all || volume.is_anonymous()) && filters.labels(&volume.labels);
            if !wanted || !users(&daemon, &volume.name).is_empty() {
                continue;
            }
            reclaimed += size_of_tree(&daemon.volumes.data(&volume.name));
            daemon.volumes.forget(&volume.name)?;
            daemon.events.emit("volume", "destroy", &volume.name, BTreeMap::from([("driver".into(), "local".into())]));
            deleted.push(volume.name);
        }
        daemon.events.emit("volume", "prune", "", BTreeMap::from([("reclaimed".into(), reclaimed.to_string())]));
        Ok::<_, ApiError>(json_answer(&json!({"VolumesDeleted": deleted, "SpaceReclaimed": reclaimed})))
    })
    .await
}
