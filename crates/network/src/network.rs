//! The node's network: one bridge, one nftables table, a directory of leases.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::service::ServiceTable;
use crate::{Cidr, NetworkError, PodAttach, PodNetwork};

/// Names and ranges of one instance. Two instances on a machine need different names and ranges.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The instance's name; the bridge, the links and the nftables table (`hythe-<name>`) derive from it.
    /// 1 to 32 characters of `[a-z0-9-]`.
    pub name: String,
    /// Holds `leases/`: one small file a pod. Created if missing.
    pub data_dir: PathBuf,
    /// Holds `netns/`: one bind mount a pod. Created if missing; should not survive a reboot (`/run/…`).
    pub run_dir: PathBuf,
    /// The addresses of this node's pods (IPv4); the first one is the node's own on the bridge, the pods' gateway.
    pub pod_cidr: Cidr,
    /// The addresses of Services (IPv4).
    pub service_cidr: Cidr,
    /// The node's main address, where pods reach it.
    pub node_ip: Ipv4Addr,
    /// The address of the cluster's name server inside `service_cidr`. It becomes an address of the bridge, so that
    /// a plain socket on the node can listen on it; Service rules never touch it. `None`: none.
    pub cluster_dns: Option<Ipv4Addr>,
}

/// The node's network. Cheap to clone; all clones are one.
///
/// All methods block: attach about 2 ms, detach about 4 ms, the rest less, apart from `open` and `purge`.
/// Call them from `tokio::task::spawn_blocking` in async code. They act in the network namespace `open` was called in.
#[derive(Clone)]
pub struct Network {}

impl Network {
    /// Creates what is missing on the host (bridge, gateway address, sysctls, nftables table) and adopts what an
    /// earlier process left: leases, namespaces, Service rules. Rules of Services stay in force until
    /// [`ServiceTable::replace_all`] is called with the current ones.
    pub fn open(config: NetworkConfig) -> Result<Network, NetworkError> {
        let _ = config;
        todo!()
    }

    /// Gives the pod its namespace with loopback, `eth0`, address and default route, and opens its host ports.
    /// For a pod that is already attached and whose namespace still exists this returns what it has.
    pub fn attach(&self, pod: &PodAttach) -> Result<PodNetwork, NetworkError> {
        let _ = pod;
        todo!()
    }

    /// Takes the pod's host ports, connections, namespace and address away. Unknown ids are fine.
    /// Processes still inside the namespace keep it alive, but unreachable through host ports.
    pub fn detach(&self, id: &str) -> Result<(), NetworkError> {
        let _ = id;
        todo!()
    }

    /// What an attached pod has.
    pub fn pod(&self, id: &str) -> Option<PodNetwork> {
        let _ = id;
        todo!()
    }

    /// Detaches every pod whose id is not among `live`; returns the ids detached. Call it once after a restart.
    pub fn reconcile<'a>(&self, live: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, NetworkError> {
        let _ = live.into_iter().count();
        todo!()
    }

    /// The Services' rules.
    pub fn services(&self) -> &ServiceTable {
        todo!()
    }

    /// The pods' gateway: the node's address on the bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        todo!()
    }

    /// The bridge's interface name.
    pub fn bridge(&self) -> &str {
        todo!()
    }

    /// Removes every trace of the instance named in `config`: links, namespaces, nftables table, directories.
    /// Needs no open `Network` and is fine when there is nothing. Clones of an open one are useless afterwards.
    pub fn purge(config: &NetworkConfig) -> Result<(), NetworkError> {
        let _ = config;
        todo!()
    }
}
