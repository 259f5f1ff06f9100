//! What the agent needs of the network, so that a fake can stand in for tests and simulations.

mod real;

use std::{net::IpAddr, path::PathBuf};

use async_trait::async_trait;

pub use real::KernelNetwork;

/// Pod networks.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives a pod a network namespace with an address; the same pod again gets what it has.
    async fn attach(&self, request: AttachRequest) -> Result<Attachment, NetworkError>;
    /// Takes it back; an unknown pod is fine.
    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError>;
    /// Detaches every pod that is not among `live` (once, after a restart).
    async fn keep_only(&self, live: Vec<String>) -> Result<(), NetworkError>;
}

/// Who is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// The pod's UID.
    pub pod_uid: String,
    /// Ports of the node that lead to the pod.
    pub host_ports: Vec<HostPort>,
    /// The ids of the pod's user namespace, if it is to have one.
    pub users: Option<engine::IdRange>,
}

/// `containers[*].ports[*].hostPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The node's address it is bound to; `None` for all.
    pub host_ip: Option<IpAddr>,
    /// On the node.
    pub host_port: u16,
    /// In the pod.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// A pod's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// File of the network namespace.
    pub namespace: PathBuf,
    /// Addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
}

/// Why a pod gets no network. A retry may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);
