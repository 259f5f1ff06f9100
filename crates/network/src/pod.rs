//! A pod's place in the network: what the agent asks for and what it gets.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::service::Protocol;

/// A request for a pod's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAttach {
    /// The pod's identity, normally its UID: 1 to 200 characters of `[A-Za-z0-9._-]`, not starting with a dot.
    pub id: String,
    /// `containers[].ports[]` that have a `hostPort`.
    pub host_ports: Vec<HostPort>,
}

/// User and group ids of the node that stand for those from 0 in a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// The first: root's in the namespace.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A port of the node that leads to a port of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address of the node to listen on; `None` (or unspecified, `0.0.0.0`) means all of them, 127.0.0.1 included.
    pub host_ip: Option<IpAddr>,
    /// The port of the node.
    pub host_port: u16,
    /// The port inside the pod.
    pub container_port: u16,
}

/// A pod's network, ready to be joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// The bind-mounted network namespace; join it by path.
    pub netns: PathBuf,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The node's address on the bridge, the pod's default gateway.
    pub gateway: Ipv4Addr,
    /// The pod-side MAC address.
    pub mac: [u8; 6],
    /// The pod-side interface name: always `eth0`.
    pub interface: &'static str,
}
