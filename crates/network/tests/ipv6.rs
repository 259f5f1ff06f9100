//! Addresses of IPv6 beside those of IPv4.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use network::{Ipv6, Isolation, Network};

use crate::machine::*;

fn open(machine: &Machine, name: &str, n: u8, internal: bool) -> (Network, Ipv6) {
    let isolation = Isolation { group: "bridges".into(), internal, protected: true, apart: false, unmasked: false };
    let ipv6 = ipv6(n);
    let config =
        network::NetworkConfig { isolation: Some(isolation.clone()), cluster_dns: None, ..machine.config(name, n) };
    let network = Network::open(config).unwrap();
    network.open_ipv6(ipv6, Some(&isolation)).unwrap();
    (network, ipv6)
}

fn ipv6(n: u8) -> Ipv6 {
    let range: network::Cidr = format!("fd00:{n}::/64").parse().unwrap();
    Ipv6 { range, gateway: range.nth6(1) }
}

/// A member with an address, and a server behind it that tells who asks.
fn member(network: &Network, ipv6: Ipv6, id: &str, index: u128) -> (std::path::PathBuf, Ipv6Addr) {
    let pod = attach(network, id);
    let ip = ipv6.range.nth6(index).unwrap();
    network.join_ipv6(id, ip, ipv6, &pod.netns, true).unwrap();
    serve(&pod.netns);
    (pod.netns, ip)
}

fn serve(namespace: &Path) {
    let listener = at(namespace, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = write!(stream, "{}", stream.peer_addr().unwrap().ip());
        }
    });
}

fn ask(from: &Path, to: Ipv6Addr, patience: std::time::Duration) -> Option<IpAddr> {
    at(from, move || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, 80)), patience).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    })
}

#[test]
fn members_reach_each_other_and_the_world_and_other_networks_do_not_reach_them() {
    let machine = Machine::new();
    let (node, outside): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
    ip(&format!("addr add {node}/64 dev wire nodad"));
    at(&machine.outside, || {
        ip(&format!("addr add {outside}/64 dev wire-far nodad"));
        ip(&format!("route add default via {node}"));
    });
    serve(&machine.outside);
    let ((front, range), (back, other)) = (open(&machine, "front", 42, false), open(&machine, "back", 44, false));
    let (a, a_ip) = member(&front, range, "a", 2);
    let (b, b_ip) = member(&front, range, "b", 3);
    let (web, web_ip) = member(&back, other, "web", 2);
    assert_eq!(ask(&a, b_ip, DEADLINE), Some(a_ip.into()));
    assert_eq!(ask(&b, a_ip, DEADLINE), Some(b_ip.into()));
    assert_eq!(ask(&machine.own, web_ip, DEADLINE), other.gateway.map(IpAddr::from));
    assert_eq!(ask(&a, outside, DEADLINE), Some(node.into()), "under the node's address");
    let short = std::time::Duration::from_millis(300);
    assert_eq!(ask(&a, web_ip, short), None);
    assert_eq!(ask(&web, b_ip, short), None);
    assert_eq!(ask(&machine.outside, web_ip, short), None);

    let (inner, range) = open(&machine, "inner", 46, true);
    let (c, _) = member(&inner, range, "c", 2);
    let (_, d_ip) = member(&inner, range, "d", 3);
    assert!(ask(&c, d_ip, DEADLINE).is_some());
    assert_eq!(ask(&c, outside, short), None);
}
