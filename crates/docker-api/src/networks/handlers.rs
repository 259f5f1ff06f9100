//! `/networks`.

use std::collections::BTreeMap;
use std::mem::take;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use network::Cidr;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::configuration::{Configuration, Ipam, check_enterable, check_only, check_unused, take_from};
use super::endpoint::{connect_running, disconnect_running, redirect};
use super::record::{BRIDGE_NAME, Driver, MTU, NetworkRecord};
use crate::containers::options::Endpoint;
use crate::containers::{Container, Record};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::filters::name_matches;
use crate::http::{Call, Response, created, empty, json as json_answer};
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

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateRequest {
    name: String,
    driver: String,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<Value>,
    scope: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

impl CreateRequest {
    /// What another network may be made of.
    fn configuration(&mut self) -> Configuration {
        let Self { enable_ipv4, enable_ipv6, ipam, options, labels, .. } = self;
        Configuration {
            disable_ipv4: *enable_ipv4 == Some(false),
            enable_ipv6: *enable_ipv6,
            ipam: take(ipam),
            options: take(options),
            labels: take(labels),
        }
    }
}

/// Makes a network.
pub(crate) async fn create(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let mut request: CreateRequest = call.json().await?;
    if request.name.trim().is_empty() {
        return Err(ApiError::bad("network name cannot be empty"));
    }
    if matches!(request.name.as_str(), "bridge" | "host" | "none" | "default" | "container")
        || request.name.starts_with("container:")
    {
        return Err(ApiError::forbidden(format!("operation is not permitted on predefined {} network", request.name)));
    }
    match request.driver.as_str() {
        "" | "bridge" => {}
        "host" => return Err(ApiError::forbidden("only one instance of \"host\" network is allowed")),
        "null" => return Err(ApiError::forbidden("only one instance of \"null\" network is allowed")),
        other => {
            return Err(ApiError::not_found(format!(
                "could not find plugin {other} in v2 plugin system: plugin \"{other}\" not found"
            )));
        }
    }
    unserved(&request)?;
    if !matches!(request.ipam.driver.as_str(), "" | "default") {
        let other = &request.ipam.driver;
        return Err(ApiError::not_found(format!(
            "could not find plugin {other} in v2 plugin system: plugin \"{other}\" not found"
        )));
    }
    let from = request.config_from.as_ref().and_then(|from| from["Network"].as_str()).unwrap_or_default().to_owned();
    if request.config_only {
        check_only(request.internal || request.attachable || !request.scope.is_empty(), &from)?;
        let record = NetworkRecord {
            name: take(&mut request.name),
            driver: Driver::Null,
            configuration: Some(request.configuration()),
            ..NetworkRecord::default()
        };
        return added(&daemon, record);
    }
    if !from.is_empty() {
        let own = request.configuration();
        let disable_ipv4;
        Configuration {
            disable_ipv4,
            enable_ipv6: request.enable_ipv6,
            ipam: request.ipam,
            options: request.options,
            labels: request.labels,
        } = take_from(&daemon.networks, &from, &own)?;
        request.enable_ipv4 = Some(!disable_ipv4);
    }
    let without_ipv4 = request.enable_ipv4 == Some(false);
    if without_ipv4 && !request.enable_ipv6 {
        return Err(ApiError::bad("IPv4 or IPv6 must be enabled"));
    }
    for option in ["enable_icc", "enable_ip_masquerade"].map(|name| format!("com.docker.network.bridge.{name}")) {
        let legal = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
        if let Some(value) = request.options.get(&option).filter(|value| !legal.contains(&value.as_str())) {
            return Err(ApiError::bad(format!(
                "failed to parse {option} value: {value} (strconv.ParseBool: parsing {value:?}: invalid syntax)"
            )));
        }
    }
    if let Some(value) = request.options.get(MTU).filter(|value| value.parse::<u16>().is_err()) {
        return Err(ApiError::bad(format!(
            "failed to parse {MTU} value: {value:?} (strconv.Atoi: parsing {value:?}: invalid syntax)"
        )));
    }
    gateway_modes(&request)?;
    if let Some(name) = request.options.get(BRIDGE_NAME) {
        bridge_name(&daemon, name)?;
    }
    let (mut range, mut address_range, mut own_gateway, mut reserved) = (None, None, None, BTreeMap::new());
    let (mut range6, mut own_gateway6) = (None, None);
    for config in request.ipam.config.iter().filter(|config| !config.subnet.is_empty()) {
        let invalid = || {
            ApiError::bad(format!(
                "invalid network config:\ninvalid subnet {}: invalid CIDR block notation",
                config.subnet
            ))
        };
        let subnet: Cidr = config.subnet.parse().map_err(|_| invalid())?;
        let ignored = if subnet.address().is_ipv6() { !request.enable_ipv6 } else { without_ipv4 };
        // That of a kind that is switched off is not looked at.
        if !ignored && config.subnet.split('/').next().is_none_or(|own| own.parse() != Ok(subnet.address())) {
            return Err(ApiError::bad(format!(
                "invalid network config:\ninvalid subnet {}: it should be {subnet}",
                config.subnet
            )));
        }
        let known = if subnet.address().is_ipv6() { range6.is_some() } else { range.is_some() };
        if !ignored && known {
            return Err(ApiError::forbidden("bridge driver doesn't support multiple subnets"));
        }
        if ignored {
            continue;
        }
        if subnet.address().is_ipv4() && subnet.prefix() > SMALLEST {
            return Err(ApiError::bad(format!(
                "invalid network config:\ninvalid subnet {subnet}: it is too small: /{SMALLEST} is the least"
            )));
        }
        if subnet.address().is_ipv6() {
            own_gateway6 = gateway6(subnet, &config.gateway)?;
            range6 = Some(subnet);
            continue;
        }
        let inside = |what: &str, text: &str| -> Result<Ipv4Addr> {
            let wrong = |why: String| ApiError::bad(format!("invalid network config:\ninvalid {what} {text}: {why}"));
            let address: Ipv4Addr = text.parse().map_err(|_| wrong("invalid address".into()))?;
            match subnet.contains(address.into()) {
                true => Ok(address),
                false => Err(wrong(format!("parent subnet {subnet} doesn't contain this address"))),
            }
        };
        if !config.gateway.is_empty() {
            own_gateway = Some(inside("gateway", &config.gateway)?).filter(|own| Some(*own) != subnet.first_host4());
        }
        for (name, address) in &config.auxiliary_addresses {
            reserved.insert(name.clone(), inside("auxiliary address", address)?);
        }
        if !config.ip_range.is_empty() {
            let part: Cidr = config.ip_range.parse().map_err(|_| {
                ApiError::bad(format!(
                    "invalid network config:\ninvalid ip-range {}: invalid CIDR block notation",
                    config.ip_range
                ))
            })?;
            if !subnet.contains(part.address()) || part.prefix() < subnet.prefix() {
                return Err(ApiError::bad(format!(
                    "invalid network config:\ninvalid ip-range {part}: CIDR block is bigger than its parent subnet {subnet}"
                )));
            }
            address_range = Some(part);
        }
        range = Some(subnet);
    }
    if request.enable_ipv6 && range6.is_none() {
        range6 = Some(unique_local());
    }
    let record = NetworkRecord {
        name: request.name,
        without_ipv4,
        range6,
        own_gateway6,
        range,
        range_given: range.is_some(),
        address_range,
        own_gateway,
        reserved,
        internal: request.internal,
        attachable: request.attachable,
        options: request.options,
        labels: request.labels,
        ipam_options: request.ipam.options,
        config_from: from,
        ..NetworkRecord::default()
    };
    let record = daemon.networks.add(record)?;
    if record.options.contains_key(BRIDGE_NAME) {
        // Who names a bridge looks for it on the host; others come with their first container.
        let (at, new) = (daemon.clone(), record.clone());
        let opened =
            blocking(move || at.networks.opened(&new).map(drop).inspect_err(|_| drop(at.networks.forget(&new))));
        opened.await?;
    }
    daemon.events.emit("network", "create", &record.id, record.event_attributes());
    Ok(created(&json!({"Id": record.id, "Warning": ""})))
}

/// Adds a network of which there is nothing on the host.
fn added(daemon: &Daemon, record: NetworkRecord) -> Result<Response> {
    let record = daemon.networks.add(record)?;
    daemon.events.emit("network", "create", &record.id, record.event_attributes());
    Ok(created(&json!({"Id": record.id, "Warning": ""})))
}

/// A network of fewer addresses has no room for the host and a container.
const SMALLEST: u8 = 31;

/// Refuses what would otherwise be another network than the one that was asked for.
fn unserved(request: &CreateRequest) -> Result<()> {
    let what = match request {
        _ if request.ingress || request.scope == "swarm" => "networks of a swarm are",
        _ => return Ok(()),
    };
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("{what} not supported by this engine")))
}

/// Refuses ways to treat what goes by the gateway that there are not.
fn gateway_modes(request: &CreateRequest) -> Result<()> {
    for option in ["gateway_mode_ipv4", "gateway_mode_ipv6"].map(|name| format!("com.docker.network.bridge.{name}")) {
        let wrong =
            |value: &str, why: &str| Err(ApiError::bad(format!("failed to parse {option} value: {value} ({why})")));
        match request.options.get(&option).map(String::as_str) {
            None | Some("" | "nat" | "nat-unprotected" | "routed") => {}
            Some("isolated") if request.internal => {}
            Some("isolated") => {
                return Err(ApiError::bad("gateway mode 'isolated' can only be used for an internal network"));
            }
            Some(other) => return wrong(other, &format!("unknown gateway mode {other}")),
        }
    }
    Ok(())
}

/// Refuses a name for a bridge that cannot be one, or that something else has: a network's bridge goes with it.
fn bridge_name(daemon: &Daemon, name: &str) -> Result<()> {
    if !network::is_link_name(name) {
        return Err(ApiError::bad(format!("invalid network interface name: {name:?}")));
    }
    let networks = daemon.networks.all();
    if let Some(other) = networks.iter().find(|other| other.options.get(BRIDGE_NAME).is_some_and(|own| own == name)) {
        return Err(ApiError::forbidden(format!(
            "conflicts with network {} ({name}): networks have same bridge name",
            other.id
        )));
    }
    if Path::new("/sys/class/net").join(name).exists() {
        return Err(ApiError::forbidden(format!("an interface called {name} exists already")));
    }
    Ok(())
}

/// The gateway that was asked for, if it is another than the first address.
fn gateway6(subnet: Cidr, text: &str) -> Result<Option<Ipv6Addr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| ApiError::bad(format!("invalid network config:\ninvalid gateway {text}: {why}"));
    let gateway: Ipv6Addr = text.parse().map_err(|_| wrong("invalid address".into()))?;
    match subnet.contains(gateway.into()) {
        true => Ok(Some(gateway).filter(|own| Some(*own) != subnet.nth6(1))),
        false => Err(wrong(format!("parent subnet {subnet} doesn't contain this address"))),
    }
}

/// A range that nobody else is likely to have (RFC 4193).
fn unique_local() -> Cidr {
    let number = u128::from(rand::random::<u64>() >> 8) << 64 | 0xfd << 120;
    Cidr::new(Ipv6Addr::from(number).into(), 64).expect("64 bits fit")
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
