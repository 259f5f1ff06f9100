//! Addresses in forms that an object may only keep, or should not have: leading zeros, IPv4 within IPv6, long forms of IPv6
//! (`k8s.io/apimachinery/pkg/util/validation/ip.go`).

use std::net::IpAddr;

use crate::strategy::{
    addresses::{is_odd, masked},
    check::parse_ip,
    field::Path,
};

/// Of one address; what is none is for validation to tell.
pub(super) fn ip(found: &mut Vec<String>, path: &Path<'_>, text: &str) {
    let Some(address) = parse_ip(text) else { return };
    let standard = shown(address);
    if is_odd(text, address) {
        found.push(format!(
            "{path}: non-standard IP address \"{text}\" will be considered invalid in a future Kubernetes release: use \
             \"{standard}\""
        ));
    } else if address.is_ipv6() && standard != text {
        found.push(format!("{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{standard}\")"));
    }
}

/// Of a range; the same.
pub(super) fn cidr(found: &mut Vec<String>, path: &Path<'_>, text: &str) {
    let Some((address, bits)) = text.split_once('/') else { return };
    let (Some(ip), Ok(length)) = (parse_ip(address), bits.parse::<u32>()) else { return };
    let Some(network) = masked(ip, length) else { return };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let standard = match network {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => format!("{}/{}", shown(network), length - 96),
        _ => format!("{network}/{length}"),
    };
    let before = found.len();
    if network != ip {
        let single = format!("{}/{most}", shown(ip));
        found.push(format!(
            "{path}: CIDR value \"{text}\" is ambiguous in this context (should be \"{standard}\" or \"{single}\"?)"
        ));
    }
    if is_odd(address, ip) || (bits.len() > 1 && bits.starts_with('0')) {
        found.push(format!(
            "{path}: non-standard CIDR value \"{text}\" will be considered invalid in a future Kubernetes release: use \
             \"{standard}\""
        ));
    }
    if found.len() == before && ip.is_ipv6() && standard != text {
        found.push(format!(
            "{path}: IPv6 CIDR value \"{text}\" should be in RFC 5952 canonical format (\"{standard}\")"
        ));
    }
}

/// As Go writes it: IPv4 within IPv6 as IPv4.
fn shown(address: IpAddr) -> String {
    address.to_canonical().to_string()
}
