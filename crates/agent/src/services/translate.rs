//! A Service and its slices as rules and names. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Service, ServiceSpec},
    discovery::v1::EndpointSlice,
};
use network::{
    dns::{EndpointRecord, PortRecord, ServiceRecord},
    service::{Protocol, ServicePort, ServiceRules, TrafficPolicy},
};

use super::endpoints;

/// The rules; `None` for Services that have none (headless, ExternalName, without an address yet).
pub fn rules(service: &Service, slices: &[&EndpointSlice], node: &str) -> Option<ServiceRules> {
    let spec = service.spec.as_ref()?;
    let cluster_ips = cluster_ips(spec);
    if cluster_ips.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let chosen = endpoints::choose(slices.iter().copied(), port.name.as_deref().unwrap_or_default(), node);
        Some(ServicePort {
            protocol: protocol(port.protocol.as_deref()),
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0),
            endpoints: chosen.active,
            local_endpoints: chosen.local,
            draining: chosen.draining,
        })
    });
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured =
            spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
        Duration::from_secs(u64::from(configured.unwrap_or(10_800).max(1).unsigned_abs()))
    });
    let ingress = service.status.iter().flat_map(|s| s.load_balancer.iter()).flat_map(|l| l.ingress.iter().flatten());
    Some(ServiceRules {
        ports: ports.collect(),
        session_affinity: affinity,
        external_traffic_policy: policy(spec.external_traffic_policy.as_deref()),
        internal_traffic_policy: policy(spec.internal_traffic_policy.as_deref()),
        external_ips: spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect(),
        load_balancer_ips: ingress
            .filter(|i| i.ip_mode.as_deref().unwrap_or("VIP") == "VIP")
            .filter_map(|i| i.ip.as_deref()?.parse().ok())
            .filter(|ip: &IpAddr| !ip.is_unspecified())
            .chain(open_on_nodes(service).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
            .collect(),
        cluster_ips,
    })
}

/// Whether its ports are open on all addresses of the node: those of the platform's own edge are. Of nobody else's,
/// since whoever may make Services could otherwise take the node's ports.
fn open_on_nodes(service: &Service) -> bool {
    let metadata = &service.metadata;
    metadata.namespace.as_deref() == Some("hythe-system")
        && metadata.annotations.iter().flatten().any(|(key, value)| key == "hythe.dev/open-on-nodes" && value == "true")
}

/// Its names.
pub fn record(service: &Service) -> ServiceRecord {
    let Some(spec) = &service.spec else { return ServiceRecord::default() };
    let external = spec.type_.as_deref() == Some("ExternalName");
    ServiceRecord {
        cluster_ips: if external { Vec::new() } else { cluster_ips(spec) },
        external_name: spec.external_name.clone().filter(|_| external),
        ports: spec
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let port = u16::try_from(p.port).ok()?;
                Some(PortRecord {
                    name: p.name.clone().filter(|n| !n.is_empty()),
                    protocol: protocol(p.protocol.as_deref()),
                    port,
                })
            })
            .collect(),
        publish_not_ready: spec.publish_not_ready_addresses == Some(true),
    }
}

/// The endpoints below the name of a Service, as CoreDNS has them: of a headless one with the ports that its own name
/// leads to; of one with an address, whose ports are its own, each endpoint's name and address alone.
pub fn endpoint_records(service: &Service, slices: &[&EndpointSlice]) -> Vec<EndpointRecord> {
    let headless = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None");
    let mut out: Vec<EndpointRecord> = Vec::new();
    for slice in slices.iter().filter(|s| s.address_type != "FQDN") {
        let ports: Vec<PortRecord> = slice
            .ports
            .iter()
            .flatten()
            .filter(|_| headless)
            .filter_map(|p| {
                let port = u16::try_from(p.port?).ok()?;
                Some(PortRecord {
                    name: p.name.clone().filter(|n| !n.is_empty()),
                    protocol: protocol(p.protocol.as_deref()),
                    port,
                })
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(ip) = endpoint.addresses.first().and_then(|a| a.parse().ok()) else { continue };
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            out.push(EndpointRecord {
                ip,
                hostname: endpoint.hostname.clone().filter(|h| !h.is_empty()),
                ready,
                ports: ports.clone(),
            });
        }
    }
    out
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let all = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter());
    let mut out: Vec<IpAddr> = Vec::new();
    for ip in all.filter_map(|ip| ip.parse().ok()) {
        if !out.contains(&ip) {
            out.push(ip);
        }
    }
    out
}

fn protocol(name: Option<&str>) -> Protocol {
    name.and_then(|n| n.parse().ok()).unwrap_or(Protocol::Tcp)
}

fn policy(name: Option<&str>) -> TrafficPolicy {
    if name == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_edges_own_service_is_open_on_all_addresses_of_the_node() {
        let of = |namespace: &str, ingress: &str| {
            let service: Service = serde_json::from_value(json!({
                "metadata": {"name": "web", "namespace": namespace, "annotations": {"hythe.dev/open-on-nodes": "true"}},
                "spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 80}]},
                "status": {"loadBalancer": {"ingress": [{"ip": ingress}]}},
            }))
            .expect("a service");
            rules(&service, &[], "n").expect("rules").load_balancer_ips
        };
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(of("hythe-system", "192.0.2.1"), [address("192.0.2.1"), address("0.0.0.0")]);
        assert_eq!(of("default", "192.0.2.1"), [address("192.0.2.1")]);
        assert!(of("default", "0.0.0.0").is_empty());
    }

    #[test]
    fn a_service_becomes_rules_and_a_headless_one_only_names() {
        let mut json = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"],
            "type": "NodePort", "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]}});
        let slice: EndpointSlice =
            serde_json::from_value(json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.42.0.5"], "nodeName": "n", "hostname": "web-0"}]}))
            .expect("a slice");
        let service: Service = serde_json::from_value(json.clone()).expect("a service");
        let got = rules(&service, &[&slice], "n").expect("rules");
        assert_eq!(got.session_affinity, Some(Duration::from_secs(10_800)));
        assert_eq!(got.external_traffic_policy, TrafficPolicy::Local);
        assert_eq!((got.ports[0].port, got.ports[0].node_port), (80, Some(30080)));
        assert_eq!(got.ports[0].local_endpoints, ["10.42.0.5:8080".parse().expect("an address")]);
        let [under_its_name] = &endpoint_records(&service, &[&slice])[..] else { panic!("one endpoint") };
        assert_eq!(under_its_name.hostname.as_deref(), Some("web-0"));
        assert!(under_its_name.ports.is_empty(), "SRV records lead to the Service's own ports");
        json["spec"]["clusterIP"] = json!("None");
        json["spec"]["clusterIPs"] = json!(["None"]);
        let headless: Service = serde_json::from_value(json).expect("a service");
        assert_eq!(rules(&headless, &[&slice], "n"), None);
        let of_headless = endpoint_records(&headless, &[&slice]);
        assert_eq!((of_headless[0].hostname.as_deref(), of_headless[0].ports[0].port), (Some("web-0"), 8080));
        assert!(record(&headless).cluster_ips.is_empty());
    }
}
