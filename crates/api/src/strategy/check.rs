//! Checks that many kinds share: enumerations, numbers, ports, addresses, label selectors.

use std::net::IpAddr;

use serde_json::Value;

use super::{
    access::{entries, get, int, is_empty, list, map, text},
    field::{Faults, Path},
    metadata::validate_labels,
    names,
};

/// What upstream says of a number below zero.
pub const NEGATIVE: &str = "must be greater than or equal to 0";
/// What upstream says of a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// A text field that must be one of `supported`; absent is `Required`.
pub fn required_one_of(faults: &mut Faults, path: &Path<'_>, parent: &Value, field: &str, supported: &[&str]) {
    match text(parent, field) {
        "" => faults.required(&path.field(field), ""),
        value if supported.contains(&value) => {}
        value => faults.not_supported(&path.field(field), value, supported),
    }
}

/// A text field that must be one of `supported` if it is there.
pub fn optional_one_of(faults: &mut Faults, path: &Path<'_>, parent: &Value, field: &str, supported: &[&str]) {
    if let Some(value) = get(parent, field).and_then(Value::as_str)
        && !supported.contains(&value)
    {
        faults.not_supported(&path.field(field), value, supported);
    }
}

/// A number field that must not be below zero.
pub fn nonnegative(faults: &mut Faults, path: &Path<'_>, parent: &Value, field: &str) {
    if let Some(number) = int(parent, field)
        && number < 0
    {
        faults.invalid(&path.field(field), number, NEGATIVE);
    }
}

/// A number or the name of a port.
pub fn port_number_or_name(faults: &mut Faults, path: &Path<'_>, value: Option<&Value>) {
    match value {
        Some(Value::String(name)) => faults.invalid_each(path, name, names::port_name(name)),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or(0);
            for fault in names::port_number(number) {
                faults.invalid(path, number, fault);
            }
        }
    }
}

/// A port number field of 1 to 65535.
pub fn port(faults: &mut Faults, path: &Path<'_>, parent: &Value, field: &str) {
    let number = int(parent, field).unwrap_or(0);
    for fault in names::port_number(number) {
        faults.invalid(&path.field(field), number, fault);
    }
}

/// The transport protocols, in upstream's order.
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// An IPv4 or IPv6 address; leading zeros are taken as decimal, as upstream does.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse::<u32>().ok().and_then(|number| u8::try_from(number).ok())?;
    }
    parts.next().is_none().then(|| IpAddr::from(octets))
}

/// A valid address.
pub fn ip(faults: &mut Faults, path: &Path<'_>, text: &str) -> bool {
    let sound = parse_ip(text).is_some();
    if !sound {
        faults.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    sound
}

/// A valid range of addresses.
pub fn cidr(faults: &mut Faults, path: &Path<'_>, text: &str) -> bool {
    let sound = text.split_once('/').is_some_and(|(address, bits)| {
        let most = match parse_ip(address) {
            Some(IpAddr::V4(_)) => 32,
            Some(IpAddr::V6(_)) => 128,
            None => return false,
        };
        !bits.is_empty()
            && bits.bytes().all(|b| b.is_ascii_digit())
            && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
    });
    if !sound {
        faults.invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
    sound
}

/// An address that may stand for an endpoint: not unspecified, loopback or link-local.
pub fn non_special_ip(faults: &mut Faults, path: &Path<'_>, text: &str) {
    let Some(address) = parse_ip(text) else {
        faults.invalid(path, text, "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        faults.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        faults.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        faults.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        faults.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// A path below a domain, such as `acme.io/foo`.
pub fn domain_prefixed_path(faults: &mut Faults, path: &Path<'_>, text: &str) {
    if text.is_empty() {
        return faults.required(path, "");
    }
    let Some((host, rest)) = text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) else {
        return faults.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    faults.invalid_each(path, host, names::dns1123_subdomain(host));
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let why = names::regex("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
        faults.invalid(path, rest, why);
    }
}

/// A `metav1.LabelSelector`.
pub fn label_selector(faults: &mut Faults, path: &Path<'_>, selector: &Value) {
    validate_labels(faults, path, selector, "matchLabels");
    let path = path.field("matchExpressions");
    for (i, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        let at = path.index(i);
        let values = list(requirement, "values");
        if !values_suit_operator(faults, &at, requirement) {
            faults.invalid(&at.field("operator"), text(requirement, "operator"), "not a valid selector operator");
        }
        let key = text(requirement, "key");
        faults.invalid_each(&at.field("key"), key, names::qualified_name(key));
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            faults.invalid_each(&at.field("values").index(j), value, names::label_value(value));
        }
    }
}

/// Whether the requirement has one of the operators that labels' and nodes' selectors share; if so, its number of values is
/// checked against it.
pub(crate) fn values_suit_operator(faults: &mut Faults, at: &Path<'_>, requirement: &Value) -> bool {
    let values = list(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                faults.required(&at.field("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                faults.forbidden(
                    &at.field("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
        }
        _ => return false,
    }
    true
}

/// Whether a label selector (`metav1.LabelSelector`) selects these labels; an empty one selects everything.
pub fn selects(selector: &Value, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|labels| get(labels, key)).and_then(Value::as_str);
    entries(selector, "matchLabels").all(|(key, value)| label(key) == value.as_str())
        && list(selector, "matchExpressions").iter().all(|requirement| {
            let value = label(text(requirement, "key"));
            let listed = || list(requirement, "values").iter().any(|each| each.as_str() == value);
            match text(requirement, "operator") {
                "In" => value.is_some() && listed(),
                "NotIn" => value.is_none() || !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a label selector has no requirement.
pub fn selects_all(selector: &Value) -> bool {
    map(selector, "matchLabels").is_none_or(serde_json::Map::is_empty) && is_empty(selector, "matchExpressions")
}

/// A whole number at least 0, or a percentage.
pub fn int_or_percent(faults: &mut Faults, path: &Path<'_>, value: &Value) {
    match value {
        Value::String(text) => faults.invalid_each(path, text, names::percent(text)),
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(0);
            if number < 0 {
                faults.invalid(path, number, NEGATIVE);
            }
        }
        _ => {}
    }
}

/// The percentage of a value such as `25%`.
pub fn percentage(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// A percentage above 100 is a fault.
pub fn at_most_100_percent(faults: &mut Faults, path: &Path<'_>, value: &Value) {
    if percentage(value).is_some_and(|percent| percent > 100) {
        faults.invalid(path, value, "must not be greater than 100%");
    }
}

/// Whether an IntOrString is 0 or `0%`.
pub fn is_none_at_all(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.as_i64() == Some(0) || percentage(value) == Some(0))
}
