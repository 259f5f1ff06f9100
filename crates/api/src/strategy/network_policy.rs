//! `networking.k8s.io/v1 NetworkPolicy`.

use serde_json::{Value, json};

use super::{
    access::{ensure_object, fill, get, int, is_empty, items_mut, list, set, text},
    check::{self, label_selector},
    field::{Faults, Path},
    names,
    prepare::{self, PLAIN},
};
use crate::{resource::Strategy, status::Cause};

/// The strategy of NetworkPolicies.
pub const NETWORK_POLICY: Strategy = Strategy {
    default: default_policy,
    prepare_create: prepare::first_generation_only,
    prepare_update: |new, old| prepare::count_generation(new, old, &["spec"]),
    validate: validate_policy,
    validate_update: |new, _| validate_policy(new),
    ..PLAIN
};

fn default_policy(object: &mut Value) {
    let spec = ensure_object(object, "spec");
    ensure_object(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        for rule in items_mut(spec, direction) {
            for port in items_mut(rule, "ports") {
                fill(port, "protocol", "TCP");
            }
        }
    }
    if is_empty(spec, "policyTypes") {
        let types = if is_empty(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        set(spec, "policyTypes", types);
    }
}

fn validate_policy(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = Value::Null;
    let spec = get(object, "spec").unwrap_or(&none);
    let path = Path::root("spec");
    if let Some(selector) = get(spec, "podSelector") {
        label_selector(&mut faults, &path.field("podSelector"), selector);
    }
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(spec, direction).iter().enumerate() {
            let at = path.field(direction);
            let at = at.index(i);
            for (j, port) in list(rule, "ports").iter().enumerate() {
                policy_port(&mut faults, &at.field("ports").index(j), port);
            }
            for (j, peer) in list(rule, peers).iter().enumerate() {
                policy_peer(&mut faults, &at.field(peers).index(j), peer);
            }
        }
    }
    let types = list(spec, "policyTypes");
    if types.len() > 2 {
        faults.invalid(
            &path.field("policyTypes"),
            get(spec, "policyTypes").unwrap_or(&none),
            "may not specify more than two policyTypes",
        );
        return faults.into_causes();
    }
    for (i, kind) in types.iter().enumerate() {
        if kind != "Ingress" && kind != "Egress" {
            faults.not_supported(&path.field("policyTypes").index(i), kind, &["Ingress", "Egress"]);
        }
    }
    faults.into_causes()
}

fn policy_port(faults: &mut Faults, path: &Path<'_>, port: &Value) {
    check::optional_one_of(faults, path, port, "protocol", &["TCP", "UDP", "SCTP"]);
    let at = path.field("endPort");
    let end = int(port, "endPort");
    match get(port, "port") {
        None => {
            if let Some(end) = end {
                faults.invalid(&at, end, "may not be specified when `port` is not specified");
            }
        }
        Some(Value::String(name)) => {
            if let Some(end) = end {
                faults.invalid(&at, end, "may not be specified when `port` is non-numeric");
            }
            faults.invalid_each(&path.field("port"), name, names::port_name(name));
        }
        Some(_) => {
            check::port(faults, path, port, "port");
            if let Some(end) = end {
                if end < int(port, "port").unwrap_or(0) {
                    faults.invalid(&at, end, "must be greater than or equal to `port`");
                }
                check::port(faults, path, port, "endPort");
            }
        }
    }
}

fn policy_peer(faults: &mut Faults, path: &Path<'_>, peer: &Value) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = get(peer, field) {
            count += 1;
            label_selector(faults, &path.field(field), selector);
        }
    }
    let Some(block) = get(peer, "ipBlock") else {
        if count == 0 {
            faults.required(path, "must specify a peer");
        }
        return;
    };
    let at = path.field("ipBlock");
    let range = text(block, "cidr");
    if range.is_empty() {
        faults.required(&at.field("cidr"), "");
    } else if check::cidr(faults, &at.field("cidr"), range) {
        for (i, except) in list(block, "except").iter().filter_map(Value::as_str).enumerate() {
            let at = at.field("except");
            if check::cidr(faults, &at.index(i), except) && !is_strict_subset(except, range) {
                faults.invalid(&at.index(i), except, "must be a strict subset of `cidr`");
            }
        }
    }
    if count > 0 {
        faults.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

/// Whether a range of addresses lies in another and is smaller; both are well-formed.
fn is_strict_subset(inner: &str, outer: &str) -> bool {
    let parse = |range: &str| {
        let (address, bits) = range.split_once('/')?;
        let (number, width) = match check::parse_ip(address)? {
            std::net::IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            std::net::IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        Some((number, bits.parse::<u32>().ok()?, width))
    };
    let (Some((inner, inner_bits, inner_width)), Some((outer, outer_bits, width))) = (parse(inner), parse(outer))
    else {
        return false;
    };
    let shift = width - outer_bits;
    let prefix = |number: u128| number.checked_shr(shift).unwrap_or(0);
    inner_width == width && outer_bits < inner_bits && prefix(inner) == prefix(outer)
}
