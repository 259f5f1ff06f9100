//! The name server over its sockets. What it says to which name is tested beside the zone's code.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use hickory_server::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_server::proto::rr::rdata::A;
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use network::dns::{DnsConfig, EndpointRecord, Server, ServiceRecord, upstream_from};
use tokio::runtime::Runtime;

use crate::machine::*;

const DNS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

/// A name server on this machine with a Service `web.default` and a headless `db.default` of 200 endpoints.
fn start(listen: SocketAddr, upstream: &[SocketAddr]) -> (Runtime, Server) {
    // A runtime of this thread alone: it lives on this test's machine.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = DnsConfig {
        listen: vec![listen],
        cluster_domain: "cluster.local".into(),
        reverse: vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()],
        upstream: upstream.to_vec(),
        ttl: Duration::from_secs(5),
        upstream_timeout: Duration::from_millis(400),
    };
    let server = runtime.block_on(Server::start(config)).unwrap();
    let web = ServiceRecord { cluster_ips: vec![Ipv4Addr::new(10, 43, 0, 80).into()], ..ServiceRecord::default() };
    server.zone().set_service("default", "web", web);
    server.zone().set_service("default", "db", ServiceRecord::default());
    let endpoint =
        |n: u8| EndpointRecord { ip: IpAddr::from([10, 42, 1, n]), hostname: None, ready: true, ports: vec![] };
    server.zone().set_endpoints("default", "db", (0..200).map(endpoint).collect());
    let external = ServiceRecord { external_name: Some("www.example.com".into()), ..ServiceRecord::default() };
    server.zone().set_service("default", "out", external);
    (runtime, server)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn over_udp(namespace: &Path, server: SocketAddr, question: &Message) -> Message {
    let bytes = question.to_vec().unwrap();
    let answer = at(namespace, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.send(&bytes).unwrap();
        let mut buffer = vec![0; 65536];
        let length = socket.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    });
    assert_eq!(answer.metadata.id, question.metadata.id);
    assert_eq!(answer.queries, question.queries);
    answer
}

fn over_tcp(namespace: &Path, server: SocketAddr, question: &Message) -> Message {
    let bytes = question.to_vec().unwrap();
    at(namespace, || {
        let mut stream = TcpStream::connect_timeout(&server, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut buffer).unwrap();
        Message::from_vec(&buffer).unwrap()
    })
}

fn addresses(message: &Message) -> Vec<String> {
    let a = message.answers.iter().filter(|record| record.record_type() == RecordType::A);
    a.map(|record| record.data.to_string()).collect()
}

/// The answer every fake resolver gives to everything.
fn fixed_answer(request: &[u8], truncated: bool) -> Vec<u8> {
    let mut message = Message::from_vec(request).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.metadata.truncation = truncated;
    message.additionals.clear();
    if !truncated {
        let name = message.queries[0].name().clone();
        message.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(198, 51, 100, 7)))));
    }
    message.to_vec().unwrap()
}

/// A resolver on the other machine. With `large` its answers only fit TCP.
fn fake_resolver(machine: &Machine, port: u16, large: bool) -> SocketAddr {
    let (udp, tcp) =
        at(&machine.outside, || (UdpSocket::bind((CLIENT, port)).unwrap(), TcpListener::bind((CLIENT, port)).unwrap()));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            udp.send_to(&fixed_answer(&buffer[..length], large), client).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut request).unwrap();
            let answer = fixed_answer(&request, false);
            stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    (CLIENT, port).into()
}

#[test]
fn the_cluster_address_answers_pods_and_the_node_over_udp_and_tcp() {
    for bridge_netfilter in [false, true] {
        let machine = Machine::new();
        set_bridge_netfilter(bridge_netfilter);
        let network = machine.open();
        let pod = attach(&network, "client");
        let (_runtime, server) = start((DNS, 53).into(), &[]);
        // A Service at the same address, as `kube-dns` is, doesn't take the traffic away.
        let rules = network::service::ServiceRules {
            cluster_ips: vec![DNS.into()],
            ports: vec![network::service::ServicePort {
                protocol: network::service::Protocol::Udp,
                port: 53,
                node_port: None,
                endpoints: vec![],
                local_endpoints: vec![],
                draining: vec![],
            }],
            ..Default::default()
        };
        network.services().apply(&network::service::ServiceId::new("kube-system", "kube-dns"), Some(rules)).unwrap();
        let question = question("web.default.svc.cluster.local.", RecordType::A);
        for from in [&pod.netns, &machine.own] {
            let answer = over_udp(from, server.addresses()[0], &question);
            assert_eq!(addresses(&answer), ["10.43.0.80"]);
            assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
            assert_eq!(answer.answers[0].ttl, 5);
            assert_eq!(addresses(&over_tcp(from, server.addresses()[0], &question)), ["10.43.0.80"]);
        }
    }
}

#[test]
fn an_answer_that_does_not_fit_is_truncated_and_whole_over_tcp() {
    let machine = Machine::new();
    let (_runtime, server) = start("127.0.0.1:0".parse().unwrap(), &[]);
    let mut question = question("db.default.svc.cluster.local.", RecordType::A);
    let plain = over_udp(&machine.own, server.addresses()[0], &question);
    assert!(plain.metadata.truncation && plain.edns.is_none());
    let fitting = addresses(&plain).len();
    assert!((1..32).contains(&fitting), "{fitting}");

    let mut edns = Edns::new();
    edns.set_max_payload(1200);
    question.set_edns(edns);
    let extended = over_udp(&machine.own, server.addresses()[0], &question);
    assert!(extended.metadata.truncation && extended.edns.is_some());
    assert!(addresses(&extended).len() > fitting);

    let whole = over_tcp(&machine.own, server.addresses()[0], &question);
    assert!(!whole.metadata.truncation);
    assert_eq!(addresses(&whole).len(), 200);
}

#[test]
fn what_is_not_there_is_said_with_the_start_of_authority() {
    let machine = Machine::new();
    let (_runtime, server) = start("127.0.0.1:0".parse().unwrap(), &[]);
    for (name, kind, code) in [
        ("nothing.default.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
        ("web.default.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
        ("9.9.43.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
    ] {
        let answer = over_udp(&machine.own, server.addresses()[0], &question(name, kind));
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0), "{name}");
        let authority: Vec<_> = answer.authorities.iter().map(Record::record_type).collect();
        assert_eq!(authority, [RecordType::SOA], "{name}");
        assert!(answer.metadata.authoritative);
    }
}

#[test]
fn all_addresses_of_a_headless_service_come_first_in_turn() {
    let machine = Machine::new();
    let (_runtime, server) = start("127.0.0.1:0".parse().unwrap(), &[]);
    let first: std::collections::HashSet<String> = (0..40)
        .map(|_| {
            let question = question("db.default.svc.cluster.local.", RecordType::A);
            addresses(&over_tcp(&machine.own, server.addresses()[0], &question)).remove(0)
        })
        .collect();
    assert!(first.len() > 10, "{first:?}");
}

#[test]
fn other_names_are_forwarded_and_large_answers_fetched_over_tcp() {
    let machine = Machine::new();
    for large in [false, true] {
        let resolver = fake_resolver(&machine, 5300 + u16::from(large), large);
        let (_runtime, server) = start("127.0.0.1:0".parse().unwrap(), &[resolver]);
        let answer = over_udp(&machine.own, server.addresses()[0], &question("www.example.com.", RecordType::A));
        assert_eq!(addresses(&answer), ["198.51.100.7"]);
        assert!(!answer.metadata.authoritative && !answer.metadata.truncation);
        // An external name is an alias, with what it leads to.
        let alias =
            over_udp(&machine.own, server.addresses()[0], &question("out.default.svc.cluster.local.", RecordType::A));
        assert_eq!(alias.answers[0].record_type(), RecordType::CNAME);
        assert_eq!(addresses(&alias), ["198.51.100.7"]);
    }
}

#[test]
fn the_next_resolver_is_asked_when_one_is_silent_and_then_first() {
    let machine = Machine::new();
    // Bound and never read.
    let silent = at(&machine.outside, || UdpSocket::bind((CLIENT, 5301)).unwrap());
    let answering = fake_resolver(&machine, 5302, false);
    let (_runtime, server) = start("127.0.0.1:0".parse().unwrap(), &[silent.local_addr().unwrap(), answering]);
    let ask = || {
        let start = Instant::now();
        let answer = over_udp(&machine.own, server.addresses()[0], &question("www.example.com.", RecordType::A));
        assert_eq!(addresses(&answer), ["198.51.100.7"]);
        start.elapsed()
    };
    let first = ask();
    assert!(first >= Duration::from_millis(400), "the silent one was asked first: {first:?}");
    silent.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    silent.recv_from(&mut buffer).expect("the first question");
    ask();
    assert!(silent.recv_from(&mut buffer).is_err(), "the silent one is not asked again at once");
}

#[test]
fn without_a_resolver_that_answers_the_failure_comes_fast() {
    let machine = Machine::new();
    let closed: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let unreachable: SocketAddr = "203.0.113.1:53".parse().unwrap();
    for upstream in [vec![], vec![closed], vec![unreachable, closed]] {
        let (_runtime, server) = start("127.0.0.1:0".parse().unwrap(), &upstream);
        let answer = over_udp(&machine.own, server.addresses()[0], &question("www.example.com.", RecordType::A));
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "{upstream:?}");
        // Cluster names don't care.
        let answer =
            over_udp(&machine.own, server.addresses()[0], &question("web.default.svc.cluster.local.", RecordType::A));
        assert_eq!(addresses(&answer), ["10.43.0.80"]);
    }
}

#[test]
fn nonsense_is_survived_and_zone_transfers_are_refused() {
    let machine = Machine::new();
    let (_runtime, server) = start("127.0.0.1:0".parse().unwrap(), &[]);
    let address = server.addresses()[0];
    let mut noise: u64 = 7;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..300 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 33) as u8
            })
            .collect();
        socket.send_to(&bytes, address).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&bytes);
    }
    let transfer = over_tcp(&machine.own, address, &question("cluster.local.", RecordType::AXFR));
    assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);
    let mut reply = question("web.default.svc.cluster.local.", RecordType::A);
    reply.metadata.message_type = MessageType::Response;
    socket.send_to(&reply.to_vec().unwrap(), address).unwrap();
    let answer = over_udp(&machine.own, address, &question("web.default.svc.cluster.local.", RecordType::A));
    assert_eq!(addresses(&answer), ["10.43.0.80"]);
}

#[test]
fn a_taken_port_is_an_error_and_a_dropped_server_frees_it() {
    let _machine = Machine::new();
    let (runtime, server) = start("127.0.0.1:0".parse().unwrap(), &[]);
    let address = server.addresses()[0];
    let again = |runtime: &Runtime| {
        runtime.block_on(Server::start(DnsConfig {
            listen: vec![address],
            cluster_domain: "cluster.local".into(),
            reverse: vec![],
            upstream: vec![],
            ttl: Duration::from_secs(5),
            upstream_timeout: Duration::from_secs(1),
        }))
    };
    assert_eq!(again(&runtime).err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
    drop(server);
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = again(&runtime) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::yield_now();
    }
}

#[test]
fn resolv_conf_gives_resolvers_but_never_the_cluster_itself() {
    let text = "# comment\nsearch example.com\nnameserver 192.0.2.53\n nameserver 10.43.0.10 \nnameserver fd00::53\nnameserver nonsense\n";
    let found = upstream_from(text, &[DNS.into()]);
    assert_eq!(found, ["192.0.2.53:53".parse().unwrap(), "[fd00::53]:53".parse().unwrap()]);
}
