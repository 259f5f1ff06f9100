//! What the node itself needs: the bridge, its addresses and routes, and kernel settings.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crate::hash::{fnv1a32, fnv1a64};
use crate::netlink::Links;
use crate::routes::routes;
use crate::{NetworkConfig, NetworkError};

/// The bridge's name: `hy-` and eight hexadecimal digits (interface names end at 15 characters).
pub(crate) fn bridge_name(instance: &str) -> String {
    format!("hy-{:08x}", fnv1a32(instance.as_bytes()))
}

/// The name of a network's bridge.
pub(crate) fn bridge_of(config: &NetworkConfig) -> String {
    config.bridge_name.clone().unwrap_or_else(|| bridge_name(&config.name))
}

/// The node's end of a pod's link.
pub(crate) fn port_name(instance: &str, pod: &str) -> String {
    let hash = fnv1a64(format!("{instance}/{pod}").as_bytes());
    format!("hyp{:012x}", hash & 0xffff_ffff_ffff)
}

pub(crate) fn table_name(instance: &str) -> String {
    format!("hythe-{instance}")
}

/// A locally administered address made of an IPv4 address, so that both are unique together.
pub(crate) fn mac_of(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// Makes or completes the bridge; returns its index.
pub(crate) fn prepare(
    links: &mut Links,
    config: &NetworkConfig,
    bridge: &str,
    gateway: Ipv4Addr,
) -> Result<u32, NetworkError> {
    for route in routes().iter().filter(|route| route.link != bridge && route.takes_from(config.pod_cidr)) {
        tracing::warn!(
            link = route.link,
            "this machine already routes {} elsewhere: pods in {} may not be reached until that route goes, or they \
            are given another range",
            route.range,
            config.pod_cidr
        );
    }
    let found = links.index(bridge).map_err(NetworkError::netlink("look the bridge up"))?;
    if found.is_none() {
        let mut mac = mac_of(gateway);
        // The address is a pod's where the node has none.
        mac[1] ^= u8::from(config.alone);
        links.create_bridge(bridge, mac).map_err(NetworkError::netlink("create the bridge"))?;
    }
    let index = links.index(bridge).map_err(NetworkError::netlink("look the bridge up"))?;
    let index = index.ok_or_else(|| NetworkError::netlink("create the bridge")(io::ErrorKind::NotFound.into()))?;

    // Before it is up and has addresses. Strict reverse path filtering keeps pods from lending themselves addresses;
    // route_localnet lets replies to node ports on 127.0.0.1 come back; redirects would send pods past the gateway.
    sysctl(&format!("ipv6/conf/{bridge}/disable_ipv6"), "1", Missing::Fine)?;
    sysctl(&format!("ipv4/conf/{bridge}/send_redirects"), "0", Missing::Error)?;
    sysctl(&format!("ipv4/conf/{bridge}/rp_filter"), "1", Missing::Error)?;
    sysctl(&format!("ipv4/conf/{bridge}/route_localnet"), "1", Missing::Error)?;
    sysctl("ipv4/ip_forward", "1", Missing::Error)?;

    links.up(index).map_err(NetworkError::netlink("set the bridge up"))?;
    if !config.alone {
        let prefix = config.pod_cidr.prefix();
        links.add_address(index, gateway, prefix).map_err(NetworkError::netlink("give the bridge its address"))?;
    }
    if let Some(dns) = config.cluster_dns {
        links.add_address(index, dns, 32).map_err(NetworkError::netlink("give the bridge the DNS address"))?;
    }
    // The node's own calls to Services need some route, even on a machine without a default one.
    if config.service_cidr.address() != IpAddr::from(Ipv4Addr::UNSPECIFIED) {
        links
            .add_route(index, config.service_cidr, gateway)
            .map_err(NetworkError::netlink("add the route to the Services"))?;
    }
    Ok(index)
}

/// Whether a setting may be absent from the kernel.
enum Missing {
    Fine,
    Error,
}

/// Lets the bridge have addresses of IPv6, and with `forward` the node pass its packets on.
pub(crate) fn allow_ipv6(bridge: &str, forward: bool) -> Result<(), NetworkError> {
    sysctl(&format!("ipv6/conf/{bridge}/accept_ra"), "0", Missing::Fine)?;
    sysctl(&format!("ipv6/conf/{bridge}/disable_ipv6"), "0", Missing::Error)?;
    if forward {
        sysctl("ipv6/conf/all/forwarding", "1", Missing::Error)?;
    }
    Ok(())
}

/// Writes a setting unless it already has the value (`/proc/sys` may be read-only in a container).
fn sysctl(name: &str, value: &str, missing: Missing) -> Result<(), NetworkError> {
    let path = PathBuf::from("/proc/sys/net").join(name);
    if fs::read_to_string(&path).is_ok_and(|present| present.trim() == value) {
        return Ok(());
    }
    match (fs::write(&path, value), missing) {
        (Err(error), Missing::Fine) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (outcome, _) => outcome.map_err(NetworkError::file("write", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernels_fifteen_characters() {
        let long = "a".repeat(32);
        assert_eq!(bridge_name(&long).len(), 11);
        assert_eq!(port_name(&long, &"b".repeat(200)).len(), 15);
        assert_ne!(bridge_name("a"), bridge_name("b"));
    }
}
