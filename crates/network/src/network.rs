//! The node's network: one bridge, one nftables table, a directory of leases.

mod ipv6;
mod join;
mod resolver;

pub use ipv6::Ipv6;
pub use join::Addresses;
pub use resolver::RESOLVER;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::leases::Leases;
use crate::namespace::{self, Namespace};
use crate::netlink::{Links, POD_INDEX, PodSide};
use crate::service::{Layout, ServiceTable};
use crate::{Cidr, Isolation, NetworkError, PodAttach, PodNetwork, UserIds, host, isolation, service};

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
    /// The addresses of this node's pods (IPv4); the first one is the node's own on the bridge, the pods' gateway,
    /// unless `gateway` says otherwise.
    pub pod_cidr: Cidr,
    /// Another address of `pod_cidr` for the node's own on the bridge.
    pub gateway: Option<Ipv4Addr>,
    /// The node has no address on the bridge (Docker's gateway mode `isolated`): pods reach each other over their links,
    /// and nothing else. A `gateway` is then an address that no pod gets.
    pub alone: bool,
    /// Addresses of `pod_cidr` that no pod gets: somebody else has them.
    pub reserved: Vec<Ipv4Addr>,
    /// The addresses of Services (IPv4). `0.0.0.0/32` for a network without any.
    pub service_cidr: Cidr,
    /// The node's main address, where pods reach it. Pods get the MTU of the link that has it.
    pub node_ip: Ipv4Addr,
    /// The address of the cluster's name server inside `service_cidr`. It becomes an address of the bridge, so that
    /// a plain socket on the node can listen on it; Service rules never touch it. `None`: none.
    pub cluster_dns: Option<Ipv4Addr>,
    /// The bridge's name, where it is not to be one of the instance's own; nothing else may have it.
    pub bridge_name: Option<String>,
    /// Of pods' links, where it is not to be that of the link with `node_ip`.
    pub mtu: Option<u32>,
    /// How its bridge is kept from others; `None`: everybody reaches everybody, as the Kubernetes network model wants.
    pub isolation: Option<Isolation>,
}

/// What a pod's first link is called inside, where nothing else is asked for.
const POD_INTERFACE: &str = "eth0";

/// The node's network. Cheap to clone; all clones are one.
///
/// All methods block: attach about 2 ms, detach about 4 ms, the rest less, apart from `open` and `purge`.
/// Call them from `tokio::task::spawn_blocking` in async code, for different pods at a time as you like; calls for one
/// pod take turns. They act in the network namespace `open` was called in.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    instance: String,
    bridge: String,
    bridge_index: u32,
    gateway: Ipv4Addr,
    range: Cidr,
    mtu: u32,
    internal: bool,
    alone: bool,
    /// Members are kept from each other, too.
    apart: bool,
    namespaces: PathBuf,
    services: ServiceTable,
    /// One lock for both: the kernel serializes changes of links anyway.
    pods: Mutex<Pods>,
    /// Pods being attached or detached at the moment.
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
}

struct Pods {
    links: Links,
    leases: Leases,
}

impl Network {
    /// Creates what is missing on the host (bridge, gateway address, sysctls, nftables table) and adopts what an
    /// earlier process left: leases, namespaces, Service rules. Rules of Services stay in force until
    /// [`ServiceTable::replace_all`] is called with the current ones.
    ///
    /// `net.ipv4.ip_forward` is switched on and stays on: other programs may come to rely on it.
    pub fn open(config: NetworkConfig) -> Result<Network, NetworkError> {
        let gateway = check(&config)?;
        let namespaces = config.run_dir.join("netns");
        fs::create_dir_all(&namespaces).map_err(NetworkError::file("create", &namespaces))?;
        let own = if config.alone { config.gateway } else { Some(gateway) };
        let reserved = config.reserved.iter().copied().chain(own);
        let leases = Leases::open(config.data_dir.join("leases"), config.pod_cidr, reserved)?;
        let bridge = host::bridge_of(&config);
        let mut links = Links::open().map_err(NetworkError::netlink("open a netlink socket"))?;
        let bridge_index = host::prepare(&mut links, &config, &bridge, gateway)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => links.mtu_of(config.node_ip).map_err(NetworkError::netlink("read the node's links"))?,
        };

        if let Some(wanted) = &config.isolation
            && let Err(error) = isolation::protect(wanted, &bridge)
        {
            // An internal network that leads out would be worse than none.
            if wanted.internal {
                return Err(error);
            }
            tracing::warn!(%error, bridge, "nftables can't be used: other networks reach all ports of this one's containers");
        }
        let internal = config.isolation.as_ref().is_some_and(|isolation| isolation.internal);
        let apart = config.isolation.as_ref().is_some_and(|isolation| isolation.apart);
        let services = ServiceTable::open(Layout {
            unmasked: internal || config.isolation.as_ref().is_some_and(|isolation| isolation.unmasked),
            table: host::table_name(&config.name),
            bridge: bridge.clone(),
            pods: config.pod_cidr,
            services: config.service_cidr,
            cluster_dns: config.cluster_dns,
        });
        for (id, lease) in leases.iter() {
            if let Err(error) = services.set_host_ports(id, &lease.host_ports, lease.ip) {
                tracing::warn!(%error, pod = id, "host ports not reopened");
            }
        }
        let inner = Inner {
            instance: config.name,
            bridge,
            bridge_index,
            gateway,
            range: config.pod_cidr,
            mtu,
            internal,
            alone: config.alone,
            apart,
            namespaces,
            services,
            pods: Mutex::new(Pods { links, leases }),
            busy: Mutex::default(),
            freed: Condvar::new(),
        };
        Ok(Network { inner: Arc::new(inner) })
    }

    /// Gives the pod its namespace with loopback, `eth0`, address and default route, and opens its host ports.
    /// For a pod that is already attached and whose namespace still exists this returns what it has.
    ///
    /// A Linux bridge has 1,023 ports, so a node has no more pods. On an error nothing remains, and a retry starts anew.
    pub fn attach(&self, pod: &PodAttach) -> Result<PodNetwork, NetworkError> {
        self.attach_for(pod, None)
    }

    /// As [`Network::attach`], with a namespace that belongs to a user namespace of the pod's own, in which the ids from
    /// 0 are `users`: processes that live in it have rights over the pod's network, and none over the node's.
    pub fn attach_for(&self, pod: &PodAttach, users: Option<UserIds>) -> Result<PodNetwork, NetworkError> {
        self.attach_as(pod, POD_INTERFACE, users)
    }

    fn attach_as(&self, pod: &PodAttach, interface: &str, users: Option<UserIds>) -> Result<PodNetwork, NetworkError> {
        let inner = &*self.inner;
        let _turn = inner.turn(&pod.id);
        let ip = inner.pods.lock().leases.lease(&pod.id, &pod.host_ports)?;
        let path = inner.namespaces.join(&pod.id);
        let linked = match namespace::is_mounted(&path) {
            true => Ok(()),
            false => inner.connect(&pod.id, ip, &path, interface, users),
        };
        let attached = linked.and_then(|()| inner.services.set_host_ports(&pod.id, &pod.host_ports, ip));
        if let Err(error) = attached {
            if let Err(more) = inner.detach(&pod.id) {
                tracing::warn!(pod = pod.id, error = %more, "a failed attachment was not fully undone");
            }
            return Err(error);
        }
        Ok(inner.describe(&pod.id, ip, path))
    }

    /// Takes the pod's host ports, connections, namespace and address away. Unknown ids are fine.
    /// Processes still inside the namespace keep it alive, but unreachable through host ports.
    pub fn detach(&self, id: &str) -> Result<(), NetworkError> {
        let _turn = self.inner.turn(id);
        self.inner.detach(id)
    }

    /// What an attached pod has.
    pub fn pod(&self, id: &str) -> Option<PodNetwork> {
        let ip = self.inner.pods.lock().leases.find(id)?.ip;
        let path = self.inner.namespaces.join(id);
        namespace::is_mounted(&path).then(|| self.inner.describe(id, ip, path))
    }

    /// Detaches every pod whose id is not among `live`; returns the ids detached. Call it once after a restart.
    pub fn reconcile<'a>(&self, live: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, NetworkError> {
        let live: HashSet<&str> = live.into_iter().collect();
        let mut dead: HashSet<String> = self.inner.pods.lock().leases.iter().map(|(id, _)| id.to_owned()).collect();
        dead.retain(|id| !live.contains(id.as_str()));
        for id in &dead {
            self.detach(id)?;
        }
        // Namespaces without a lease: an attachment or detachment was cut off in the middle.
        for path in entries(&self.inner.namespaces)? {
            let id = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if self.inner.pods.lock().leases.find(&id).is_none() {
                namespace::remove(&path)?;
                dead.insert(id);
            }
        }
        let mut dead: Vec<String> = dead.into_iter().collect();
        dead.sort();
        Ok(dead)
    }

    /// The Services' rules.
    pub fn services(&self) -> &ServiceTable {
        &self.inner.services
    }

    /// The pods' gateway: the node's address on the bridge, if it has one.
    pub fn gateway(&self) -> Ipv4Addr {
        self.inner.gateway
    }

    /// The bridge's interface name.
    pub fn bridge(&self) -> &str {
        &self.inner.bridge
    }

    /// Removes every trace of the instance named in `config`: links, namespaces, nftables table, directories.
    /// Needs no open `Network` and is fine when there is nothing. Clones of an open one are useless afterwards.
    pub fn purge(config: &NetworkConfig) -> Result<(), NetworkError> {
        check(config)?;
        let namespaces = config.run_dir.join("netns");
        for path in entries(&namespaces)? {
            namespace::remove(&path)?;
        }
        let mut links = Links::open().map_err(NetworkError::netlink("open a netlink socket"))?;
        let bridge = host::bridge_of(config);
        if let Some(index) = links.index(&bridge).map_err(NetworkError::netlink("look the bridge up"))? {
            // Those of namespaces that still have processes in them, or are being taken down.
            for port in links.ports(index).map_err(NetworkError::netlink("read the bridge's ports"))? {
                links.delete(&port).map_err(NetworkError::netlink("remove a pod's link"))?;
            }
            links.delete(&bridge).map_err(NetworkError::netlink("remove the bridge"))?;
        }
        let released = config.isolation.as_ref().map_or(Ok(()), |isolation| isolation::release(isolation, &bridge));
        let released = released.and(ipv6::remove_rules(&config.name));
        match service::remove(&host::table_name(&config.name)).and(released) {
            Err(error) if !unsupported(&error) => {
                return Err(NetworkError::netlink("remove the nftables table")(error));
            }
            _ => {}
        }
        for directory in [namespaces, config.data_dir.join("leases")] {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(NetworkError::file("remove", directory)(error));
                }
                _ => {}
            }
        }
        // Only if nothing else is in them: they may be shared with other rooms.
        let _ = fs::remove_dir(&config.run_dir);
        let _ = fs::remove_dir(&config.data_dir);
        Ok(())
    }
}

/// A pod's turn; the next one may begin when it is dropped.
struct Turn<'a> {
    inner: &'a Inner,
    id: String,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.busy.lock().remove(&self.id);
        self.inner.freed.notify_all();
    }
}

impl Inner {
    /// Waits until nobody else attaches or detaches this pod.
    fn turn(&self, id: &str) -> Turn<'_> {
        let mut busy = self.busy.lock();
        while !busy.insert(id.to_owned()) {
            self.freed.wait(&mut busy);
        }
        Turn { inner: self, id: id.to_owned() }
    }

    fn detach(&self, id: &str) -> Result<(), NetworkError> {
        let Some(ip) = self.pods.lock().leases.find(id).map(|lease| lease.ip) else { return Ok(()) };
        let closed = self.services.forget_pod(id, ip);
        let removed = namespace::remove(&self.namespaces.join(id));
        let mut pods = self.pods.lock();
        if let Err(error) = pods.links.delete_neighbour(self.bridge_index, ip) {
            tracing::debug!(pod = id, %error, "neighbour entry not deleted");
        }
        // The address is free only when nothing answers to it any more.
        removed?;
        pods.leases.release(id)?;
        closed
    }

    fn connect(
        &self,
        id: &str,
        ip: Ipv4Addr,
        path: &Path,
        interface: &str,
        users: Option<UserIds>,
    ) -> Result<(), NetworkError> {
        let mut namespace = Namespace::create(path, users)?;
        let port = host::port_name(&self.instance, id);
        let mac = self.pods.lock().leases.mac(id, ip);
        let pod =
            PodSide { netns: namespace.fd(), mac, interface, index: POD_INDEX, isolated: self.keeps_ports_apart() };
        {
            let links = &mut self.pods.lock().links;
            let mut created = links.create_veth(&port, self.bridge_index, self.mtu, &pod);
            if created.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST)) {
                // The kernel has not yet taken down the link of this pod's last namespace.
                links.delete(&port).map_err(NetworkError::netlink("remove a pod's old link"))?;
                created = links.create_veth(&port, self.bridge_index, self.mtu, &pod);
            }
            created.map_err(NetworkError::netlink("create a pod's link"))?;
            let index = links.index(&port).map_err(NetworkError::netlink("look a pod's link up"))?;
            let index =
                index.ok_or_else(|| NetworkError::netlink("look a pod's link up")(io::ErrorKind::NotFound.into()))?;
            links
                .introduce(self.bridge_index, index, ip, mac)
                .map_err(NetworkError::netlink("introduce a pod to the bridge"))?;
        }
        let reach = if self.internal { Some(self.range) } else { None };
        let gateway = self.way();
        namespace.links.configure_pod(ip, gateway, reach).map_err(NetworkError::netlink("set up a pod's eth0"))?;
        // The near end got its carrier just now; the kernel lets packets through only once a worker has noticed. Being
        // looked up makes it notice at once (Linux 6.8; before, the first packets to a pod may be lost).
        self.pods.lock().links.index(&port).map_err(NetworkError::netlink("look a pod's link up"))?;
        Ok(())
    }

    /// By what pods reach each other: the gateway, or their links alone.
    fn way(&self) -> Option<Ipv4Addr> {
        (!self.alone).then_some(self.gateway)
    }

    /// What goes from link to link passes no rules: the bridge itself must refuse it.
    fn keeps_ports_apart(&self) -> bool {
        self.alone && self.apart
    }

    fn describe(&self, id: &str, ip: Ipv4Addr, netns: PathBuf) -> PodNetwork {
        let mac = self.pods.lock().leases.mac(id, ip);
        PodNetwork { netns, ip, gateway: self.gateway, mac, interface: POD_INTERFACE }
    }
}

/// Whether the kernel takes it for the name of a link (`dev_valid_name`), and no program trips over it.
pub fn is_link_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    (1..libc::IFNAMSIZ).contains(&name.len()) && name.chars().all(legal) && !matches!(name, "." | "..")
}

/// The gateway, if the configuration makes sense.
fn check(config: &NetworkConfig) -> Result<Ipv4Addr, NetworkError> {
    let refuse = |why: String| Err(NetworkError::Config(why));
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if config.name.is_empty() || config.name.len() > 32 || !config.name.chars().all(legal) {
        return refuse(format!("name {:?} is not 1 to 32 characters of [a-z0-9-]", config.name));
    }
    for (what, range) in [("pod", config.pod_cidr), ("service", config.service_cidr)] {
        if !matches!(range.address(), IpAddr::V4(_)) {
            return refuse(format!("the {what} range {range} is not IPv4"));
        }
    }
    if config.pod_cidr.overlaps(&config.service_cidr) {
        return refuse(format!("the ranges {} and {} overlap", config.pod_cidr, config.service_cidr));
    }
    if config.cluster_dns.is_some_and(|dns| !config.service_cidr.contains(dns.into())) {
        return refuse(format!("the DNS address is outside the service range {}", config.service_cidr));
    }
    if let Some(gateway) = config.gateway.filter(|gateway| !config.pod_cidr.contains((*gateway).into())) {
        return refuse(format!("the gateway {gateway} is outside the pod range {}", config.pod_cidr));
    }
    if let Some(name) = config.bridge_name.as_ref().filter(|name| !is_link_name(name)) {
        return refuse(format!("{name:?} is no name for a bridge"));
    }
    match config.gateway.or_else(|| config.pod_cidr.first_host4()) {
        Some(gateway) if config.pod_cidr.prefix() <= 31 => Ok(gateway),
        _ => refuse(format!("the pod range {} is too small: /31 is the least", config.pod_cidr)),
    }
}

fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, NetworkError> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(NetworkError::file("read", directory))?,
    };
    listing.map(|entry| entry.map(|entry| entry.path()).map_err(NetworkError::file("read", directory))).collect()
}
