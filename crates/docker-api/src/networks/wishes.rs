//! What is wrong with what a container wants of a network, before it is in it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::record::NetworkRecord;
use crate::containers::options::Endpoint;
use crate::error::{ApiError, Result};

/// Refuses names and addresses that a network cannot give, in dockerd's words.
pub(crate) fn check(network: &NetworkRecord, endpoint: &Endpoint) -> Result<()> {
    let refused = |why: &str| Err(ApiError::bad(format!("invalid endpoint settings:\n{why}")));
    if endpoint.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) && !network.has_names() {
        return refused("network-scoped aliases are only supported for user-defined networks");
    }
    let Some(wanted) = &endpoint.ipam_config else { return Ok(()) };
    let (four, six) = (wanted.ipv4_address.as_str(), wanted.ipv6_address.as_str());
    if four.is_empty() && six.is_empty() {
        return Ok(());
    }
    if !network.has_names() {
        return refused("user specified IP address is supported on user defined networks only");
    }
    if !four.is_empty() && !network.range_given && !network.without_ipv4 {
        return refused(
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        );
    }
    if !four.is_empty() {
        let Ok(address) = four.parse::<Ipv4Addr>() else { return refused(&format!("invalid IPv4 address: {four}")) };
        let range = network.range.filter(|_| !network.without_ipv4);
        if !range.is_some_and(|range| range.contains(address.into())) {
            return refused(&format!("no configured subnet contains IP address {address}"));
        }
    }
    if !six.is_empty() {
        let Ok(address) = six.parse::<Ipv6Addr>() else { return refused(&format!("invalid IPv6 address: {six}")) };
        if !network.range6.is_some_and(|range| range.contains(address.into())) {
            return refused(&format!("no configured subnet contains IP address {address}"));
        }
    }
    Ok(())
}
