//! Changing a container: limits, restart policy, name.

use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::options::{HostOptions, RestartPolicy};
use super::record::Status;
use super::{MAIN, accept, life, spec};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, Version, empty, json as json_answer};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    cpu_shares: i64,
    memory: i64,
    nano_cpus: i64,
    cpu_period: i64,
    cpu_quota: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    memory_reservation: i64,
    memory_swap: i64,
    pids_limit: Option<i64>,
    blkio_weight: u16,
    restart_policy: RestartPolicy,
}

/// Changes limits and the restart policy.
pub(crate) async fn update(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let mut request: Request = call.json().await?;
    let container = daemon.containers.find(call.param("name"))?;
    if call.version < Version(40) {
        request.pids_limit = None;
    }
    let record = container.snapshot();
    let mut host = record.host;
    let failed = |text: &str| ApiError::conflict(format!("Cannot update container {}: {text}", container.id));
    if !request.restart_policy.name.is_empty() {
        accept::restart_policy(&request.restart_policy)?;
    }
    accept::limits(&HostOptions {
        memory: request.memory,
        // Of a container that has a limit, that for swap may be changed alone.
        memory_swap: if request.memory == 0 { 0 } else { request.memory_swap },
        memory_reservation: request.memory_reservation,
        nano_cpus: request.nano_cpus,
        cpu_period: request.cpu_period,
        cpu_quota: request.cpu_quota,
        cpu_shares: request.cpu_shares,
        cpuset_cpus: request.cpuset_cpus.clone(),
        cpuset_mems: request.cpuset_mems.clone(),
        ..HostOptions::default()
    })?;
    if matches!(record.state.status, Status::Removing | Status::Dead) {
        return Err(ApiError::conflict(format!(
            "Cannot update container {}: container is marked for removal and cannot be \"update\"",
            container.id
        )));
    }
    if request.memory > 0 {
        // That of a container without any is 0, and smaller.
        if request.memory_swap == 0 && request.memory > host.memory_swap {
            return Err(failed(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ));
        }
        host.memory = request.memory;
    }
    if host.nano_cpus > 0 && request.cpu_period > 0 {
        return Err(failed("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"));
    }
    if host.nano_cpus > 0 && request.cpu_quota > 0 {
        return Err(failed("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"));
    }
    let set = |mine: &mut i64, wanted: i64| {
        if wanted != 0 {
            *mine = wanted;
        }
    };
    set(&mut host.memory_swap, request.memory_swap);
    set(&mut host.memory_reservation, request.memory_reservation);
    set(&mut host.cpu_shares, request.cpu_shares);
    set(&mut host.cpu_period, request.cpu_period);
    set(&mut host.cpu_quota, request.cpu_quota);
    if request.nano_cpus > 0 {
        for (own, name) in [(host.cpu_period, "Period"), (host.cpu_quota, "Quota")] {
            if own > 0 {
                return Err(failed(&format!(
                    "Conflicting options: Nano CPUs cannot be updated as CPU {name} has already been set"
                )));
            }
        }
        host.nano_cpus = request.nano_cpus;
    }
    if !request.cpuset_cpus.is_empty() {
        host.cpuset_cpus = request.cpuset_cpus;
    }
    if !request.cpuset_mems.is_empty() {
        host.cpuset_mems = request.cpuset_mems;
    }
    if request.blkio_weight > 0 {
        host.blkio_weight = request.blkio_weight;
    }
    if let Some(limit) = request.pids_limit {
        // Whatever is not above nothing means that there is no limit.
        host.pids_limit = Some(limit.max(0));
    }
    let policy = request.restart_policy;
    if !policy.name.is_empty() {
        if host.auto_remove && policy.name != "no" {
            return Err(failed("Restart policy cannot be updated because AutoRemove is enabled for the container"));
        }
        host.restart_policy = policy;
    }
    if let Ok(sandbox) = life::sandbox(&daemon, &container) {
        let unlimited = host.pids_limit.filter(|limit| *limit == 0).map(|_| -1);
        let resources = spec::resources(&host);
        let resources = engine::Resources { pids_limit: resources.pids_limit.or(unlimited), ..resources };
        sandbox
            .update(MAIN, &resources)
            .await
            .map_err(|error| ApiError::internal(format!("Cannot update container {}: {error}", container.id)))?;
    }
    let record = container.change(|record| {
        record.host = HostOptions { ..host };
        record.clone()
    })?;
    daemon.events.emit("container", "update", &record.id, record.event_attributes());
    Ok(json_answer(&json!({"Warnings": []})))
}

/// Links lead to a container, whatever it is called.
fn relink(daemon: &Daemon, old: &str, new: &str) -> Result<()> {
    for other in daemon.containers.all() {
        let leads = |link: &String| link.split(':').next().is_some_and(|target| target.trim_start_matches('/') == old);
        if !other.record().host.links.iter().flatten().any(leads) {
            continue;
        }
        other.change(|record| {
            for link in record.host.links.iter_mut().flatten().filter(|link| leads(link)) {
                let alias = link.split_once(':').map_or(old, |(_, alias)| alias);
                *link = format!("{new}:{alias}");
            }
        })?;
    }
    Ok(())
}

/// Gives it another name.
pub(crate) async fn rename(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let name = call.query("name").unwrap_or_default().trim_start_matches('/').to_owned();
    if name.is_empty() {
        return Err(ApiError::bad("Neither old nor new names may be empty"));
    }
    let _turn = container.turn().await;
    let old = container.name();
    if old == name {
        return Err(ApiError::bad("Renaming a container with the same name as its current name"));
    }
    daemon.containers.reserve(&name, &container.id)?;
    let changed = container.change(|record| {
        record.name.clone_from(&name);
        record.clone()
    });
    daemon.containers.release(&old);
    let record = changed?;
    relink(&daemon, &old, &name)?;
    let mut attributes = record.event_attributes();
    attributes.insert("oldName".into(), format!("/{old}"));
    daemon.events.emit("container", "rename", &record.id, attributes);
    Ok(empty(StatusCode::NO_CONTENT))
}
