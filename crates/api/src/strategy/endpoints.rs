//! `v1 Endpoints` and `discovery.k8s.io/v1 EndpointSlice`.

use serde_json::Value;

use super::{
    access::{fill, fill_text, get, is_empty, items_mut, list, same_field, set, text},
    check::{self, IMMUTABLE, PROTOCOLS, non_special_ip},
    field::{Faults, Path},
    names,
    prepare::{self, PLAIN},
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of Endpoints.
pub const ENDPOINTS: Strategy = Strategy {
    default: default_endpoints,
    validate: validate_endpoints,
    validate_update: |new, _| validate_endpoints(new),
    create_on_update: true,
    ..PLAIN
};

/// The strategy of EndpointSlices.
pub const ENDPOINT_SLICE: Strategy = Strategy {
    default: default_slice,
    prepare_create: prepare::first_generation_only,
    prepare_update: update_slice,
    validate: validate_slice,
    validate_update: validate_slice_update,
    ..PLAIN
};

fn default_endpoints(object: &mut Value) {
    for subset in items_mut(object, "subsets") {
        for port in items_mut(subset, "ports") {
            fill_text(port, "protocol", "TCP");
        }
    }
}

/// Lists that Go writes though they are not there, as `null`.
fn default_slice(object: &mut Value) {
    for field in ["endpoints", "ports"] {
        if get(object, field).is_none() {
            set(object, field, Value::Null);
        }
    }
    for port in items_mut(object, "ports") {
        fill(port, "name", "");
        fill(port, "protocol", "TCP");
    }
}

fn update_slice(new: &mut Value, old: &Value) {
    let none = Value::Null;
    let labels_changed =
        !same_field(get(new, "metadata").unwrap_or(&none), get(old, "metadata").unwrap_or(&none), "labels");
    prepare::count_generation(new, old, &["endpoints", "ports", "addressType"]);
    if labels_changed {
        let before = super::access::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        prepare::set_generation(new, before + 1);
    }
}

fn validate_endpoints(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let path = Path::root("subsets");
    for (i, subset) in list(object, "subsets").iter().enumerate() {
        let at = path.index(i);
        if is_empty(subset, "addresses") && is_empty(subset, "notReadyAddresses") {
            faults.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (j, address) in list(subset, field).iter().enumerate() {
                endpoint_address(&mut faults, &at.field(field).index(j), address);
            }
        }
        let ports = list(subset, "ports");
        for (j, port) in ports.iter().enumerate() {
            let at = at.field("ports");
            let at = at.index(j);
            match text(port, "name") {
                "" if ports.len() > 1 => faults.required(&at.field("name"), ""),
                "" => {}
                name => faults.invalid_each(&at.field("name"), name, names::dns1123_label(name)),
            }
            check::port(&mut faults, &at, port, "port");
            check::required_one_of(&mut faults, &at, port, "protocol", &PROTOCOLS);
            app_protocol(&mut faults, &at, port);
        }
    }
    faults.into_causes()
}

fn endpoint_address(faults: &mut Faults, path: &Path<'_>, address: &Value) {
    let ip = text(address, "ip");
    check::ip(faults, &path.field("ip"), ip);
    let host = text(address, "hostname");
    if !host.is_empty() {
        faults.invalid_each(&path.field("hostname"), host, names::dns1123_label(host));
    }
    node_name(faults, path, address);
    non_special_ip(faults, &path.field("ip"), ip);
}

fn node_name(faults: &mut Faults, path: &Path<'_>, parent: &Value) {
    if let Some(node) = get(parent, "nodeName").and_then(Value::as_str) {
        faults.invalid_each(&path.field("nodeName"), node, names::dns1123_subdomain(node));
    }
}

fn app_protocol(faults: &mut Faults, path: &Path<'_>, port: &Value) {
    if let Some(protocol) = get(port, "appProtocol").and_then(Value::as_str) {
        faults.invalid_each(&path.field("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn validate_slice(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let root = Path::root("");
    let kind = text(object, "addressType");
    check::required_one_of(&mut faults, &root, object, "addressType", &["FQDN", "IPv4", "IPv6"]);
    let endpoints = list(object, "endpoints");
    if endpoints.len() > 1000 {
        faults.too_many(&root.field("endpoints"), endpoints.len(), 1000);
    } else {
        for (i, endpoint) in endpoints.iter().enumerate() {
            slice_endpoint(&mut faults, &root.field("endpoints").index(i), endpoint, kind);
        }
    }
    let ports = list(object, "ports");
    if ports.len() > 20000 {
        faults.too_many(&root.field("ports"), ports.len(), 20000);
        return faults.into_causes();
    }
    for (i, port) in ports.iter().enumerate() {
        let at = root.field("ports");
        let at = at.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            faults.invalid_each(&at.field("name"), name, names::dns1123_label(name));
        }
        if ports[..i].iter().any(|before| text(before, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        check::required_one_of(&mut faults, &at, port, "protocol", &PROTOCOLS);
        app_protocol(&mut faults, &at, port);
    }
    faults.into_causes()
}

fn slice_endpoint(faults: &mut Faults, path: &Path<'_>, endpoint: &Value, kind: &str) {
    let addresses = list(endpoint, "addresses");
    let at = path.field("addresses");
    if addresses.is_empty() {
        faults.required(&at, "must contain at least 1 address");
    } else if addresses.len() > 100 {
        faults.too_many(&at, addresses.len(), 100);
    }
    for (i, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        let at = at.index(i);
        let parsed = check::parse_ip(address);
        match kind {
            "IPv4" => {
                if !parsed.is_some_and(|ip| ip.is_ipv4()) {
                    faults.invalid(&at, address, "must be a valid IPv4 address");
                }
                non_special_ip(faults, &at, address);
            }
            "IPv6" => {
                if !parsed.is_some_and(|ip| ip.is_ipv6()) {
                    faults.invalid(&at, address, "must be a valid IPv6 address");
                }
                non_special_ip(faults, &at, address);
            }
            "FQDN" => {
                let name = address.strip_suffix('.').unwrap_or(address);
                let messages = names::dns1123_subdomain(name);
                if !messages.is_empty() {
                    faults.invalid(&at, name, messages.join(","));
                } else if !name.contains('.') {
                    faults.invalid(&at, name, "should be a domain with at least two segments separated by dots");
                }
            }
            _ => {}
        }
    }
    node_name(faults, path, endpoint);
    let topology = super::access::map(endpoint, "deprecatedTopology").map_or(0, serde_json::Map::len);
    if topology > 16 {
        faults.too_many(&path.field("deprecatedTopology"), topology, 16);
    }
    super::metadata::validate_labels(faults, path, endpoint, "deprecatedTopology");
    if let Some(host) = get(endpoint, "hostname").and_then(Value::as_str) {
        faults.invalid_each(&path.field("hostname"), host, names::dns1123_label(host));
    }
    if let Some(hints) = get(endpoint, "hints") {
        let path = path.field("hints");
        hinted(faults, &path.field("forZones"), list(hints, "forZones"), names::label_value);
        hinted(faults, &path.field("forNodes"), list(hints, "forNodes"), names::dns1123_subdomain);
    }
}

/// Zones or nodes for which an endpoint is meant.
fn hinted(faults: &mut Faults, path: &Path<'_>, places: &[Value], check: fn(&str) -> Vec<String>) {
    const MOST: usize = 8;
    if places.len() > MOST {
        return faults.too_many(path, places.len(), MOST);
    }
    for (i, place) in places.iter().enumerate() {
        let at = path.index(i);
        let name = text(place, "name");
        if places[..i].iter().any(|before| text(before, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        faults.invalid_each(&at.field("name"), name, check(name));
    }
}

fn validate_slice_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    faults.extend(validate_slice(new));
    if text(new, "addressType") != text(old, "addressType") {
        faults.invalid(&Path::root("addressType"), text(new, "addressType"), IMMUTABLE);
    }
    faults.into_causes()
}
