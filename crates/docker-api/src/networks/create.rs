//! Making a network: what is asked for, read and refused field by field.

use std::collections::BTreeMap;
use std::mem::take;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use network::Cidr;
use serde::Deserialize;
use serde_json::{Value, json};

use super::configuration::{Configuration, Ipam, check_only, take_from};
use super::record::{BRIDGE_NAME, Driver, MTU, NetworkRecord};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, created};

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
