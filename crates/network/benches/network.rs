//! What pods and Services cost. Needs root; works on a machine of its own made of namespaces, like the tests.
//!
//! The peers' figures were measured on a machine of the same kind: `ip netns add` + `ip link add … netns` + addresses
//! for a pod takes about 15 ms in processes alone; one chain a Service (kube-proxy's nftables layout) takes 26 ms for a
//! change among 11,000 Services and 16 to 34 s to load 10,000.

#[allow(dead_code)]
#[path = "../tests/machine.rs"]
mod machine;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use machine::{Machine, ask_udp_here, attach, serve_udp};
use network::service::{Protocol, ServiceId, ServicePort, ServiceRules};
use network::{Network, PodNetwork};

/// Kubernetes's own limit for a node.
const PODS: u64 = 110;
const SIZES: [u32; 3] = [1, 1_000, 10_000];

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a2b_1000 + n)
}

fn rules(n: u32, endpoints: &[SocketAddr]) -> (ServiceId, ServiceRules) {
    let port = ServicePort {
        protocol: Protocol::Udp,
        port: 80,
        node_port: None,
        endpoints: endpoints.to_vec(),
        local_endpoints: endpoints.to_vec(),
        draining: vec![],
    };
    let rules = ServiceRules { cluster_ips: vec![address(n).into()], ports: vec![port], ..ServiceRules::default() };
    (ServiceId::new("default", &format!("s{n}")), rules)
}

fn endpoints(count: u8) -> Vec<SocketAddr> {
    (0..count).map(|n| (Ipv4Addr::new(10, 42, 9, n), 9000).into()).collect()
}

fn load(network: &Network, size: u32) -> Duration {
    let all: Vec<_> = (0..size).map(|n| rules(n, &endpoints(3))).collect();
    let start = Instant::now();
    network.services().replace_all(all).unwrap();
    start.elapsed()
}

/// Moves this thread (criterion can't leave it) into a namespace.
fn enter(namespace: &Path) {
    let file = File::open(namespace).unwrap();
    nix::sched::setns(file.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}

/// A client without past flows: those of a bench would fill the kernel's table of connections.
fn fresh_client(network: &Network) -> PodNetwork {
    network.detach("client").unwrap();
    network.services().settle();
    attach(network, "client")
}

/// The kernel takes the links of detached pods down some time later.
fn wait_for_free_ports(bridge: &str) {
    while !machine::ip(&format!("-o link show master {bridge}")).is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pods(criterion: &mut Criterion) {
    let machine = Machine::new();
    let network = machine.open();
    let mut number = 0;
    let mut lives = |times: u64| {
        let (mut attaching, mut detaching) = (Duration::ZERO, Duration::ZERO);
        let mut left = times;
        while left > 0 {
            // A node full of pods at a time: the kernel's work behind a detached pod is not the attaching one's.
            let ids: Vec<String> = (0..left.min(PODS))
                .map(|_| {
                    number += 1;
                    format!("pod-{number}")
                })
                .collect();
            left -= ids.len() as u64;
            wait_for_free_ports(network.bridge());
            let start = Instant::now();
            for id in &ids {
                attach(&network, id);
            }
            attaching += start.elapsed();
            let start = Instant::now();
            for id in &ids {
                network.detach(id).unwrap();
            }
            detaching += start.elapsed();
        }
        (attaching, detaching)
    };
    criterion.bench_function("attach a pod", |bencher| bencher.iter_custom(|times| lives(times).0));
    criterion.bench_function("detach a pod", |bencher| bencher.iter_custom(|times| lives(times).1));
    Network::purge(&machine.config("test", 42)).unwrap();
}

fn services(criterion: &mut Criterion) {
    let machine = Machine::new();
    let network = machine.open();
    let server = attach(&network, "server");
    serve_udp(&server.netns, 80, "server");
    let live: Vec<SocketAddr> = vec![(server.ip, 80).into()];
    for size in SIZES {
        network.services().replace_all([]).unwrap();
        println!("load {size} services of 3 endpoints: {:?}", load(&network, size));
        let mut count = 3;
        criterion.bench_function(&format!("change the endpoints of one of {size} services"), |bencher| {
            bencher.iter(|| {
                count = 7 - count;
                let (id, rules) = rules(size / 2, &endpoints(count));
                network.services().apply(&id, Some(rules)).unwrap();
            });
        });
        network.services().settle();
        let (id, rules) = rules(size / 2, &live);
        network.services().apply(&id, Some(rules)).unwrap();
        let client = fresh_client(&network);
        enter(&client.netns);
        criterion.bench_function(&format!("a flow's first datagram and answer, {size} services"), |bencher| {
            bencher.iter(|| ask_udp_here((address(size / 2), 80).into()).unwrap());
        });
        enter(&machine.own);
    }
    let client = fresh_client(&network);
    enter(&client.netns);
    criterion.bench_function("a flow's first datagram and answer, past the services", |bencher| {
        bencher.iter(|| ask_udp_here((server.ip, 80).into()).unwrap());
    });
    enter(&machine.own);
    let start = Instant::now();
    drop(network);
    let network = machine.open();
    println!("adopt 10,000 services after a restart: {:?}", start.elapsed());
    println!("replace them by the same: {:?}", load(&network, 10_000));
    Network::purge(&machine.config("test", 42)).unwrap();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300)).sample_size(20);
    targets = pods, services
}
criterion_main!(benches);
