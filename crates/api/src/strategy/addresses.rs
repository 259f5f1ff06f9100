//! Addresses that programs read differently: with leading zeros, of IPv4 within IPv6, and ranges with bits beyond their
//! length. An object may keep those that it has, and bring no others (KEP-4858, `StrictIPCIDRValidation`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{
    check::parse_ip,
    field::{Faults, Path},
    pod,
};
use crate::status::Cause;

/// What a field holds.
#[derive(Clone, Copy)]
enum Form {
    Address,
    Range,
}

use Form::{Address, Range};

/// Fields as paths, of which each item of a list is one: `spec.externalIPs[]`.
type Fields = &'static [(&'static str, Form)];

const OF_POD: Fields = &[
    ("spec.dnsConfig.nameservers[]", Address),
    ("spec.hostAliases[].ip", Address),
    ("status.podIPs[].ip", Address),
    ("status.hostIPs[].ip", Address),
];

/// By group and kind.
const OTHERS: &[(&str, &str, Fields)] = &[
    ("", "Endpoints", &[("subsets[].addresses[].ip", Address), ("subsets[].notReadyAddresses[].ip", Address)]),
    ("", "Node", &[("spec.podCIDRs[]", Range)]),
    (
        "",
        "Service",
        &[
            ("spec.clusterIPs[]", Address),
            ("spec.externalIPs[]", Address),
            ("spec.loadBalancerSourceRanges[]", Range),
            ("status.loadBalancer.ingress[].ip", Address),
        ],
    ),
    ("discovery.k8s.io", "EndpointSlice", &[("endpoints[].addresses[]", Address)]),
    ("networking.k8s.io", "Ingress", &[("status.loadBalancer.ingress[].ip", Address)]),
    (
        "networking.k8s.io",
        "NetworkPolicy",
        &[
            ("spec.ingress[].from[].ipBlock.cidr", Range),
            ("spec.ingress[].from[].ipBlock.except[]", Range),
            ("spec.egress[].to[].ipBlock.cidr", Range),
            ("spec.egress[].to[].ipBlock.except[]", Range),
        ],
    ),
];

/// The addresses that an object brings and may not. Text that is no address at all is for the kind's own validation.
pub fn faults(group: &str, kind: &str, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut faults = Faults::new();
    let (place, fields) = match pod::template_of(group, kind) {
        Some(place) => (place, OF_POD),
        None => match OTHERS.iter().find(|row| row.0 == group && row.1 == kind) {
            Some((_, _, fields)) => ("", *fields),
            None => return Vec::new(),
        },
    };
    let root = Path::root(place);
    let at_place = |object| place.split('.').filter(|field| !field.is_empty()).fold(object, |tree: &Value, f| &tree[f]);
    for (field, form) in fields {
        each(at_place(new), field, &root, &mut |path, text| {
            let Some(why) = fault(*form, text) else { return };
            let mut kept = false;
            if let Some(old) = old {
                each(at_place(old), field, &root, &mut |_, before| kept |= before == text);
            }
            if !kept {
                faults.invalid(path, text, why);
            }
        });
    }
    faults.into_causes()
}

/// Visits the texts at a field.
fn each(value: &Value, field: &str, path: &Path<'_>, visit: &mut dyn FnMut(&Path<'_>, &str)) {
    if field.is_empty() {
        return value.as_str().into_iter().for_each(|text| visit(path, text));
    }
    let (step, rest) = field.split_once('.').unwrap_or((field, ""));
    match step.strip_suffix("[]") {
        None => each(&value[step], rest, &path.field(step), visit),
        Some(name) => {
            for (index, item) in value[name].as_array().into_iter().flatten().enumerate() {
                each(item, rest, &path.field(name).index(index), visit);
            }
        }
    }
}

fn fault(form: Form, text: &str) -> Option<&'static str> {
    match form {
        Address => match parse_ip(text)? {
            IpAddr::V4(_) => is_padded(text).then_some("must not have leading 0s"),
            IpAddr::V6(six) => six.to_ipv4_mapped().map(|_| "must not be an IPv4-mapped IPv6 address"),
        },
        Range => {
            let (address, bits) = text.trim().split_once('/')?;
            let (ip, length) = (parse_ip(address)?, bits.parse().ok()?);
            if is_padded(address) || (bits.len() > 1 && bits.starts_with('0')) {
                Some("must not have leading 0s in IP or prefix length")
            } else if is_odd(address, ip) {
                Some("must not have an IPv4-mapped IPv6 address")
            } else {
                (masked(ip, length)? != ip).then_some("must not have bits set beyond the prefix length")
            }
        }
    }
}

/// An IPv4 address that is read only if its leading zeros are overlooked.
fn is_padded(text: &str) -> bool {
    !text.contains(':') && text.parse::<Ipv4Addr>().is_err()
}

/// Whether the text of an address is read differently by different programs.
pub(crate) fn is_odd(text: &str, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => is_padded(text),
        IpAddr::V6(six) => six.to_ipv4_mapped().is_some(),
    }
}

/// The first `length` bits of an address; `None` if it has not as many.
pub(crate) fn masked(address: IpAddr, length: u32) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(length)?).unwrap_or(0);
            Ipv4Addr::from_bits(four.to_bits() & mask).into()
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(length)?).unwrap_or(0);
            Ipv6Addr::from_bits(six.to_bits() & mask).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(group: &str, kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        faults(group, kind, new, old).into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn what_programs_read_differently_may_not_be_brought() {
        let service = json!({"spec": {
            "externalIPs": ["010.9.9.9", "10.9.9.9", "::ffff:10.0.0.1", "fd00:0::1", "none"],
            "loadBalancerSourceRanges": ["10.0.0.1/8", "10.0.0.0/08", "::ffff:10.0.0.0/104", "10.0.0.0/8", " fd00::/8 "],
        }});
        assert_eq!(
            found("", "Service", &service, None),
            [
                "spec.externalIPs[0]: Invalid value: \"010.9.9.9\": must not have leading 0s",
                "spec.externalIPs[2]: Invalid value: \"::ffff:10.0.0.1\": must not be an IPv4-mapped IPv6 address",
                "spec.loadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
                "spec.loadBalancerSourceRanges[1]: Invalid value: \"10.0.0.0/08\": must not have leading 0s in IP or prefix length",
                "spec.loadBalancerSourceRanges[2]: Invalid value: \"::ffff:10.0.0.0/104\": must not have an IPv4-mapped IPv6 address",
            ]
        );
    }

    #[test]
    fn what_is_there_may_stay_and_move() {
        let old = json!({"spec": {"externalIPs": ["010.9.9.9"]}});
        let new = json!({"spec": {"externalIPs": ["10.1.1.1", "010.9.9.9", "010.9.9.8"]}});
        assert_eq!(
            found("", "Service", &new, Some(&old)),
            ["spec.externalIPs[2]: Invalid value: \"010.9.9.8\": must not have leading 0s"]
        );
    }

    #[test]
    fn templates_are_looked_into() {
        let aliases = json!({"spec": {"hostAliases": [{"ip": "01.2.3.4"}]}});
        let said = "hostAliases[0].ip: Invalid value: \"01.2.3.4\": must not have leading 0s";
        assert_eq!(found("", "Pod", &aliases, None), [format!("spec.{said}")]);
        let deployment = json!({"spec": {"template": aliases}});
        assert_eq!(found("apps", "Deployment", &deployment, None), [format!("spec.template.spec.{said}")]);
    }
}
