//! Bridges that are kept from each other.

use std::net::Ipv4Addr;

use network::service::Protocol;
use network::{Addresses, Isolation, Network, PodAttach};

use crate::machine::*;

fn open(machine: &Machine, name: &str, n: u8, internal: bool) -> Network {
    Network::open(config(machine, name, n, internal)).unwrap()
}

fn config(machine: &Machine, name: &str, n: u8, internal: bool) -> network::NetworkConfig {
    let isolation =
        Some(Isolation { group: "bridges".into(), internal, protected: true, apart: false, unmasked: false });
    network::NetworkConfig { isolation, cluster_dns: None, ..machine.config(name, n) }
}

/// That no answer comes, without waiting for one as long as for one that must come.
fn unreachable(from: &std::path::Path, to: (Ipv4Addr, u16)) {
    at(from, move || {
        let patience = std::time::Duration::from_millis(300);
        let outcome = std::net::TcpStream::connect_timeout(&to.into(), patience);
        assert!(outcome.is_err(), "{to:?} was reached");
    });
}

#[test]
fn containers_of_one_bridge_reach_those_of_another_by_published_ports_only() {
    let machine = Machine::new();
    let (front, back) = (open(&machine, "front", 42, false), open(&machine, "back", 44, false));
    let (a, b) = (attach(&front, "a"), attach(&front, "b"));
    let published = vec![host_port(Protocol::Tcp, 8080, 80)];
    let web = back.attach(&PodAttach { id: "web".into(), host_ports: published }).unwrap();
    serve_tcp(&b.netns, 80, "b");
    serve_tcp(&web.netns, 80, "web");
    serve_tcp(&machine.outside, 80, "outside");

    assert_eq!(ask_tcp(&a.netns, (b.ip, 80)).unwrap().server, "b");
    assert_eq!(ask_tcp(&a.netns, (CLIENT, 80)).unwrap().client.ip(), std::net::IpAddr::from(NODE));
    assert_eq!(ask_tcp(&machine.own, (web.ip, 80)).unwrap().server, "web");
    unreachable(&a.netns, (web.ip, 80));
    unreachable(&web.netns, (b.ip, 80));
    // From another machine that has a route, too.
    unreachable(&machine.outside, (web.ip, 80));
    assert_eq!(ask_tcp(&machine.outside, (NODE, 8080)).unwrap().server, "web");
    assert_eq!(ask_tcp(&a.netns, (NODE, 8080)).unwrap().server, "web");
    assert_eq!(ask_tcp(&a.netns, (front.gateway(), 8080)).unwrap().server, "web");
}

#[test]
fn an_internal_network_leads_nowhere_else() {
    let machine = Machine::new();
    let (inner, other) = (open(&machine, "inner", 42, true), open(&machine, "other", 44, false));
    let (a, b) = (attach(&inner, "a"), attach(&inner, "b"));
    let published = vec![host_port(Protocol::Tcp, 8080, 80)];
    let web = other.attach(&PodAttach { id: "web".into(), host_ports: published }).unwrap();
    serve_tcp(&b.netns, 80, "b");
    serve_tcp(&web.netns, 80, "web");
    serve_tcp(&machine.outside, 80, "outside");

    assert_eq!(ask_tcp(&a.netns, (b.ip, 80)).unwrap().server, "b");
    assert_eq!(ask_tcp(&machine.own, (b.ip, 80)).unwrap().server, "b");
    let routes = at(&a.netns, || ip("-4 route"));
    assert_eq!(routes.trim(), "10.42.0.0/16 via 10.42.0.1 dev eth0 proto 72 onlink");
    unreachable(&a.netns, (CLIENT, 80));
    // One that is allowed to change its routes gets no further.
    at(&a.netns, || ip("route add default via 10.42.0.1 dev eth0 onlink"));
    unreachable(&a.netns, (CLIENT, 80));
    unreachable(&a.netns, (web.ip, 80));
    unreachable(&a.netns, (inner.gateway(), 8080));
    unreachable(&web.netns, (b.ip, 80));
    unreachable(&machine.outside, (b.ip, 80));
}

#[test]
fn members_of_a_network_without_a_gateway_reach_each_other_alone() {
    let machine = Machine::new();
    let no_services = "0.0.0.0/32".parse().unwrap();
    let plain = network::NetworkConfig { service_cidr: no_services, ..config(&machine, "alone", 42, true) };
    let alone = network::NetworkConfig { alone: true, pod_cidr: "10.42.0.4/31".parse().unwrap(), ..plain.clone() };
    let network = Network::open(alone).unwrap();
    let (a, b) = (attach(&network, "a"), attach(&network, "b"));
    assert_eq!([a.ip, b.ip], [4, 5].map(|last| Ipv4Addr::new(10, 42, 0, last)));
    assert_eq!(ip(&format!("-o addr show dev {}", network.bridge())), "");
    serve_tcp(&b.netns, 80, "b");
    assert_eq!(ask_tcp(&a.netns, (b.ip, 80)).unwrap().client.ip(), std::net::IpAddr::from(a.ip));
    unreachable(&machine.own, (b.ip, 80));
    // Where members are kept apart the bridge itself does it: no rule sees what goes from link to link.
    let isolation = plain.isolation.map(|isolation| Isolation { apart: true, ..isolation });
    let apart = network::NetworkConfig { service_cidr: no_services, ..config(&machine, "apart", 44, true) };
    let network = Network::open(network::NetworkConfig { alone: true, isolation, ..apart }).unwrap();
    let (c, d) = (attach(&network, "c"), attach(&network, "d"));
    serve_tcp(&d.netns, 80, "d");
    unreachable(&c.netns, (d.ip, 80));
}

#[test]
fn isolation_survives_a_restart() {
    let machine = Machine::new();
    let front = open(&machine, "front", 42, false);
    let web = attach(&front, "web");
    let back = open(&machine, "back", 44, true);
    let a = attach(&back, "a");
    serve_tcp(&web.netns, 80, "web");
    drop((front, back));
    unreachable(&a.netns, (web.ip, 80));
    let _front = open(&machine, "front", 42, false);
    unreachable(&machine.outside, (web.ip, 80));
    assert_eq!(ask_tcp(&machine.own, (web.ip, 80)).unwrap().server, "web");
}

#[test]
fn members_of_a_bridge_on_their_own_reach_each_other_by_published_ports_only() {
    let machine = Machine::new();
    let mut config = config(&machine, "alone", 42, false);
    config.isolation.as_mut().unwrap().apart = true;
    let network = Network::open(config).unwrap();
    let a = attach(&network, "a");
    let published = vec![host_port(Protocol::Tcp, 8080, 80)];
    let b = network.attach(&PodAttach { id: "b".into(), host_ports: published }).unwrap();
    serve_tcp(&b.netns, 80, "b");
    serve_tcp(&b.netns, 81, "hidden");
    serve_tcp(&machine.outside, 80, "outside");

    unreachable(&a.netns, (b.ip, 81));
    assert_eq!(ask_tcp(&a.netns, (NODE, 8080)).unwrap().server, "b");
    assert_eq!(ask_tcp(&a.netns, (CLIENT, 80)).unwrap().server, "outside");
    assert_eq!(ask_tcp(&machine.own, (b.ip, 81)).unwrap().server, "hidden");
    assert_eq!(ask_tcp(&machine.outside, (NODE, 8080)).unwrap().server, "b");
}

#[test]
fn an_unmasked_networks_members_are_known_by_their_own_addresses_outside() {
    let machine = Machine::new();
    let mut config = config(&machine, "plain", 42, false);
    config.isolation.as_mut().unwrap().unmasked = true;
    let network = Network::open(config).unwrap();
    let a = attach(&network, "a");
    serve_tcp(&machine.outside, 80, "outside");
    assert_eq!(ask_tcp(&a.netns, (CLIENT, 80)).unwrap().client.ip(), std::net::IpAddr::from(a.ip));
}

#[test]
fn a_member_may_choose_its_hardware_address_and_keeps_it_over_a_restart() {
    let machine = Machine::new();
    let network = open(&machine, "chosen", 42, false);
    let mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x09];
    let wanted = Addresses { ip: None, mac: Some(mac) };
    let a = network.attach_at(&PodAttach { id: "a".into(), host_ports: vec![] }, wanted, None, None).unwrap();
    let b = attach(&network, "b");
    assert_eq!(a.mac, mac);
    assert!(at(&a.netns, || ip("link show eth0")).contains("02:42:ac:11:00:09"));
    serve_tcp(&a.netns, 80, "a");
    assert_eq!(ask_tcp(&b.netns, (a.ip, 80)).unwrap().server, "a");
    assert_eq!(ask_tcp(&machine.own, (a.ip, 80)).unwrap().server, "a");
    drop(network);
    let network = open(&machine, "chosen", 42, false);
    assert_eq!(network.pod("a").unwrap().mac, mac);
}
