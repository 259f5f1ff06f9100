//! Networks that are only a configuration (`--config-only`), of which others are made (`--config-from`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::NetworkRecord;
use super::table::Networks;
use crate::error::{ApiError, Result};

/// What such a network holds: all of a request but what an operator decides (internal, attachable).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Configuration {
    #[serde(rename = "DisableIPv4")]
    pub disable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ipam {
    /// None but `default` is served.
    #[serde(skip_serializing)]
    pub driver: String,
    pub config: Vec<IpamConfig>,
    pub options: BTreeMap<String, String>,
}

/// One range; what was not given is not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct IpamConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// Whether a configuration is one; its network does nothing else.
pub(super) fn check_only(operators: bool, from: &str) -> Result<()> {
    if operators {
        return Err(ApiError::forbidden(
            "configuration network can only contain network specific fields. Network operator fields like \
             [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    if !from.is_empty() {
        return Err(ApiError::forbidden("a configuration network cannot depend on another configuration network"));
    }
    Ok(())
}

/// The configuration of that name for a network whose request has no other.
pub(super) fn take_from(networks: &Networks, from: &str, own: &Configuration) -> Result<Configuration> {
    let Configuration { disable_ipv4, enable_ipv6, ipam, options, labels } = own;
    if *disable_ipv4 || *enable_ipv6 || !labels.is_empty() || !ipam.options.is_empty() || !ipam.config.is_empty() {
        return Err(ApiError::forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if !options.is_empty() {
        return Err(ApiError::forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        ));
    }
    let found = networks.by_name(from).and_then(|network| network.configuration);
    found.ok_or_else(|| ApiError::not_found(format!("configuration network {from:?} does not exist")))
}

/// Refuses to take a configuration away that networks were made of.
pub(super) fn check_unused(networks: &Networks, record: &NetworkRecord) -> Result<()> {
    let used = networks.all().iter().any(|other| other.config_from == record.name);
    if record.configuration.is_some() && used {
        return Err(ApiError::forbidden(format!(
            "error while removing network: configuration network {:?} is in use",
            record.name
        )));
    }
    Ok(())
}

/// Refuses a container in a network that is only a configuration.
pub(super) fn check_enterable(record: &NetworkRecord) -> Result<()> {
    match record.configuration {
        Some(_) => Err(ApiError::forbidden("cannot create endpoint on configuration-only network")),
        None => Ok(()),
    }
}
