//! ClusterIPs and node ports of Services (`pkg/registry/core/service/storage/alloc.go`).

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use api::status::{Cause, Status};
use serde_json::{Value, json};

use super::{Plan, Take};
use crate::{
    call::Call,
    failure::{Outcome, of_store},
    server::ApiServer,
};

const IPS: &str = "/allocations/clusterips/";
const PORTS: &str = "/allocations/nodeports/";
/// Draws before the whole range is searched.
const DRAWS: usize = 8;

pub(super) async fn plan(call: &Call<'_>, new: Option<&mut Value>, old: Option<&Value>) -> Outcome<Plan> {
    let mut plan = Plan::default();
    let had_ips = old.map(ips_of).unwrap_or_default();
    let had_ports = old.map(ports_of).unwrap_or_default();
    let Some(new) = new else {
        plan.gives = had_ips.iter().map(|ip| ip_key(ip)).chain(had_ports.iter().map(|p| port_key(*p))).collect();
        return Ok(plan);
    };
    let name = new["metadata"]["name"].as_str().unwrap_or("").to_owned();
    plan.owner = format!("{}/{name}", call.path.namespace);
    if let Some(old) = old {
        carry_over(new, old);
    }
    let refuse = |cause: Cause| Status::invalid("", "Service", &name, vec![cause]);
    if needs_ip(new) {
        let faults = settle_families(new, old);
        if !faults.is_empty() {
            return Err(Status::invalid("", "Service", &name, faults));
        }
    }
    let wanted = ips_of(new);
    if needs_ip(new) && wanted.is_empty() && !is_headless(new) {
        let ip = draw_ip(call.server).await?;
        new["spec"]["clusterIP"] = ip.as_str().into();
        new["spec"]["clusterIPs"] = json!([ip]);
        plan.takes.push(Take { key: ip_key(&ip), refusal: None });
    } else if needs_ip(new) {
        set_ips(new);
        // An address that is set does not change: validation refuses that, with nothing taken.
        let set = !had_ips.is_empty() && wanted.first() != had_ips.first();
        for ip in wanted.iter().filter(|ip| !set && !had_ips.contains(ip)) {
            let shown = json!([ip]);
            let invalid =
                |why: &str| Cause::invalid("spec.clusterIPs", &shown, &format!("failed to allocate IP {ip}: {why}"));
            check_range(call.server, ip).map_err(|why| refuse(invalid(&why)))?;
            plan.takes.push(Take { key: ip_key(ip), refusal: Some(invalid("provided IP is already allocated")) });
        }
    }
    let has_ips = ips_of(new);
    plan.gives.extend(had_ips.iter().filter(|ip| !has_ips.contains(ip)).map(|ip| ip_key(ip)));
    take_ports(call, new, &had_ports, &mut plan).await.map_err(|fault| match fault {
        PortFault::Cause(cause) => refuse(cause),
        PortFault::Status(status) => status,
    })?;
    let has_ports = ports_of(new);
    plan.gives.extend(had_ports.iter().filter(|port| !has_ports.contains(port)).map(|port| port_key(*port)));
    Ok(plan)
}

enum PortFault {
    Cause(Cause),
    Status(Status),
}

async fn take_ports(call: &Call<'_>, new: &mut Value, had: &BTreeSet<u16>, plan: &mut Plan) -> Result<(), PortFault> {
    if !needs_ports(new) {
        return Ok(());
    }
    let (first, last) = call.server.config.node_ports;
    let mut asked = ports_of(new);
    let count = new["spec"]["ports"].as_array().map_or(0, Vec::len);
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    for index in 0..count {
        let field = format!("spec.ports[{index}].nodePort");
        let port = new["spec"]["ports"][index]["nodePort"].as_u64().unwrap_or(0) as u16;
        if port == 0 {
            let drawn = draw_port(call.server, &asked).await.map_err(PortFault::Status)?;
            new["spec"]["ports"][index]["nodePort"] = drawn.into();
            asked.insert(drawn);
            plan.takes.push(Take { key: port_key(drawn), refusal: None });
        } else if !had.contains(&port) && taken.insert(port) {
            if !(first..=last).contains(&port) {
                let why =
                    format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
                return Err(PortFault::Cause(Cause::invalid(field, port, &why)));
            }
            let refusal = Cause::invalid(field, port, "provided port is already allocated");
            plan.takes.push(Take { key: port_key(port), refusal: Some(refusal) });
        }
    }
    let health = new["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) as u16;
    let wants_health = new["spec"]["type"] == "LoadBalancer" && new["spec"]["externalTrafficPolicy"] == "Local";
    if wants_health && health == 0 {
        let drawn = draw_port(call.server, &asked).await.map_err(PortFault::Status)?;
        new["spec"]["healthCheckNodePort"] = drawn.into();
        plan.takes.push(Take { key: port_key(drawn), refusal: None });
    } else if wants_health && !had.contains(&health) && taken.insert(health) {
        let refusal = Cause::invalid("spec.healthCheckNodePort", health, "provided port is already allocated");
        plan.takes.push(Take { key: port_key(health), refusal: Some(refusal) });
    }
    Ok(())
}

/// An update that leaves allocated values out keeps them; values that the new type has no use for go
/// (`patchAllocatedValues`, `dropTypeDependentFields`).
fn carry_over(new: &mut Value, old: &Value) {
    if needs_ip(new) && needs_ip(old) {
        if new["spec"]["clusterIP"].as_str().unwrap_or("").is_empty() && !ips_and_none(old).is_empty() {
            new["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
        }
        if new["spec"]["clusterIPs"].as_array().is_none_or(Vec::is_empty)
            && new["spec"]["clusterIP"] == old["spec"]["clusterIP"]
        {
            new["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
        }
    } else if !needs_ip(new)
        && needs_ip(old)
        && let Some(spec) = new["spec"].as_object_mut()
    {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.shift_remove(field);
        }
    }
    let old_ports = old["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let keeps = needs_ports(new) && needs_ports(old);
    let drops = !needs_ports(new) && needs_ports(old);
    for port in new["spec"]["ports"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default() {
        let before = old_ports.iter().find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
        let unset = port["nodePort"].as_u64().unwrap_or(0) == 0;
        match before.map(|b| &b["nodePort"]).filter(|p| p.is_u64()) {
            Some(number) if keeps && unset => port["nodePort"] = number.clone(),
            Some(number) if drops && port["nodePort"] == *number => {
                if let Some(port) = port.as_object_mut() {
                    port.shift_remove("nodePort");
                }
            }
            _ => {}
        }
    }
}

fn needs_ip(service: &Value) -> bool {
    matches!(service["spec"]["type"].as_str(), Some("ClusterIP" | "NodePort" | "LoadBalancer") | None)
}

fn needs_ports(service: &Value) -> bool {
    let spec = &service["spec"];
    spec["type"] == "NodePort" || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false)
}

fn is_headless(service: &Value) -> bool {
    ips_and_none(service).iter().any(|ip| ip == "None")
}

fn ips_and_none(service: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
    let mut ips: Vec<String> =
        service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(text).collect();
    if let Some(first) = text(&service["spec"]["clusterIP"]).filter(|ip| !ips.contains(ip)) {
        ips.insert(0, first);
    }
    ips
}

/// The addresses a Service has or asks for.
fn ips_of(service: &Value) -> Vec<String> {
    if !needs_ip(service) {
        return Vec::new();
    }
    ips_and_none(service).into_iter().filter(|ip| ip != "None").collect()
}

/// The node ports a Service has or asks for.
fn ports_of(service: &Value) -> BTreeSet<u16> {
    if !needs_ports(service) {
        return BTreeSet::new();
    }
    let ports = service["spec"]["ports"].as_array().into_iter().flatten().map(|p| &p["nodePort"]);
    let all = ports.chain([&service["spec"]["healthCheckNodePort"]]).filter_map(Value::as_u64);
    all.filter_map(|p| u16::try_from(p).ok()).filter(|p| *p != 0).collect()
}

/// Both forms of the address agree.
fn set_ips(service: &mut Value) {
    let ips = ips_and_none(service);
    if let Some(first) = ips.first() {
        service["spec"]["clusterIP"] = first.as_str().into();
        service["spec"]["clusterIPs"] = json!(ips);
    }
}

/// IPv4 is all there is; a headless Service without a selector may point anywhere, so it gets both families
/// (upstream's `initIPFamilyFields`).
fn settle_families(service: &mut Value, old: Option<&Value>) -> Vec<Cause> {
    let spec = &mut service["spec"];
    let unset = spec["ipFamilies"].as_array().is_none_or(Vec::is_empty);
    let selectorless = spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if spec["clusterIP"] == "None" && selectorless {
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = "RequireDualStack".into();
        }
        if unset {
            let single = spec["ipFamilyPolicy"] == "SingleStack";
            spec["ipFamilies"] = if single { json!(["IPv4"]) } else { json!(["IPv4", "IPv6"]) };
        }
        return Vec::new();
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    if unset {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if old.is_some_and(|old| ["ipFamilies", "ipFamilyPolicy"].iter().all(|field| old["spec"][field] == spec[field])) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let asked = spec["clusterIPs"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, address) in asked.iter().enumerate() {
        if address.as_str().is_some_and(|address| address.contains(':')) {
            let field = format!("spec.clusterIPs[{index}]");
            faults.push(Cause::invalid(field, &spec["clusterIPs"], "IPv6 is not configured on this cluster"));
        }
    }
    if !faults.is_empty() {
        return faults;
    }
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        faults.push(Cause::invalid("spec.ipFamilyPolicy", "RequireDualStack", why));
    }
    for (index, family) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate() {
        if family != "IPv4" {
            let field = format!("spec.ipFamilies[{index}]");
            faults.push(Cause::invalid(field, family, "not configured on this cluster"));
        }
    }
    faults
}

fn check_range(server: &ApiServer, ip: &str) -> Result<(), String> {
    let cidr = server.config.service_cidr;
    let inside = ip.parse::<Ipv4Addr>().is_ok_and(|address| {
        // The first address is the network's, the last the broadcast's.
        cidr.contains(address) && address != cidr.nth(0) && address != cidr.nth(cidr.size() - 1)
    });
    if inside {
        Ok(())
    } else {
        Err(format!("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {cidr}"))
    }
}

/// A free address: from the upper part of the range first, so that the lower one stays for explicit ones
/// (KEP-3070).
async fn draw_ip(server: &Arc<ApiServer>) -> Outcome<String> {
    let cidr = server.config.service_cidr;
    let size = cidr.size();
    let reserved = (size / 16).clamp(16, 256).min(size / 2);
    let (low, high) = (1, size.saturating_sub(1));
    for _ in 0..DRAWS {
        if reserved < high {
            let ip = cidr.nth(rand::random_range(reserved..high)).to_string();
            if server.store.get(&ip_key(&ip), None).await.map_err(of_store)?.is_none() {
                return Ok(ip);
            }
        }
    }
    let taken = taken(server, IPS).await?;
    (reserved..high)
        .chain(low..reserved.min(high))
        .map(|offset| cidr.nth(offset).to_string())
        .find(|ip| !taken.contains(ip))
        .ok_or_else(|| Status::internal_error("failed to allocate a serviceIP: range is full"))
}

async fn draw_port(server: &Arc<ApiServer>, asked: &BTreeSet<u16>) -> Outcome<u16> {
    let (first, last) = server.config.node_ports;
    for _ in 0..DRAWS {
        let port = rand::random_range(first..=last);
        if !asked.contains(&port) && server.store.get(&port_key(port), None).await.map_err(of_store)?.is_none() {
            return Ok(port);
        }
    }
    let taken = taken(server, PORTS).await?;
    (first..=last)
        .find(|port| !asked.contains(port) && !taken.contains(&port.to_string()))
        .ok_or_else(|| Status::internal_error("failed to allocate a nodePort: range is full"))
}

async fn taken(server: &ApiServer, prefix: &str) -> Outcome<BTreeSet<String>> {
    let end = format!("{}0", &prefix[..prefix.len() - 1]);
    let page = server.store.range(prefix, &end, None, 0).await.map_err(of_store)?;
    Ok(page.entries.iter().map(|entry| entry.key[prefix.len()..].to_owned()).collect())
}

fn ip_key(ip: &str) -> Arc<str> {
    format!("{IPS}{ip}").into()
}

fn port_key(port: u16) -> Arc<str> {
    format!("{PORTS}{port}").into()
}
