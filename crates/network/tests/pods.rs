//! Namespaces, addresses, host ports, restarts and the end of it all.

use std::fs;
use std::net::Ipv4Addr;

use network::service::Protocol;
use network::{Network, NetworkError, PodAttach};

use crate::machine::*;

#[test]
fn pods_reach_each_other_the_node_and_other_machines() {
    let machine = Machine::new();
    let network = machine.open();
    let (a, b) = (attach(&network, "a"), attach(&network, "b"));
    assert_eq!((a.ip, b.ip), (Ipv4Addr::new(10, 42, 0, 2), Ipv4Addr::new(10, 42, 0, 3)));
    serve_tcp(&b.netns, 80, "b");
    serve_tcp(&machine.own, 80, "node");
    serve_tcp(&machine.outside, 80, "outside");

    let answer = ask_tcp(&a.netns, (b.ip, 80)).unwrap();
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("b", a.ip.into()));
    let answer = ask_tcp(&a.netns, (NODE, 80)).unwrap();
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("node", a.ip.into()));
    let answer = ask_tcp(&a.netns, (CLIENT, 80)).unwrap();
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("outside", NODE.into()));
    let answer = ask_tcp(&machine.own, (b.ip, 80)).unwrap();
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("b", network.gateway().into()));
    let answer = ask_tcp(&machine.outside, (b.ip, 80)).unwrap();
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("b", CLIENT.into()));
}

#[test]
fn a_pod_has_loopback_eth0_alone_on_its_link_and_its_own_ports() {
    let machine = Machine::new();
    let network = machine.open();
    let pod = attach(&network, "a");
    let (addresses, routes) = at(&pod.netns, || (ip("-4 -o addr"), ip("-4 route")));
    assert!(addresses.contains("inet 127.0.0.1/8 scope host lo"), "{addresses}");
    assert!(addresses.contains(&format!("inet {}/32 scope global eth0", pod.ip)), "{addresses}");
    assert_eq!(routes.lines().count(), 1, "{routes}");
    assert!(routes.starts_with("default via 10.42.0.1 dev eth0"), "{routes}");
    let link = at(&pod.netns, || ip("-o link show eth0"));
    assert!(link.contains("link/ether 0a:58:0a:2a:00:02"), "{link}");
    let port = at(&pod.netns, || fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap());
    assert_eq!(port.trim(), "0");
}

#[test]
fn pods_can_not_reach_the_nodes_loopback() {
    let machine = Machine::new();
    let network = machine.open();
    let pod = attach(&network, "a");
    let socket = std::net::UdpSocket::bind("127.0.0.1:5000").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    // A pod that may change its routes sends loopback addresses over the wire.
    at(&pod.netns, || {
        fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        ip("route add 127.0.0.1 via 10.42.0.1 dev eth0 onlink table 7");
        ip("rule add to 127.0.0.1 lookup 7 pref 0");
        ip("rule add lookup local pref 10");
        ip("rule del pref 0 lookup local");
        let out = std::net::UdpSocket::bind((Ipv4Addr::new(10, 42, 0, 2), 0)).unwrap();
        let _ = out.send_to(b"!", "127.0.0.1:5000");
    });
    let mut buffer = [0; 8];
    assert!(socket.recv_from(&mut buffer).is_err(), "a datagram from the pod came through");
}

#[test]
fn host_ports_lead_to_the_pod_from_everywhere() {
    let machine = Machine::new();
    let network = machine.open();
    let ports = vec![host_port(Protocol::Tcp, 8080, 80), host_port(Protocol::Udp, 8080, 81)];
    let pod = network.attach(&PodAttach { id: "web".into(), host_ports: ports }).unwrap();
    let other = attach(&network, "other");
    serve_tcp(&pod.netns, 80, "tcp");
    serve_udp(&pod.netns, 81, "udp");

    let answer = ask_tcp(&machine.outside, (NODE, 8080)).unwrap();
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("tcp", CLIENT.into()));
    assert_eq!(ask_udp(&machine.outside, (NODE, 8080)).unwrap().server, "udp");
    assert_eq!(ask_tcp(&machine.own, (Ipv4Addr::LOCALHOST, 8080)).unwrap().server, "tcp");
    assert_eq!(ask_udp(&machine.own, (Ipv4Addr::LOCALHOST, 8080)).unwrap().server, "udp");
    assert_eq!(ask_tcp(&other.netns, (NODE, 8080)).unwrap().client.ip(), std::net::IpAddr::from(other.ip));
    // Also to itself.
    assert_eq!(ask_tcp(&pod.netns, (NODE, 8080)).unwrap().server, "tcp");

    network.detach("web").unwrap();
    assert!(ask_tcp(&machine.own, (Ipv4Addr::LOCALHOST, 8080)).is_err());
}

#[test]
fn a_host_port_on_one_address_leaves_the_others_alone() {
    let machine = Machine::new();
    let network = machine.open();
    let mut port = host_port(Protocol::Tcp, 8080, 80);
    port.host_ip = Some(Ipv4Addr::LOCALHOST.into());
    let pod = network.attach(&PodAttach { id: "web".into(), host_ports: vec![port] }).unwrap();
    serve_tcp(&pod.netns, 80, "web");
    assert_eq!(ask_tcp(&machine.own, (Ipv4Addr::LOCALHOST, 8080)).unwrap().server, "web");
    assert!(ask_tcp(&machine.own, (NODE, 8080)).is_err());
}

#[test]
fn a_host_port_can_be_taken_once_only() {
    let machine = Machine::new();
    let network = machine.open();
    let ask = |id: &str| PodAttach { id: id.into(), host_ports: vec![host_port(Protocol::Tcp, 8080, 80)] };
    network.attach(&ask("first")).unwrap();
    let refused = network.attach(&ask("second")).unwrap_err();
    assert!(matches!(&refused, NetworkError::PortTaken { port: 8080, .. }), "{refused}");
    assert_eq!(refused.to_string(), "pod second: TCP port 8080 is already taken by pod first");
    assert_eq!(network.pod("second"), None);
    network.detach("first").unwrap();
    network.attach(&ask("second")).unwrap();
}

#[test]
fn an_address_is_not_reused_at_once() {
    let machine = Machine::new();
    let network = machine.open();
    let first = attach(&network, "a").ip;
    network.detach("a").unwrap();
    let second = attach(&network, "b").ip;
    assert_ne!(first, second);
    // The same pod may come back while the kernel still takes its old link down.
    for _ in 0..5 {
        network.detach("b").unwrap();
        let pod = attach(&network, "b");
        at(&pod.netns, move || ip(&format!("-4 addr show to {}", pod.ip)));
    }
}

#[test]
fn pods_attached_at_once_get_different_addresses_and_one_pod_one_network() {
    let machine = Machine::new();
    let network = machine.open();
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let network = &network;
                scope.spawn(move || {
                    // Each thread its own, and one pod that all want.
                    (0..4).map(|m| attach(network, &format!("p-{n}-{m}"))).chain([attach(network, "same")]).collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| -> Vec<_> { thread.join().unwrap() }).collect::<Vec<_>>()
    });
    let addresses: std::collections::HashSet<_> = all.iter().map(|pod| pod.ip).collect();
    assert_eq!((all.len(), addresses.len()), (40, 33));
    let same = network.pod("same").unwrap();
    serve_tcp(&same.netns, 80, "same");
    assert_eq!(ask_tcp(&all[0].netns, (same.ip, 80)).unwrap().server, "same");
}

#[test]
fn the_first_packet_to_a_fresh_pod_arrives() {
    let machine = Machine::new();
    for bridge_netfilter in [false, true] {
        set_bridge_netfilter(bridge_netfilter);
        let network = machine.open();
        let old = attach(&network, "old");
        for n in 0..40 {
            let pod = attach(&network, &format!("pod-{bridge_netfilter}-{n}"));
            let socket = at(&pod.netns, || std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            at(&old.netns, move || {
                std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", (pod.ip, 80)).unwrap();
            });
            let mut buffer = [0; 16];
            assert_eq!(socket.recv(&mut buffer).expect("the datagram"), 5);
        }
    }
}

#[test]
fn a_full_range_is_an_error_and_a_detached_pod_makes_room() {
    let machine = Machine::new();
    let mut config = machine.config("test", 42);
    config.pod_cidr = "10.42.0.0/29".parse().unwrap();
    let network = Network::open(config).unwrap();
    for n in 0..5 {
        attach(&network, &format!("p{n}"));
    }
    let more = PodAttach { id: "more".into(), host_ports: vec![] };
    assert!(matches!(network.attach(&more), Err(NetworkError::AddressesExhausted(_))));
    let freed = network.pod("p2").unwrap().ip;
    network.detach("p2").unwrap();
    assert_eq!(network.attach(&more).unwrap().ip, freed);
}

#[test]
fn attaching_again_and_detaching_twice_change_nothing() {
    let machine = Machine::new();
    let network = machine.open();
    let pod = attach(&network, "a");
    assert_eq!(attach(&network, "a"), pod);
    assert_eq!(network.pod("a"), Some(pod.clone()));
    network.detach("a").unwrap();
    network.detach("a").unwrap();
    network.detach("never was").unwrap();
    assert_eq!(network.pod("a"), None);
    assert!(!pod.netns.exists());
}

#[test]
fn a_restart_adopts_pods_and_frees_those_that_are_gone() {
    let machine = Machine::new();
    let network = machine.open();
    let ask = PodAttach { id: "kept".into(), host_ports: vec![host_port(Protocol::Tcp, 8080, 80)] };
    let kept = network.attach(&ask).unwrap();
    let lost = attach(&network, "lost");
    serve_tcp(&kept.netns, 80, "kept");
    let mut conversation = talk_tcp(&machine.own, (Ipv4Addr::LOCALHOST, 8080)).unwrap();
    drop(network);

    let network = machine.open();
    assert_eq!(network.pod("kept"), Some(kept.clone()));
    conversation.echo().unwrap();
    assert_eq!(network.reconcile(["kept"]).unwrap(), ["lost"]);
    assert!(!lost.netns.exists());
    assert_eq!(network.attach(&ask).unwrap(), kept);
    network.services().replace_all([]).unwrap();
    conversation.echo().unwrap();
    assert_eq!(ask_tcp(&machine.outside, (NODE, 8080)).unwrap().server, "kept");
}

#[test]
fn a_namespace_without_a_lease_is_cleared_away() {
    let machine = Machine::new();
    let network = machine.open();
    let pod = attach(&network, "half");
    fs::remove_file(machine.config("test", 42).data_dir.join("leases/half")).unwrap();
    drop(network);
    let network = machine.open();
    assert_eq!(network.reconcile([]).unwrap(), ["half"]);
    assert!(!pod.netns.exists());
}

#[test]
fn a_pod_whose_namespace_is_gone_gets_a_new_one_at_its_old_address() {
    let machine = Machine::new();
    let network = machine.open();
    let pod = attach(&network, "a");
    drop(network);
    // As after a reboot: leases are there, the machine's state is not.
    nix::mount::umount2(&pod.netns, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let network = machine.open();
    assert_eq!(network.pod("a"), None);
    assert_eq!(attach(&network, "a"), pod);
    serve_tcp(&pod.netns, 80, "a");
    assert_eq!(ask_tcp(&machine.own, (pod.ip, 80)).unwrap().server, "a");
}

#[test]
fn purge_leaves_nothing() {
    let machine = Machine::new();
    let before = (ip("-o link"), ip("-4 addr"), ip("-4 route show table all"));
    let config = machine.config("test", 42);
    let network = machine.open();
    let ports = vec![host_port(Protocol::Tcp, 8080, 80)];
    let pod = network.attach(&PodAttach { id: "a".into(), host_ports: ports }).unwrap();
    // A process that still sits in a pod's namespace must not save its link.
    let sitting = at(&pod.netns, || std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)).unwrap());
    Network::purge(&config).unwrap();
    let after = (ip("-o link"), ip("-4 addr"), ip("-4 route show table all"));
    assert_eq!(before, after);
    assert!(!config.data_dir.exists() && !config.run_dir.exists());
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains(config.run_dir.to_str().unwrap()), "{mounts}");
    assert_eq!(tables(), Vec::<String>::new());
    drop(sitting);
    Network::purge(&config).unwrap();
}

#[test]
fn two_instances_do_not_disturb_each_other() {
    let machine = Machine::new();
    let one = machine.open();
    let config = machine.config("other", 52);
    let two = Network::open(config.clone()).unwrap();
    let (a, b) = (attach(&one, "a"), attach(&two, "a"));
    assert_ne!(one.bridge(), two.bridge());
    serve_tcp(&a.netns, 80, "one");
    serve_tcp(&b.netns, 80, "two");
    assert_eq!(ask_tcp(&machine.own, (a.ip, 80)).unwrap().server, "one");
    assert_eq!(ask_tcp(&machine.own, (b.ip, 80)).unwrap().server, "two");
    assert_eq!(tables().len(), 2);
    Network::purge(&config).unwrap();
    assert_eq!(tables(), ["hythe-test"]);
    assert_eq!(ask_tcp(&machine.own, (a.ip, 80)).unwrap().server, "one");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused_and_changes_nothing() {
    let machine = Machine::new();
    let refuse = |change: fn(&mut network::NetworkConfig)| {
        let mut config = machine.config("test", 42);
        change(&mut config);
        assert!(matches!(Network::open(config), Err(NetworkError::Config(_))));
    };
    refuse(|config| config.service_cidr = config.pod_cidr);
    refuse(|config| config.pod_cidr = "fd00::/64".parse().unwrap());
    refuse(|config| config.pod_cidr = "10.42.0.0/32".parse().unwrap());
    refuse(|config| config.cluster_dns = Some(Ipv4Addr::new(192, 0, 2, 9)));
    refuse(|config| config.name = "Has Spaces".into());
    assert!(!ip("-o link").contains("hy-"));
}

#[test]
fn ids_that_can_not_be_file_names_are_refused() {
    let machine = Machine::new();
    let network = machine.open();
    for id in ["", "../x", "a/b", ".next"] {
        let refused = network.attach(&PodAttach { id: id.into(), host_ports: vec![] });
        assert!(matches!(refused, Err(NetworkError::PodId(_))), "{id}");
    }
}

/// The nftables tables of the calling thread's namespace, read without the library under test.
fn tables() -> Vec<String> {
    use nix::sys::socket::*;
    use std::os::fd::AsRawFd;
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkNetFilter).unwrap();
    let mut request = vec![20, 0, 0, 0];
    request.extend((10u16 << 8 | 1).to_ne_bytes());
    request.extend((1u16 | 0x300).to_ne_bytes());
    request.extend([0; 12]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).unwrap();
    let mut names = Vec::new();
    loop {
        let mut buffer = [0; 32768];
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        let mut rest = &buffer[..length];
        while rest.len() >= 16 {
            let size = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            if u16::from_ne_bytes(rest[4..6].try_into().unwrap()) == 3 {
                names.sort();
                return names;
            }
            // Header, struct nfgenmsg, then the name as the first attribute.
            let name = &rest[24..size];
            let end = name.iter().position(|byte| *byte == 0).unwrap();
            names.push(String::from_utf8_lossy(&name[..end]).into_owned());
            rest = &rest[size..];
        }
    }
}

#[test]
fn a_pods_namespace_may_belong_to_a_user_namespace_of_its_own() {
    use std::os::fd::AsRawFd;
    let machine = Machine::new();
    let network = machine.open();
    let users = network::UserIds { first: 196_608, count: 65_536 };
    let attach = PodAttach { id: "mapped".into(), host_ports: vec![] };
    let pod = network.attach_for(&attach, Some(users)).unwrap();
    serve_tcp(&pod.netns, 80, "mapped");
    assert_eq!(ask_tcp(&machine.own, (pod.ip, 80)).unwrap().server, "mapped");
    // Its owner, whom nothing but the namespace itself holds by now.
    let file = fs::File::open(&pod.netns).unwrap();
    // SAFETY: the descriptor is open; NS_GET_USERNS takes no argument.
    let owner = unsafe { libc::ioctl(file.as_raw_fd(), 0xb701) };
    assert!(owner >= 0);
    let inode = |path: &str| fs::read_link(path).unwrap();
    assert_ne!(inode(&format!("/proc/self/fd/{owner}")), inode("/proc/self/ns/user"));
    let port = at(&pod.netns, || fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap());
    assert_eq!(port.trim(), "0");
    network.detach("mapped").unwrap();
}
