//! Service rules under real traffic. Above 500 lines: one sentence a behaviour, over a few shared helpers.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use network::service::{Protocol, ServiceId, ServicePort, ServiceRules, TrafficPolicy};
use network::{Network, PodAttach, PodNetwork};

use crate::machine::*;

/// The cluster address of the Service under test.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 80);

fn id(name: &str) -> ServiceId {
    ServiceId::new("default", name)
}

/// A Service at `VIP`:80 in front of these endpoints, all of them local.
fn rules(protocol: Protocol, endpoints: &[SocketAddr]) -> ServiceRules {
    ServiceRules {
        cluster_ips: vec![VIP.into()],
        ports: vec![ServicePort {
            protocol,
            port: 80,
            node_port: None,
            endpoints: endpoints.to_vec(),
            local_endpoints: endpoints.to_vec(),
            draining: vec![],
        }],
        ..ServiceRules::default()
    }
}

fn ask(protocol: Protocol, from: &Path, to: (Ipv4Addr, u16)) -> io::Result<Answer> {
    match protocol {
        Protocol::Tcp => ask_tcp(from, to),
        _ => ask_udp(from, to),
    }
}

fn apply(network: &Network, name: &str, rules: ServiceRules) {
    network.services().apply(&id(name), Some(rules)).unwrap();
    network.services().settle();
}

/// A pod named `name` that serves TCP and UDP on port 8080.
fn server(network: &Network, name: &str) -> (PodNetwork, SocketAddr) {
    let pod = attach(network, name);
    serve_tcp(&pod.netns, 8080, name);
    serve_udp(&pod.netns, 8080, name);
    let address = (pod.ip, 8080).into();
    (pod, address)
}

/// `count` UDP servers, the ports 9000… of one pod, each named by its port.
fn many_endpoints(pod: &PodNetwork, count: u16) -> Vec<SocketAddr> {
    (9000..9000 + count)
        .map(|port| {
            serve_udp(&pod.netns, port, &port.to_string());
            (pod.ip, port).into()
        })
        .collect()
}

/// How often each server answered one of `times` new flows to `VIP`:80 over UDP.
fn tally(client: &PodNetwork, times: usize) -> HashMap<String, usize> {
    // A port used twice would be the old flow, not a new one.
    static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);
    at(&client.netns, || {
        let mut counts = HashMap::new();
        for _ in 0..times {
            let socket = UdpSocket::bind((client.ip, NEXT_PORT.fetch_add(1, Ordering::Relaxed))).unwrap();
            socket.connect((VIP, 80)).unwrap();
            *counts.entry(ask_on(&socket).unwrap().server).or_insert(0) += 1;
        }
        counts
    })
}

/// Pearson's chi-square against an even split, made a normal deviate by Wilson and Hilferty's cube root. Beyond five
/// standard deviations (3 in 10 million even splits) the split is not even.
fn assert_even(counts: &HashMap<String, usize>, endpoints: usize, times: usize) {
    assert_eq!(counts.len(), endpoints, "every endpoint serves");
    let expected = times as f64 / endpoints as f64;
    let chi_square: f64 = counts.values().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    if endpoints > 1 {
        let freedom = (endpoints - 1) as f64;
        let variance = 2.0 / (9.0 * freedom);
        let deviate = ((chi_square / freedom).cbrt() - (1.0 - variance)) / variance.sqrt();
        assert!(deviate < 5.0, "{deviate} standard deviations: {counts:?}");
    }
}

#[test]
fn a_cluster_address_works_from_pods_and_the_node_and_preserves_the_source() {
    for bridge_netfilter in [false, true] {
        let machine = Machine::new();
        set_bridge_netfilter(bridge_netfilter);
        let network = machine.open();
        let client = attach(&network, "client");
        let (_, endpoint) = server(&network, "web");
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            apply(&network, "web", rules(protocol, &[endpoint]));
            let ask = |from: &Path, to: (Ipv4Addr, u16)| ask(protocol, from, to);
            let answer = ask(&client.netns, (VIP, 80)).unwrap();
            assert_eq!((answer.server.as_str(), answer.client.ip()), ("web", client.ip.into()));
            assert_eq!(ask(&machine.own, (VIP, 80)).unwrap().server, "web");
        }
    }
}

#[test]
fn a_service_of_the_node_itself_works_before_there_is_any_pod_and_from_pods() {
    let machine = Machine::new();
    let network = machine.open();
    serve_tcp(&machine.own, 6443, "api");
    let endpoint: SocketAddr = (NODE, 6443).into();
    let mut rules = rules(Protocol::Tcp, &[endpoint]);
    rules.ports[0].node_port = Some(30443);
    apply(&network, "kubernetes", rules);
    assert_eq!(ask_tcp(&machine.own, (VIP, 80)).unwrap().server, "api");
    assert_eq!(ask_tcp(&machine.own, (Ipv4Addr::LOCALHOST, 30443)).unwrap().server, "api");
    let client = attach(&network, "client");
    let answer = ask_tcp(&client.netns, (VIP, 80)).unwrap();
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("api", client.ip.into()));
    assert_eq!(ask_tcp(&machine.outside, (NODE, 30443)).unwrap().server, "api");
}

#[test]
fn an_endpoint_outside_the_cluster_sees_the_nodes_address() {
    let machine = Machine::new();
    let network = machine.open();
    serve_tcp(&machine.outside, 80, "outside");
    apply(&network, "web", rules(Protocol::Tcp, &[(CLIENT, 80).into()]));
    let client = attach(&network, "client");
    for from in [&client.netns, &machine.own] {
        let answer = ask_tcp(from, (VIP, 80)).unwrap();
        assert_eq!((answer.server.as_str(), answer.client.ip()), ("outside", NODE.into()));
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service_masqueraded_then_only() {
    for bridge_netfilter in [false, true] {
        let machine = Machine::new();
        set_bridge_netfilter(bridge_netfilter);
        let network = machine.open();
        let (pod, endpoint) = server(&network, "web");
        apply(&network, "web", rules(Protocol::Tcp, &[endpoint]));
        let answer = ask_tcp(&pod.netns, (VIP, 80)).unwrap();
        assert_eq!((answer.server.as_str(), answer.client.ip()), ("web", network.gateway().into()));
        // Directly it talks to itself over loopback.
        assert_eq!(ask_tcp(&pod.netns, endpoint).unwrap().client.ip(), IpAddr::from(pod.ip));
    }
}

#[test]
fn connections_split_evenly_over_any_number_of_endpoints() {
    let machine = Machine::new();
    let network = machine.open();
    let (client, pod) = (attach(&network, "client"), attach(&network, "servers"));
    let endpoints = many_endpoints(&pod, 17);
    for count in [1, 2, 3, 7, 16, 17] {
        apply(&network, "web", rules(Protocol::Udp, &endpoints[..count]));
        let times = 150 * count;
        assert_even(&tally(&client, times), count, times);
    }
}

#[test]
fn the_number_of_endpoints_has_no_cap() {
    let machine = Machine::new();
    let network = machine.open();
    let (client, pod) = (attach(&network, "client"), attach(&network, "servers"));
    let endpoints = many_endpoints(&pod, 300);
    apply(&network, "web", rules(Protocol::Udp, &endpoints));
    assert_even(&tally(&client, 6000), 300, 6000);
    // Far more than can be served here: the kernel takes them.
    let thousands: Vec<SocketAddr> = (0..5000u32).map(|n| (Ipv4Addr::from(0x0a2a_0000 + n), 80).into()).collect();
    apply(&network, "web", rules(Protocol::Udp, &thousands));
    apply(&network, "web", rules(Protocol::Udp, &endpoints[..2]));
    assert_even(&tally(&client, 400), 2, 400);
}

#[test]
fn only_the_endpoints_of_the_last_change_serve() {
    let machine = Machine::new();
    let network = machine.open();
    let (client, pod) = (attach(&network, "client"), attach(&network, "servers"));
    let endpoints = many_endpoints(&pod, 6);
    // Sets that shrink, grow, turn over and return.
    for chosen in [&[0, 1, 2][..], &[2], &[3, 4, 5], &[5, 0], &[0, 1, 2, 3, 4, 5], &[1, 4]] {
        let wanted: Vec<SocketAddr> = chosen.iter().map(|n| endpoints[*n]).collect();
        apply(&network, "web", rules(Protocol::Udp, &wanted));
        assert_even(&tally(&client, 60 * chosen.len()), chosen.len(), 60 * chosen.len());
    }
}

#[test]
fn a_node_port_works_on_every_address_of_the_node_loopback_included() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (web, endpoint) = server(&network, "web");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut rules = rules(protocol, &[endpoint]);
        rules.ports[0].node_port = Some(30080);
        apply(&network, "web", rules);
        let ask = |from: &Path, to: (Ipv4Addr, u16)| ask(protocol, from, to);
        assert_eq!(ask(&machine.own, (Ipv4Addr::LOCALHOST, 30080)).unwrap().server, "web");
        assert_eq!(ask(&machine.own, (NODE, 30080)).unwrap().server, "web");
        assert_eq!(ask(&client.netns, (NODE, 30080)).unwrap().server, "web");
        assert_eq!(ask(&web.netns, (NODE, 30080)).unwrap().server, "web");
        // As upstream: with policy Cluster, external traffic is masqueraded.
        let answer = ask(&machine.outside, (NODE, 30080)).unwrap();
        assert_eq!((answer.server.as_str(), answer.client.ip()), ("web", network.gateway().into()));
    }
}

#[test]
fn external_traffic_policy_local_preserves_the_client_and_uses_local_endpoints_only() {
    let machine = Machine::new();
    let network = machine.open();
    let (_, near) = server(&network, "near");
    let (_, far) = server(&network, "far");
    let mut rules = rules(Protocol::Tcp, &[near, far]);
    rules.external_traffic_policy = TrafficPolicy::Local;
    rules.ports[0].node_port = Some(30080);
    rules.ports[0].local_endpoints = vec![near];
    apply(&network, "web", rules.clone());
    for _ in 0..20 {
        let answer = ask_tcp(&machine.outside, (NODE, 30080)).unwrap();
        assert_eq!((answer.server.as_str(), answer.client.ip()), ("near", CLIENT.into()));
    }
    // The node itself, like pods, reaches all.
    let servers: Vec<_> = (0..40).map(|_| ask_tcp(&machine.own, (NODE, 30080)).unwrap().server).collect();
    assert!(servers.contains(&"far".to_owned()) && servers.contains(&"near".to_owned()));

    // Without a local endpoint nothing answers: neither a server nor a refusal.
    rules.ports[0].local_endpoints.clear();
    apply(&network, "web", rules);
    let silence = at(&machine.outside, || {
        std::net::TcpStream::connect_timeout(&(NODE, 30080).into(), Duration::from_millis(300)).unwrap_err().kind()
    });
    assert_eq!(silence, ErrorKind::TimedOut);
}

#[test]
fn external_and_load_balancer_addresses_lead_to_the_service() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (_, endpoint) = server(&network, "web");
    let (external, balancer) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2));
    let mut rules = rules(Protocol::Tcp, &[endpoint]);
    rules.external_ips = vec![external.into()];
    rules.load_balancer_ips = vec![balancer.into()];
    apply(&network, "web", rules);
    for address in [external, balancer] {
        assert_eq!(ask_tcp(&machine.outside, (address, 80)).unwrap().server, "web");
        assert_eq!(ask_tcp(&client.netns, (address, 80)).unwrap().server, "web");
    }
}

#[test]
fn a_client_stays_with_its_endpoint_until_the_endpoint_goes() {
    let machine = Machine::new();
    let network = machine.open();
    let (client, pod) = (attach(&network, "client"), attach(&network, "servers"));
    let endpoints = many_endpoints(&pod, 8);
    let sticky = |endpoints: &[SocketAddr]| {
        let mut rules = rules(Protocol::Udp, endpoints);
        rules.session_affinity = Some(Duration::from_secs(600));
        rules
    };
    apply(&network, "web", sticky(&endpoints));
    let first = tally(&client, 30);
    assert_eq!(first.len(), 1, "{first:?}");
    let chosen = first.into_keys().next().unwrap();
    // Others come and go: it stays.
    let fewer: Vec<_> = endpoints.iter().copied().skip(2).chain([endpoint_named(&endpoints, &chosen)]).collect();
    apply(&network, "web", sticky(&fewer));
    assert_eq!(tally(&client, 10), HashMap::from([(chosen.clone(), 10)]));
    // Its own goes: it stays with another.
    let rest: Vec<_> = endpoints.iter().copied().filter(|e| *e != endpoint_named(&endpoints, &chosen)).collect();
    apply(&network, "web", sticky(&rest));
    let second = tally(&client, 30);
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(!second.contains_key(&chosen));
    // Clients are spread.
    let others: HashMap<String, usize> = (0..12).fold(HashMap::new(), |mut all, n| {
        let other = attach(&network, &format!("client-{n}"));
        *all.entry(tally(&other, 1).into_keys().next().unwrap()).or_insert(0) += 1;
        all
    });
    assert!(others.len() > 1, "{others:?}");
}

fn endpoint_named(endpoints: &[SocketAddr], name: &str) -> SocketAddr {
    *endpoints.iter().find(|endpoint| endpoint.port().to_string() == name).unwrap()
}

#[test]
fn affinity_ends_with_its_timeout_and_survives_a_restart() {
    let machine = Machine::new();
    let network = machine.open();
    let (client, pod) = (attach(&network, "client"), attach(&network, "servers"));
    let endpoints = many_endpoints(&pod, 8);
    let mut sticky = rules(Protocol::Udp, &endpoints);
    sticky.session_affinity = Some(Duration::from_secs(600));
    apply(&network, "web", sticky.clone());
    let chosen = tally(&client, 1);
    drop(network);
    let network = machine.open();
    assert_eq!(tally(&client, 5).keys().collect::<Vec<_>>(), chosen.keys().collect::<Vec<_>>());
    network.services().replace_all([(id("web"), sticky.clone())]).unwrap();
    assert_eq!(tally(&client, 5).keys().collect::<Vec<_>>(), chosen.keys().collect::<Vec<_>>());

    // One second, on a Service that has no memory of this client yet.
    sticky.session_affinity = Some(Duration::from_secs(1));
    sticky.ports[0].port = 81;
    apply(&network, "brief", ServiceRules { cluster_ips: vec![Ipv4Addr::new(10, 43, 0, 81).into()], ..sticky });
    let seen = at(&client.netns, || {
        let ask = || ask_udp_here((Ipv4Addr::new(10, 43, 0, 81), 81).into()).unwrap().server;
        let first = ask();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        // Each call renews the memory, so calls come at growing distances until one has outlived it.
        let mut pause = Duration::from_millis(1100);
        while std::time::Instant::now() < deadline {
            std::thread::park_timeout(pause);
            if ask() != first {
                return true;
            }
            pause += Duration::from_millis(50);
        }
        false
    });
    assert!(seen, "the client never got another endpoint");
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut rules = rules(protocol, &[]);
        rules.ports[0].node_port = Some(30080);
        apply(&network, "web", rules);
        let ask = |from: &Path, to: (Ipv4Addr, u16)| ask(protocol, from, to);
        for (from, to) in [
            (&client.netns, (VIP, 80)),
            (&machine.own, (VIP, 80)),
            (&machine.own, (Ipv4Addr::LOCALHOST, 30080)),
            (&machine.outside, (NODE, 30080)),
        ] {
            let refused = ask(from, to).unwrap_err().kind();
            // The kernel tells a local sender of a datagram at once that it was not let out.
            let expected = match protocol == Protocol::Udp && *from == machine.own {
                true => ErrorKind::PermissionDenied,
                false => ErrorKind::ConnectionRefused,
            };
            assert_eq!(refused, expected, "{protocol} {from:?} {to:?}");
        }
    }
}

#[test]
fn an_address_of_the_service_range_without_a_service_refuses_too() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (_, endpoint) = server(&network, "web");
    apply(&network, "web", rules(Protocol::Tcp, &[endpoint]));
    for to in [(VIP, 81), (Ipv4Addr::new(10, 43, 9, 9), 80)] {
        for from in [&client.netns, &machine.own] {
            assert_eq!(ask_tcp(from, to).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    }
    network.services().apply(&id("web"), None).unwrap();
    assert_eq!(ask_tcp(&client.netns, (VIP, 80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn connections_to_a_deleted_endpoint_are_cut_and_those_to_a_draining_one_are_not() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (_, a) = server(&network, "a");
    let (_, b) = server(&network, "b");
    apply(&network, "web", rules(Protocol::Tcp, &[a]));
    let mut conversation = talk_tcp(&client.netns, (VIP, 80)).unwrap();
    let mut from_node = talk_tcp(&machine.own, (VIP, 80)).unwrap();
    conversation.echo().unwrap();

    let mut draining = rules(Protocol::Tcp, &[b]);
    draining.ports[0].draining = vec![a];
    apply(&network, "web", draining);
    conversation.echo().unwrap();
    from_node.echo().unwrap();
    assert_eq!(ask_tcp(&client.netns, (VIP, 80)).unwrap().server, "b");

    apply(&network, "web", rules(Protocol::Tcp, &[b]));
    for cut in [&mut conversation, &mut from_node] {
        assert_eq!(cut.echo().unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(ask_tcp(&client.netns, (VIP, 80)).unwrap().server, "b");
}

#[test]
fn cutting_one_service_leaves_connections_through_another_and_direct_ones_alone() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (_, a) = server(&network, "a");
    let other_address = Ipv4Addr::new(10, 43, 0, 81);
    let mut other = rules(Protocol::Tcp, &[a]);
    other.cluster_ips = vec![other_address.into()];
    other.ports[0].port = 81;
    apply(&network, "other", other);
    apply(&network, "web", rules(Protocol::Tcp, &[a]));
    let mut through_web = talk_tcp(&client.netns, (VIP, 80)).unwrap();
    let mut through_other = talk_tcp(&client.netns, (other_address, 81)).unwrap();
    let mut direct = talk_tcp(&client.netns, a).unwrap();
    apply(&network, "web", rules(Protocol::Tcp, &[]));
    assert_eq!(through_web.echo().unwrap_err().kind(), ErrorKind::ConnectionReset);
    through_other.echo().unwrap();
    direct.echo().unwrap();
}

#[test]
fn a_udp_flow_moves_on_when_its_endpoint_is_no_longer_ready() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (_, a) = server(&network, "a");
    let (_, b) = server(&network, "b");
    apply(&network, "web", rules(Protocol::Udp, &[a]));
    let socket = at(&client.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:5555").unwrap();
        socket.connect((VIP, 80)).unwrap();
        socket
    });
    assert_eq!(ask_on(&socket).unwrap().server, "a");
    let mut moved = rules(Protocol::Udp, &[b]);
    moved.ports[0].draining = vec![a];
    apply(&network, "web", moved);
    assert_eq!(ask_on(&socket).unwrap().server, "b");
    apply(&network, "web", rules(Protocol::Udp, &[]));
    assert_eq!(ask_on(&socket).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    apply(&network, "web", rules(Protocol::Udp, &[a]));
    assert_eq!(ask_on(&socket).unwrap().server, "a");
    network.services().apply(&id("web"), None).unwrap();
    network.services().settle();
    assert_eq!(ask_on(&socket).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_udp_flow_older_than_its_service_finds_it() {
    let machine = Machine::new();
    let network = machine.open();
    let (_, a) = server(&network, "a");
    serve_udp(&machine.own, 30080, "node");
    let socket = at(&machine.outside, || {
        let socket = UdpSocket::bind("0.0.0.0:5555").unwrap();
        socket.connect((NODE, 30080)).unwrap();
        socket
    });
    assert_eq!(ask_on(&socket).unwrap().server, "node");
    let mut rules = rules(Protocol::Udp, &[a]);
    rules.ports[0].node_port = Some(30080);
    apply(&network, "web", rules);
    assert_eq!(ask_on(&socket).unwrap().server, "a");
}

#[test]
fn a_detached_pod_takes_its_connections_along() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (_, a) = server(&network, "a");
    let (_, b) = server(&network, "b");
    apply(&network, "web", rules(Protocol::Tcp, &[a]));
    let mut conversation = talk_tcp(&client.netns, (VIP, 80)).unwrap();
    let mut draining = rules(Protocol::Tcp, &[b]);
    draining.ports[0].draining = vec![a];
    apply(&network, "web", draining);
    conversation.echo().unwrap();
    network.detach("a").unwrap();
    network.services().settle();
    assert_eq!(conversation.echo().unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn two_services_never_share_a_node_port_and_the_second_gets_it_when_it_is_free() {
    let machine = Machine::new();
    let network = machine.open();
    let (_, a) = server(&network, "a");
    let (_, b) = server(&network, "b");
    let with_port = |endpoint, address: Ipv4Addr| {
        let mut rules = rules(Protocol::Tcp, &[endpoint]);
        rules.cluster_ips = vec![address.into()];
        rules.ports[0].node_port = Some(30080);
        rules
    };
    apply(&network, "first", with_port(a, VIP));
    apply(&network, "second", with_port(b, Ipv4Addr::new(10, 43, 0, 81)));
    for _ in 0..10 {
        assert_eq!(ask_tcp(&machine.own, (NODE, 30080)).unwrap().server, "a");
    }
    network.services().apply(&id("first"), None).unwrap();
    assert_eq!(ask_tcp(&machine.own, (NODE, 30080)).unwrap().server, "b");
}

#[test]
fn services_work_on_through_a_restart_and_only_differences_are_written() {
    let machine = Machine::new();
    let network = machine.open();
    let (client, pod) = (attach(&network, "client"), attach(&network, "servers"));
    let endpoints = many_endpoints(&pod, 5);
    let mut web = rules(Protocol::Udp, &endpoints[..3]);
    web.ports[0].node_port = Some(30080);
    apply(&network, "web", web.clone());
    let mut gone = rules(Protocol::Udp, &endpoints);
    gone.cluster_ips = vec![Ipv4Addr::new(10, 43, 0, 81).into()];
    apply(&network, "gone", gone);
    drop(network);

    let network = machine.open();
    assert_even(&tally(&client, 300), 3, 300);
    // A change before everything is known again…
    web.ports[0].endpoints = endpoints[2..].to_vec();
    web.ports[0].local_endpoints = endpoints[2..].to_vec();
    apply(&network, "web", web.clone());
    assert_even(&tally(&client, 300), 3, 300);
    assert_eq!(
        ask_udp(&client.netns, (Ipv4Addr::new(10, 43, 0, 81), 80)).unwrap().client.ip(),
        IpAddr::from(client.ip)
    );
    // …and then everything: what is gone is gone.
    network.services().replace_all([(id("web"), web)]).unwrap();
    assert_even(&tally(&client, 300), 3, 300);
    let refused = ask_udp(&client.netns, (Ipv4Addr::new(10, 43, 0, 81), 80)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn rules_flushed_by_someone_else_come_back_with_the_next_change() {
    let machine = Machine::new();
    let network = machine.open();
    let client = attach(&network, "client");
    let (_, endpoint) = server(&network, "web");
    let other = attach(&network, "other");
    let ports = vec![host_port(Protocol::Tcp, 8080, 8080)];
    network.attach(&PodAttach { id: "web".into(), host_ports: ports }).unwrap();
    let mut sticky = rules(Protocol::Tcp, &[endpoint]);
    sticky.session_affinity = Some(Duration::from_secs(60));
    apply(&network, "web", sticky.clone());
    delete_table("hythe-test");
    assert!(at(&client.netns, || {
        std::net::TcpStream::connect_timeout(&(VIP, 80).into(), Duration::from_millis(200)).is_err()
    }));
    sticky.ports[0].endpoints.push((other.ip, 8080).into());
    sticky.ports[0].endpoints.rotate_left(1);
    sticky.ports[0].endpoints.truncate(2);
    serve_tcp(&other.netns, 8080, "other");
    apply(&network, "web", sticky);
    ask_tcp(&client.netns, (VIP, 80)).unwrap();
    assert_eq!(ask_tcp(&machine.own, (NODE, 8080)).unwrap().server, "web");
}

/// Deletes a table as `nft delete table ip NAME` would, in the calling thread's namespace.
fn delete_table(name: &str) {
    use nix::sys::socket::*;
    use std::os::fd::AsRawFd;
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkNetFilter).unwrap();
    let message = |kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]| {
        let mut bytes = ((20 + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(body);
        bytes
    };
    let mut attribute = ((4 + name.len() + 1) as u16).to_ne_bytes().to_vec();
    attribute.extend(1u16.to_ne_bytes());
    attribute.extend(name.as_bytes());
    attribute.push(0);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let mut batch = message(0x10, 1, 0, 10, &[]);
    batch.extend(message(10 << 8 | 2, 1 | 4, 2, 0, &attribute));
    batch.extend(message(0x11, 1, 0, 10, &[]));
    send(socket.as_raw_fd(), &batch, MsgFlags::empty()).unwrap();
    let mut buffer = [0; 4096];
    recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
    assert_eq!(i32::from_ne_bytes(buffer[16..20].try_into().unwrap()), 0, "the table is deleted");
}

#[test]
fn ten_thousand_services_load_and_each_of_them_works() {
    let machine = Machine::new();
    let network = machine.open();
    let (client, pod) = (attach(&network, "client"), attach(&network, "servers"));
    let endpoints = many_endpoints(&pod, 2);
    let address = |n: u32| Ipv4Addr::from(0x0a2b_1000 + n);
    let all = (0..10_000).map(|n| {
        let mut rules = rules(Protocol::Udp, &endpoints);
        rules.cluster_ips = vec![address(n).into()];
        (id(&format!("s{n}")), rules)
    });
    network.services().replace_all(all).unwrap();
    at(&client.netns, || {
        for n in (0..10_000).step_by(97) {
            ask_udp_here((address(n), 80).into()).unwrap();
        }
    });
    drop(network);
    let network = machine.open();
    network.services().replace_all([]).unwrap();
    assert_eq!(ask_udp(&client.netns, (address(5), 80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
