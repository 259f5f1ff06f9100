//! `/networks`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::configuration::{check_enterable, check_unused};
use super::endpoint::{connect_running, disconnect_running, redirect};
use super::record::{Driver, NetworkRecord};
use crate::containers::options::Endpoint;
use crate::containers::{Container, Record};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::filters::name_matches;
use crate::http::{Call, Response, empty, json as json_answer};
use crate::time;

/// Lists networks.
pub(crate) async fn list(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let filters = call.filters()?;
    filters.expect(&["name", "id", "driver", "label", "label!", "scope", "type", "dangling"])?;
    let dangling = filters.flag("dangling")?;
    if let Some(other) = filters.values("type").iter().find(|kind| !matches!(kind.as_str(), "builtin" | "custom")) {
        return Err(ApiError::bad(format!("invalid filter: 'type'='{other}'")));
    }
    let kind = |record: &NetworkRecord| if record.is_predefined() { "builtin" } else { "custom" };
    let passes = |record: &NetworkRecord| {
        filters.any("name", |pattern| name_matches(pattern, &record.name))
            && filters.any("id", |prefix| record.id.starts_with(prefix))
            && filters.any("driver", |driver| driver == record.driver.as_str())
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |wanted| wanted == kind(record))
            && filters.labels(&record.labels)
            && dangling.is_none_or(|wanted| wanted == (!record.is_predefined() && users(&daemon, record).is_empty()))
    };
    let list: Vec<Value> =
        daemon.networks.all().iter().filter(|record| passes(record)).map(NetworkRecord::json).collect();
    Ok(json_answer(&list))
}

/// One network with the containers that run in it.
pub(crate) async fn inspect(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let record = daemon.networks.find(call.param("id"))?;
    let mut value = record.json();
    let mut containers = Map::new();
    for user in users(&daemon, &record).iter().filter(|user| user.state.status.is_live()) {
        let Some(endpoint) = user.networks.get(&record.name) else { continue };
        let address = match endpoint.ip_address.as_str() {
            "" => String::new(),
            ip => format!("{ip}/{}", endpoint.ip_prefix_len),
        };
        let address6 = match endpoint.global_ipv6_address.as_str() {
            "" => String::new(),
            ip => format!("{ip}/{}", endpoint.global_ipv6_prefix_len),
        };
        containers.insert(
            user.id.clone(),
            json!({
                "Name": user.name, "EndpointID": endpoint.endpoint_id, "MacAddress": endpoint.mac_address,
                "IPv4Address": address, "IPv6Address": address6,
            }),
        );
    }
    value["Containers"] = containers.into();
    // Of other networks only what their users gave is shown: tools compare it with what they would give now.
    if let Some(bridge) = daemon.networks.bridge_name(&record.id).filter(|_| record.is_predefined()) {
        value["Options"]["com.docker.network.bridge.name"] = bridge.into();
    }
    Ok(json_answer(&value))
}

/// Containers that are to be in a network, running or not.
fn users(daemon: &Daemon, network: &NetworkRecord) -> Vec<Record> {
    let all = daemon.containers.all();
    let mut users: Vec<Record> = all.iter().map(|container| container.snapshot()).collect();
    users.retain(|user| user.networks.contains_key(&network.name));
    users
}

/// Removes a network nobody is in.
pub(crate) async fn remove(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let record = daemon.networks.find(call.param("id"))?;
    if record.is_predefined() {
        return Err(ApiError::forbidden(format!("{} is a pre-defined network and cannot be removed", record.name)));
    }
    check_unused(&daemon.networks, &record)?;
    let live = users(&daemon, &record).into_iter().filter(|user| user.state.status.is_live());
    let mut endpoints: Vec<String> = live
        .map(|user| {
            let id = user.networks.get(&record.name).map_or("", |endpoint| endpoint.endpoint_id.as_str());
            format!("name:\"{}\" id:\"{}\"", user.name, id.get(..12).unwrap_or(id))
        })
        .collect();
    endpoints.sort();
    if !endpoints.is_empty() {
        return Err(ApiError::forbidden(format!(
            "error while removing network: network {} has active endpoints ({})",
            record.name,
            endpoints.join(", ")
        )));
    }
    let (at, gone) = (daemon.clone(), record.clone());
    blocking(move || at.networks.forget(&gone)).await?;
    daemon.events.emit("network", "destroy", &record.id, record.event_attributes());
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Removes all networks nobody is in.
pub(crate) async fn prune(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let filters = call.filters()?;
    filters.expect(&["label", "label!", "until"])?;
    let until = filters.values("until").first().and_then(|text| time::query(text));
    let mut deleted = Vec::new();
    for record in daemon.networks.all() {
        let old = until.is_none_or(|until| time::parse(&record.created).is_some_and(|created| created < until));
        if record.is_predefined()
            || record.configuration.is_some()
            || !old
            || !filters.labels(&record.labels)
            || !users(&daemon, &record).is_empty()
        {
            continue;
        }
        let (at, gone) = (daemon.clone(), record.clone());
        blocking(move || at.networks.forget(&gone)).await?;
        daemon.events.emit("network", "destroy", &record.id, record.event_attributes());
        deleted.push(record.name);
    }
    daemon.events.emit("network", "prune", "", BTreeMap::from([("reclaimed".into(), "0".into())]));
    Ok(json_answer(&json!({"NetworksDeleted": deleted})))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConnectRequest {
    container: String,
    endpoint_config: Endpoint,
    force: bool,
}

/// Connects a container to one more network.
pub(crate) async fn connect(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let network = daemon.networks.find(call.param("id"))?;
    let request: ConnectRequest = call.json().await?;
    check_enterable(&network)?;
    let container = daemon.containers.find(&request.container)?;
    let _turn = container.turn().await;
    let record = container.snapshot();
    if record.networks.contains_key(&network.name) && record.state.status.is_live() {
        return Err(ApiError::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            record.name, network.name
        )));
    }
    let mode = record.host.network_mode.as_str();
    if mode == "none" || (network.driver == Driver::Null && !record.networks.is_empty()) {
        return Err(ApiError::bad(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    if network.driver != Driver::Bridge || mode == "host" || mode.starts_with("container:") {
        return Err(ApiError::forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    let mut endpoint = request.endpoint_config;
    super::check_wishes(&network, &endpoint)?;
    let mac = Some(endpoint.mac_address.clone()).filter(|text| !text.is_empty());
    if let Some(text) = &mac {
        super::parse_mac(text)?;
    }
    let shim = daemon.config.engine.sandbox(&container.id).and_then(|sandbox| sandbox.pid());
    if let (true, Some(shim)) = (record.state.status.is_live(), shim) {
        let (at, to, given) = (daemon.clone(), network.clone(), record.clone());
        endpoint = blocking(move || connect_running(&at, &given, &to, endpoint, shim)).await?;
    }
    container.change(|record| {
        record.networks.insert(network.name.clone(), endpoint);
        record.macs.extend(mac.map(|mac| (network.name.clone(), mac)));
    })?;
    rename_servers(&daemon, &container, record, shim).await?;
    let mut attributes = network.event_attributes();
    attributes.insert("container".into(), container.id.clone());
    daemon.events.emit("network", "connect", &network.id, attributes);
    Ok(empty(StatusCode::OK))
}

/// Takes a container out of a network.
pub(crate) async fn disconnect(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let network = daemon.networks.find(call.param("id"))?;
    let request: ConnectRequest = call.json().await?;
    let container = match daemon.containers.find(&request.container) {
        Err(_) if request.force => return Ok(empty(StatusCode::OK)),
        found => found?,
    };
    let _turn = container.turn().await;
    let record = container.snapshot();
    if !record.networks.contains_key(&network.name) {
        return Err(ApiError::forbidden(format!(
            "container {} is not connected to network {}",
            container.id, network.name
        )));
    }
    if network.driver == Driver::Host {
        return Err(ApiError::forbidden(
            "container cannot be disconnected from host network or connected to host network",
        ));
    }
    let shim = daemon.config.engine.sandbox(&container.id).and_then(|sandbox| sandbox.pid());
    if let (true, Driver::Bridge, Some(shim)) = (record.state.status.is_live(), network.driver, shim) {
        let (at, of, from) = (daemon.clone(), record.clone(), network.clone());
        blocking(move || disconnect_running(&at, &of, &from, shim)).await?;
    }
    container.change(|record| {
        record.networks.remove(&network.name);
        record.macs.remove(&network.name);
    })?;
    rename_servers(&daemon, &container, record, shim).await?;
    let mut attributes = network.event_attributes();
    attributes.insert("container".into(), container.id.clone());
    daemon.events.emit("network", "disconnect", &network.id, attributes);
    Ok(empty(StatusCode::OK))
}

/// Tells a running container whom to ask for names in the networks it is in by now.
async fn rename_servers(
    daemon: &Arc<Daemon>,
    container: &Arc<Container>,
    before: Record,
    shim: Option<i32>,
) -> Result<()> {
    let Some(shim) = shim.filter(|_| before.state.status.is_live()) else { return Ok(()) };
    let (at, of) = (daemon.clone(), container.clone());
    blocking(move || {
        redirect(&at, &of, &before, Path::new(&format!("/proc/{shim}/ns/net")));
        Ok(())
    })
    .await
}
