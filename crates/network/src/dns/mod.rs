//! The cluster's name server: authoritative for the cluster domain by the Kubernetes DNS specification 1.1,
//! a forwarder for everything else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::service::Protocol;

/// How the name server runs.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where to listen, UDP and TCP each; port 0 picks one (see [`Server::addresses`]).
    pub listen: Vec<SocketAddr>,
    /// The cluster domain without a trailing dot, e.g. `cluster.local`.
    pub cluster_domain: String,
    /// Reverse (PTR) queries for addresses in these ranges are answered here and never forwarded.
    pub reverse: Vec<crate::Cidr>,
    /// The resolvers for all other names; see [`upstream_from`].
    pub upstream: Vec<SocketAddr>,
    /// Time to live of cluster records. Upstream's default is 5 s (30 s in CoreDNS's shipped Corefile).
    pub ttl: Duration,
    /// How long one upstream resolver may take before the next is asked.
    pub upstream_timeout: Duration,
}

/// A Service as the zone knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRecord {
    /// `spec.clusterIPs`; empty for headless and ExternalName Services.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalName`: a CNAME instead of addresses.
    pub external_name: Option<String>,
    /// `spec.ports`, for SRV records of Services with a cluster IP.
    pub ports: Vec<PortRecord>,
    /// `spec.publishNotReadyAddresses`: endpoints count as ready.
    pub publish_not_ready: bool,
}

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRecord {
    /// The port's name; unnamed ports have no SRV record of their own.
    pub name: Option<String>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port number: the Service's port, or the endpoint's port in an [`EndpointRecord`].
    pub port: u16,
}

/// One endpoint of a Service, the union over its EndpointSlices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    /// The endpoint's address.
    pub ip: IpAddr,
    /// `endpoints[].hostname`: gives the endpoint a name below its Service.
    pub hostname: Option<String>,
    /// `conditions.ready`.
    pub ready: bool,
    /// The slice's ports.
    pub ports: Vec<PortRecord>,
}

mod answer;
mod server;
mod upstream;
mod zone;

pub use server::Server;
pub use zone::Zone;

/// The `nameserver` lines of a resolv.conf file (port 53), without those in `exclude` (the cluster's own).
pub fn upstream_from(resolv_conf: &str, exclude: &[IpAddr]) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse::<IpAddr>().ok())
        .filter(|ip| !exclude.contains(ip))
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}
