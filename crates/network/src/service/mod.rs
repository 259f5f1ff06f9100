//! What a Service asks of the node, in plain data, and the table that makes the kernel do it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A transport protocol a Service port or a host port can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Transmission Control Protocol, the default.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
}

impl Protocol {
    /// The protocol number of the IP header (IANA).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The name as the Kubernetes API writes it: `TCP`, `UDP` or `SCTP`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is none of `TCP`, `UDP` and `SCTP`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of TCP, UDP and SCTP")]
pub struct ProtocolError(String);

impl FromStr for Protocol {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        match text {
            "TCP" => Ok(Protocol::Tcp),
            "UDP" => Ok(Protocol::Udp),
            "SCTP" => Ok(Protocol::Sctp),
            other => Err(ProtocolError(other.to_owned())),
        }
    }
}

/// Which endpoints traffic may reach: `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TrafficPolicy {
    /// All endpoints; external traffic is masqueraded.
    #[default]
    Cluster,
    /// Only endpoints on this node; the client's address is preserved, and without a local endpoint packets are dropped.
    Local,
}

/// The name under which rules are kept: any text, by convention `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub String);

impl ServiceId {
    /// The id of the Service `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        ServiceId(format!("{namespace}/{name}"))
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that the node does for one Service. Headless and ExternalName Services have no rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRules {
    /// `spec.clusterIPs`.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ports` joined with the EndpointSlices.
    pub ports: Vec<ServicePort>,
    /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds` if `sessionAffinity` is `ClientIP`.
    pub session_affinity: Option<Duration>,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` (those with `ipMode: VIP`). The unspecified address stands for all addresses
    /// of the node.
    pub load_balancer_ips: Vec<IpAddr>,
}

/// One port of a Service with the endpoints behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The transport protocol.
    pub protocol: Protocol,
    /// `port`: where the cluster IPs, external IPs and load balancer IPs listen.
    pub port: u16,
    /// `nodePort`: where every local address of the node listens, 127.0.0.1 included.
    pub node_port: Option<u16>,
    /// The endpoints new connections may go to (normally the ready ones), in any order. Empty: refused.
    pub endpoints: Vec<SocketAddr>,
    /// The members of `endpoints` that run on this node: what `TrafficPolicy::Local` chooses from.
    pub local_endpoints: Vec<SocketAddr>,
    /// Endpoints that still exist but take no new connections (not ready, or terminating). Their
    /// established TCP connections go on. An endpoint that leaves both lists is deleted: its connections are cut.
    pub draining: Vec<SocketAddr>,
}

mod layout;
mod plan;
mod state;
mod table;

pub(crate) use layout::Layout;
pub use table::ServiceTable;
pub(crate) use table::remove;
