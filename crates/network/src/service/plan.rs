//! What a Service's rules mean in terms of the kernel's maps: pure functions.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::pod::HostPort;
use crate::service::{Protocol, ServicePort, ServiceRules, TrafficPolicy};

/// From where traffic comes and how its destination is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Zone {
    /// From pods and the node itself, to an address.
    Inside = 0,
    /// From other machines, to an address.
    Outside = 1,
    /// From pods and the node itself, to a port of any address of the node.
    InsideNode = 2,
    /// From other machines, to a port of any address of the node.
    OutsideNode = 3,
}

/// Where traffic is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Frontend {
    pub zone: Zone,
    /// Unspecified in the node zones.
    pub address: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
}

/// What happens to traffic at a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// No endpoint: answered with a reset or port unreachable.
    Refuse,
    /// No endpoint on this node where only those may serve.
    Drop,
    /// A random endpoint of the group.
    Pick { group: GroupName, masquerade: bool },
}

/// A set of endpoints, by its name within one Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupName {
    pub protocol: Protocol,
    pub port: u16,
    pub scope: Scope,
}

/// Which endpoints of a port are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    All,
    Local,
    /// The one pod behind a host port of this node address.
    HostPort(Ipv4Addr),
}

/// A group with its members, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupPlan {
    pub name: GroupName,
    pub endpoints: Vec<SocketAddrV4>,
}

/// All that one Service (or one pod's host ports) puts into the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub frontends: Vec<(Frontend, Target)>,
    pub groups: Vec<GroupPlan>,
    /// Seconds a client stays with its endpoint; 0: not at all.
    pub affinity: u32,
    /// Endpoints whose established connections stay although they take no new ones.
    pub draining: Vec<(GroupName, SocketAddrV4)>,
}

/// The plan of a Service. IPv6 addresses are left out.
pub(crate) fn plan_service(rules: &ServiceRules) -> Plan {
    let mut plan = Plan {
        // Upstream's validation allows 1 to 86,400 s; the upper bound keeps the value within its bits.
        affinity: rules.session_affinity.map_or(0, |time| time.as_secs().clamp(1, 86_400) as u32),
        ..Plan::default()
    };
    for port in &rules.ports {
        plan_port(&mut plan, rules, port);
    }
    plan
}

/// The plan of a pod's host ports.
pub(crate) fn plan_host_ports(ports: &[HostPort], pod: Ipv4Addr) -> Plan {
    let mut plan = Plan::default();
    for port in ports {
        let address = match port.host_ip {
            None => Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V4(v4)) => v4,
            Some(IpAddr::V6(v6)) if v6.is_unspecified() => Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V6(_)) => continue,
        };
        let name = GroupName { protocol: port.protocol, port: port.host_port, scope: Scope::HostPort(address) };
        let zones = if address.is_unspecified() {
            [Zone::InsideNode, Zone::OutsideNode]
        } else {
            [Zone::Inside, Zone::Outside]
        };
        for zone in zones {
            let frontend = Frontend { zone, address, protocol: port.protocol, port: port.host_port };
            plan.frontends.push((frontend, Target::Pick { group: name, masquerade: false }));
        }
        plan.groups.push(GroupPlan { name, endpoints: vec![SocketAddrV4::new(pod, port.container_port)] });
    }
    plan
}

fn plan_port(plan: &mut Plan, rules: &ServiceRules, port: &ServicePort) {
    let name = |scope| GroupName { protocol: port.protocol, port: port.port, scope };
    let all = distinct(&port.endpoints);
    let local = distinct(&port.local_endpoints);
    let same = local.len() == all.len() && local.iter().all(|endpoint| all.contains(endpoint));
    let cluster_wide = |masquerade| match all.is_empty() {
        true => Target::Refuse,
        false => Target::Pick { group: name(Scope::All), masquerade },
    };
    let local_only = || match (all.is_empty(), local.is_empty()) {
        (true, _) => Target::Refuse,
        (false, true) => Target::Drop,
        (false, false) => {
            let scope = if same { Scope::All } else { Scope::Local };
            Target::Pick { group: name(scope), masquerade: false }
        }
    };
    let mut add = |zone, address, port_number, target| {
        let frontend = Frontend { zone, address, protocol: port.protocol, port: port_number };
        plan.frontends.push((frontend, target));
    };

    for address in v4(&rules.cluster_ips) {
        let (inside, outside) = match rules.internal_traffic_policy {
            TrafficPolicy::Cluster => (cluster_wide(false), cluster_wide(true)),
            TrafficPolicy::Local => (local_only(), with_masquerade(local_only())),
        };
        add(Zone::Inside, address, port.port, inside);
        add(Zone::Outside, address, port.port, outside);
    }
    // With `externalTrafficPolicy: Local`, pods and the node itself still reach all endpoints: for them the address is
    // a shorter way to the same Service (as kube-proxy has it).
    let (inside, outside) = match rules.external_traffic_policy {
        TrafficPolicy::Cluster => (cluster_wide(true), cluster_wide(true)),
        TrafficPolicy::Local => (cluster_wide(false), local_only()),
    };
    let mut seen = HashSet::new();
    for address in v4(&rules.external_ips).chain(v4(&rules.load_balancer_ips)) {
        if seen.insert(address) {
            let (near, far) = match address.is_unspecified() {
                true => (Zone::InsideNode, Zone::OutsideNode),
                false => (Zone::Inside, Zone::Outside),
            };
            add(near, address, port.port, inside);
            add(far, address, port.port, outside);
        }
    }
    if let Some(node_port) = port.node_port {
        add(Zone::InsideNode, Ipv4Addr::UNSPECIFIED, node_port, inside);
        add(Zone::OutsideNode, Ipv4Addr::UNSPECIFIED, node_port, outside);
    }

    let local_used =
        rules.internal_traffic_policy == TrafficPolicy::Local || rules.external_traffic_policy == TrafficPolicy::Local;
    plan.draining.extend(distinct(&port.draining).into_iter().map(|endpoint| (name(Scope::All), endpoint)));
    if !local.is_empty() && !same && local_used {
        plan.groups.push(GroupPlan { name: name(Scope::Local), endpoints: local });
    }
    if !all.is_empty() {
        plan.groups.push(GroupPlan { name: name(Scope::All), endpoints: all });
    }
}

fn with_masquerade(target: Target) -> Target {
    match target {
        Target::Pick { group, .. } => Target::Pick { group, masquerade: true },
        other => other,
    }
}

fn v4(addresses: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    })
}

fn distinct(endpoints: &[SocketAddr]) -> Vec<SocketAddrV4> {
    let mut seen = HashSet::with_capacity(endpoints.len());
    let v4 = endpoints.iter().filter_map(|endpoint| match endpoint {
        SocketAddr::V4(v4) => Some(*v4),
        SocketAddr::V6(_) => None,
    });
    v4.filter(|endpoint| seen.insert(*endpoint)).collect()
}

/// Puts `wanted` into slots 0, 1, 2… so that as few slots as possible differ from `current`.
pub(crate) fn reslot(current: &[SocketAddrV4], wanted: &[SocketAddrV4]) -> Vec<SocketAddrV4> {
    let keep: HashSet<_> = wanted.iter().collect();
    let have: HashSet<_> = current.iter().collect();
    let mut fresh = wanted.iter().filter(|endpoint| !have.contains(endpoint));
    let mut slots: Vec<Option<SocketAddrV4>> = current
        .iter()
        .map(|endpoint| if keep.contains(endpoint) { Some(*endpoint) } else { fresh.next().copied() })
        .collect();
    slots.extend(fresh.map(|endpoint| Some(*endpoint)));
    // What holes are left are filled from the end.
    let mut result = Vec::with_capacity(wanted.len());
    let mut front = 0;
    while front < slots.len() {
        match slots[front] {
            Some(endpoint) => result.push(endpoint),
            None => {
                while slots.last().is_some_and(Option::is_none) {
                    slots.pop();
                }
                if front < slots.len() {
                    result.extend(slots.pop().flatten());
                }
            }
        }
        front += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(numbers: &[u8]) -> Vec<SocketAddrV4> {
        numbers.iter().map(|n| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, *n), 80)).collect()
    }

    fn sockets(numbers: &[u8]) -> Vec<SocketAddr> {
        endpoints(numbers).into_iter().map(SocketAddr::V4).collect()
    }

    fn rules(all: &[u8], local: &[u8]) -> ServiceRules {
        ServiceRules {
            cluster_ips: vec!["10.43.0.1".parse().unwrap()],
            ports: vec![ServicePort {
                protocol: Protocol::Tcp,
                port: 80,
                node_port: Some(30080),
                endpoints: sockets(all),
                local_endpoints: sockets(local),
                draining: vec![],
            }],
            ..ServiceRules::default()
        }
    }

    fn target(plan: &Plan, zone: Zone) -> Target {
        plan.frontends.iter().find(|(frontend, _)| frontend.zone == zone).unwrap().1
    }

    #[test]
    fn a_removed_endpoint_moves_at_most_one_other() {
        assert_eq!(reslot(&endpoints(&[1, 2, 3, 4]), &endpoints(&[1, 3, 4])), endpoints(&[1, 4, 3]));
        assert_eq!(reslot(&endpoints(&[1, 2, 3]), &endpoints(&[1, 2])), endpoints(&[1, 2]));
    }

    #[test]
    fn a_replaced_endpoint_leaves_the_others_in_place() {
        assert_eq!(reslot(&endpoints(&[1, 2, 3]), &endpoints(&[9, 3, 1])), endpoints(&[1, 9, 3]));
    }

    #[test]
    fn slots_grow_shrink_to_nothing_and_fill_from_nothing() {
        assert_eq!(reslot(&endpoints(&[1]), &endpoints(&[3, 1, 2])), endpoints(&[1, 3, 2]));
        assert_eq!(reslot(&endpoints(&[1, 2]), &[]), []);
        assert_eq!(reslot(&[], &endpoints(&[2, 1])), endpoints(&[2, 1]));
    }

    #[test]
    fn any_change_of_slots_keeps_exactly_the_wanted_endpoints() {
        // All pairs of subsets of six endpoints.
        let subset = |bits: u8| endpoints(&(0..6).filter(|n| bits >> n & 1 == 1).collect::<Vec<_>>());
        for current in 0..64 {
            for wanted in 0..64 {
                let mut slots = reslot(&subset(current), &subset(wanted));
                let common = subset(current & wanted).len();
                let kept = slots.iter().zip(subset(current)).filter(|(a, b)| **a == *b).count();
                assert!(kept + 6 >= common, "{current} to {wanted}");
                slots.sort();
                assert_eq!(slots, subset(wanted), "{current} to {wanted}");
            }
        }
    }

    #[test]
    fn without_endpoints_every_frontend_refuses() {
        let plan = plan_service(&rules(&[], &[]));
        assert_eq!(plan.frontends.len(), 4);
        assert!(plan.frontends.iter().all(|(_, target)| *target == Target::Refuse));
        assert!(plan.groups.is_empty());
    }

    #[test]
    fn external_policy_local_drops_outside_traffic_without_local_endpoints_only() {
        let mut rules = rules(&[1, 2], &[]);
        rules.external_traffic_policy = TrafficPolicy::Local;
        let plan = plan_service(&rules);
        assert_eq!(target(&plan, Zone::OutsideNode), Target::Drop);
        assert!(matches!(target(&plan, Zone::InsideNode), Target::Pick { masquerade: false, .. }));
        assert!(matches!(target(&plan, Zone::Inside), Target::Pick { masquerade: false, .. }));
    }

    #[test]
    fn internal_policy_local_chooses_among_local_endpoints_only() {
        let mut rules = rules(&[1, 2], &[2]);
        rules.internal_traffic_policy = TrafficPolicy::Local;
        let plan = plan_service(&rules);
        let Target::Pick { group, .. } = target(&plan, Zone::Inside) else { panic!("no group") };
        let local = plan.groups.iter().find(|candidate| candidate.name == group).unwrap();
        assert_eq!(local.endpoints, endpoints(&[2]));
        rules.ports[0].local_endpoints.clear();
        assert_eq!(target(&plan_service(&rules), Zone::Inside), Target::Drop);
    }

    #[test]
    fn cluster_policy_masquerades_node_ports_but_not_pods_calls_to_the_cluster_address() {
        let plan = plan_service(&rules(&[1], &[1]));
        assert!(matches!(target(&plan, Zone::Inside), Target::Pick { masquerade: false, .. }));
        assert!(matches!(target(&plan, Zone::Outside), Target::Pick { masquerade: true, .. }));
        assert!(matches!(target(&plan, Zone::OutsideNode), Target::Pick { masquerade: true, .. }));
    }

    #[test]
    fn repeated_endpoints_and_addresses_count_once() {
        let mut rules = rules(&[1, 1, 2], &[]);
        rules.external_ips = vec!["192.0.2.1".parse().unwrap()];
        rules.load_balancer_ips = rules.external_ips.clone();
        let plan = plan_service(&rules);
        assert_eq!(plan.groups[0].endpoints, endpoints(&[1, 2]));
        assert_eq!(plan.frontends.len(), 6);
    }
}
