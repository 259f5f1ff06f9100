//! The names of the cluster: what Services and endpoints stand under which name. No DNS messages here; those are made
//! of it in `answer`.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::dns::{EndpointRecord, ServiceRecord};

/// The cluster's names. Cheap to clone; all clones are one. Methods never block for long.
#[derive(Clone, Default)]
pub struct Zone {
    names: Arc<RwLock<Names>>,
}

impl Zone {
    /// Creates or replaces a Service. Its endpoints, set separately, are kept.
    pub fn set_service(&self, namespace: &str, name: &str, service: ServiceRecord) {
        self.names.write().change(namespace, name, |entry| entry.service = Some(service));
    }

    /// Removes a Service's names. Endpoints set for it are forgotten too.
    pub fn remove_service(&self, namespace: &str, name: &str) {
        self.names.write().change(namespace, name, |entry| *entry = Entry::default());
    }

    /// Replaces the endpoints of a Service (the union of its EndpointSlices). May come before `set_service`.
    pub fn set_endpoints(&self, namespace: &str, name: &str, endpoints: Vec<EndpointRecord>) {
        self.names.write().change(namespace, name, |entry| entry.endpoints = endpoints);
    }

    /// Declares that a namespace exists: `*.<namespace>.pod` answers only in existing namespaces. Namespaces with a
    /// Service exist anyway.
    pub fn set_namespace(&self, namespace: &str, exists: bool) {
        let mut names = self.names.write();
        match exists {
            true => names.declared.insert(namespace.to_ascii_lowercase()),
            false => names.declared.remove(&namespace.to_ascii_lowercase()),
        };
        names.serial += 1;
    }

    /// What stands under a name below the cluster domain. `labels` are lower case, in the order they are written.
    pub(crate) fn find(&self, labels: &[&str]) -> Found {
        self.names.read().find(labels)
    }

    /// The names of an address: those of Services and endpoints.
    pub(crate) fn reverse(&self, ip: IpAddr) -> Vec<Owner> {
        self.names.read().reverse(ip)
    }

    /// A number that grows with each change.
    pub(crate) fn serial(&self) -> u32 {
        self.names.read().serial
    }
}

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No such name, nor any below it.
    Absent,
    /// The name exists without records, because names below it do.
    Empty,
    /// The cluster domain itself.
    Apex,
    /// `ns.dns`: the name server.
    NameServer,
    /// `dns-version`.
    Version,
    /// These addresses, and for a Service its SRV records too.
    Addresses { ips: Vec<IpAddr>, ports: Vec<Target> },
    /// SRV records alone.
    Ports(Vec<Target>),
    /// Another name, outside of this scheme.
    Alias(String),
}

/// What an SRV record points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub owner: Owner,
    pub port: u16,
    pub ips: Vec<IpAddr>,
}

/// The name of a Service or of one of its endpoints, relative to the cluster domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner(pub String);

impl Owner {
    fn service(namespace: &str, name: &str) -> Owner {
        Owner(format!("{name}.{namespace}.svc"))
    }

    fn endpoint(namespace: &str, name: &str, endpoint: &EndpointRecord) -> Owner {
        Owner(format!("{}.{name}.{namespace}.svc", hostname(endpoint)))
    }
}

#[derive(Default)]
struct Names {
    namespaces: HashMap<String, HashMap<String, Entry>>,
    /// Namespaces known apart from their Services.
    declared: HashSet<String>,
    /// The (namespace, Service) pairs an address occurs in.
    addresses: HashMap<IpAddr, Vec<(String, String)>>,
    serial: u32,
}

#[derive(Default)]
struct Entry {
    service: Option<ServiceRecord>,
    endpoints: Vec<EndpointRecord>,
}

impl Entry {
    fn is_headless(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.cluster_ips.is_empty())
    }

    fn cluster_ips(&self) -> &[IpAddr] {
        self.service.as_ref().map_or(&[], |service| &service.cluster_ips)
    }

    fn ready(&self) -> impl Iterator<Item = &EndpointRecord> {
        let all = self.service.as_ref().is_some_and(|service| service.publish_not_ready);
        self.endpoints.iter().filter(move |endpoint| all || endpoint.ready)
    }

    fn addresses(&self) -> HashSet<IpAddr> {
        self.cluster_ips().iter().copied().chain(self.endpoints.iter().map(|endpoint| endpoint.ip)).collect()
    }
}

impl Names {
    fn change(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Entry)) {
        let key = (namespace.to_ascii_lowercase(), name.to_ascii_lowercase());
        let services = self.namespaces.entry(key.0.clone()).or_default();
        let entry = services.entry(key.1.clone()).or_default();
        let before = entry.addresses();
        change(entry);
        let after = entry.addresses();
        if entry.service.is_none() && entry.endpoints.is_empty() {
            services.remove(&key.1);
        }
        if services.is_empty() {
            self.namespaces.remove(&key.0);
        }
        for gone in before.difference(&after) {
            if let Some(places) = self.addresses.get_mut(gone) {
                places.retain(|place| *place != key);
                if places.is_empty() {
                    self.addresses.remove(gone);
                }
            }
        }
        for new in after.difference(&before) {
            self.addresses.entry(*new).or_default().push(key.clone());
        }
        self.serial += 1;
    }

    fn find(&self, labels: &[&str]) -> Found {
        match labels {
            [] => Found::Apex,
            ["dns-version"] => Found::Version,
            ["ns", "dns"] => Found::NameServer,
            ["dns"] | ["svc"] | ["pod"] => Found::Empty,
            [namespace, "svc"] => empty_if(self.services(namespace).next().is_some()),
            [namespace, "pod"] => empty_if(self.exists(namespace)),
            [ip, namespace, "pod"] => match dashed(ip).filter(|_| self.exists(namespace)) {
                Some(ip) => Found::Addresses { ips: vec![ip], ports: vec![] },
                None => Found::Absent,
            },
            [rest @ .., name, namespace, "svc"] => {
                let entry = self.namespaces.get(*namespace).and_then(|services| services.get(*name));
                match entry.filter(|entry| entry.service.is_some()) {
                    Some(entry) => find_in_service(entry, namespace, name, rest),
                    None => Found::Absent,
                }
            }
            _ => Found::Absent,
        }
    }

    fn reverse(&self, ip: IpAddr) -> Vec<Owner> {
        let mut owners = Vec::new();
        for (namespace, name) in self.addresses.get(&ip).into_iter().flatten() {
            let Some(entry) = self.namespaces.get(namespace).and_then(|services| services.get(name)) else { continue };
            if entry.service.is_none() {
                continue;
            }
            if entry.cluster_ips().contains(&ip) {
                owners.push(Owner::service(namespace, name));
            }
            let endpoints = entry.ready().filter(|endpoint| endpoint.ip == ip);
            owners.extend(endpoints.map(|endpoint| Owner::endpoint(namespace, name, endpoint)));
        }
        let mut seen = HashSet::new();
        owners.retain(|owner| seen.insert(owner.clone()));
        owners
    }

    fn services(&self, namespace: &str) -> impl Iterator<Item = &Entry> {
        let services = self.namespaces.get(namespace).into_iter().flat_map(HashMap::values);
        services.filter(|entry| entry.service.is_some())
    }

    fn exists(&self, namespace: &str) -> bool {
        self.declared.contains(namespace) || self.services(namespace).next().is_some()
    }
}

fn find_in_service(entry: &Entry, namespace: &str, name: &str, rest: &[&str]) -> Found {
    let service = entry.service.as_ref().expect("the caller found the Service");
    if let Some(target) = &service.external_name {
        return if rest.is_empty() { Found::Alias(target.clone()) } else { Found::Absent };
    }
    match rest {
        [] => {
            let ips = if entry.is_headless() {
                distinct(entry.ready().map(|endpoint| endpoint.ip))
            } else {
                service.cluster_ips.clone()
            };
            // A headless Service without ready endpoints doesn't exist (specification, 2.4.1).
            if ips.is_empty() {
                Found::Absent
            } else {
                Found::Addresses { ips, ports: ports(entry, namespace, name, None) }
            }
        }
        [protocol] if protocol.starts_with('_') => {
            let known = ports(entry, namespace, name, Some((None, protocol)));
            empty_if(!known.is_empty())
        }
        [port, protocol] => match (port.strip_prefix('_'), protocol.starts_with('_')) {
            (Some(port), true) => {
                let targets = ports(entry, namespace, name, Some((Some(port), protocol)));
                if targets.is_empty() { Found::Absent } else { Found::Ports(targets) }
            }
            _ => Found::Absent,
        },
        [host] => {
            let endpoints = entry.ready().filter(|endpoint| hostname(endpoint) == *host);
            let ips = distinct(endpoints.map(|endpoint| endpoint.ip));
            if ips.is_empty() { Found::Absent } else { Found::Addresses { ips, ports: vec![] } }
        }
        _ => Found::Absent,
    }
}

/// The SRV targets of a Service's named ports: of all, of those of a protocol, or of one.
fn ports(entry: &Entry, namespace: &str, name: &str, wanted: Option<(Option<&str>, &str)>) -> Vec<Target> {
    let matches = |port: &crate::dns::PortRecord| {
        let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) else { return false };
        wanted.is_none_or(|(name, protocol)| {
            name.is_none_or(|name| name.eq_ignore_ascii_case(port_name))
                && protocol[1..].eq_ignore_ascii_case(port.protocol.name())
        })
    };
    let mut targets = Vec::new();
    if entry.is_headless() {
        for endpoint in entry.ready() {
            for port in endpoint.ports.iter().filter(|port| matches(port)) {
                let owner = Owner::endpoint(namespace, name, endpoint);
                targets.push(Target { owner, port: port.port, ips: vec![endpoint.ip] });
            }
        }
        // One endpoint per address family counts as one target with two addresses.
        let mut merged: Vec<Target> = Vec::new();
        for target in targets {
            match merged.iter_mut().find(|known| known.owner == target.owner && known.port == target.port) {
                Some(known) => {
                    known.ips.extend(target.ips.into_iter().filter(|ip| !known.ips.contains(ip)).collect::<Vec<_>>())
                }
                None => merged.push(target),
            }
        }
        return merged;
    }
    for port in entry.service.iter().flat_map(|service| &service.ports).filter(|port| matches(port)) {
        let owner = Owner::service(namespace, name);
        targets.push(Target { owner, port: port.port, ips: entry.cluster_ips().to_vec() });
    }
    targets
}

/// The endpoint's own hostname, or its address with dashes.
fn hostname(endpoint: &EndpointRecord) -> String {
    match &endpoint.hostname {
        Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
        _ => endpoint.ip.to_string().replace(['.', ':'], "-"),
    }
}

/// `10-42-0-7`, or an IPv6 address with dashes for colons.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

fn empty_if(exists: bool) -> Found {
    if exists { Found::Empty } else { Found::Absent }
}

fn distinct(ips: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    ips.filter(|ip| seen.insert(*ip)).collect()
}
