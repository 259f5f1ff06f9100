//! A pod in more than one network: links beside `eth0`, an address of the caller's choice, and leaving again.

use std::net::Ipv4Addr;
use std::path::Path;

use super::*;

/// What a pod wants to be known by in a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// An address of the range; `None`: any.
    pub ip: Option<Ipv4Addr>,
    /// A hardware address; `None`: one made of the IP address.
    pub mac: Option<[u8; 6]>,
}

impl From<Option<Ipv4Addr>> for Addresses {
    fn from(ip: Option<Ipv4Addr>) -> Self {
        Self { ip, mac: None }
    }
}

impl Network {
    /// As [`Network::attach_for`], with these addresses and another name of the link inside than `eth0`.
    ///
    /// # Errors
    /// [`NetworkError::AddressTaken`] if it is another pod's, the gateway's or outside of the range.
    pub fn attach_at(
        &self,
        pod: &PodAttach,
        wanted: impl Into<Addresses>,
        interface: Option<&str>,
        users: Option<UserIds>,
    ) -> Result<PodNetwork, NetworkError> {
        self.inner.lease(&pod.id, wanted.into())?;
        self.attach_as(pod, interface.unwrap_or(POD_INTERFACE), users)
    }

    /// Writes kernel settings of a pod's links (names below `/proc/sys/net`).
    ///
    /// # Errors
    /// The kernel's.
    pub fn tune(namespace: &Path, settings: Vec<(String, String)>) -> Result<(), NetworkError> {
        if settings.is_empty() { Ok(()) } else { Namespace::set(namespace, settings) }
    }

    /// Gives a network namespace made elsewhere a link to this network, named `interface`, with an address and a route
    /// to this network's range. With `default_route`, everything goes this way. Answers the address.
    ///
    /// # Errors
    /// As [`Network::attach_at`]; nothing remains then.
    pub fn join(
        &self,
        id: &str,
        wanted: impl Into<Addresses>,
        namespace: &Path,
        interface: &str,
        default_route: bool,
    ) -> Result<Ipv4Addr, NetworkError> {
        let inner = &*self.inner;
        let _turn = inner.turn(id);
        inner.lease(id, wanted.into())?;
        let address = inner.pods.lock().leases.lease(id, &[])?;
        let joined = inner.link_into(id, address, namespace, interface, default_route);
        if joined.is_err() {
            let _ = inner.detach(id);
        }
        joined.map(|()| address)
    }

    /// Takes the pod's link to this network away, while it goes on living in others; its address and host ports with it.
    /// Unknown ids are fine.
    ///
    /// # Errors
    /// The kernel's; calling again tries again.
    pub fn leave(&self, id: &str) -> Result<(), NetworkError> {
        let _turn = self.inner.turn(id);
        let port = host::port_name(&self.inner.instance, id);
        self.inner.pods.lock().links.delete(&port).map_err(NetworkError::netlink("remove a pod's link"))?;
        self.inner.detach(id)
    }

    /// Makes this network the way to everything else of a pod that is in it, in place of one that it has left.
    ///
    /// # Errors
    /// The kernel's; [`NetworkError::PodId`] for a pod that is not in it.
    pub fn lead_out(&self, id: &str, namespace: &Path) -> Result<(), NetworkError> {
        let mac = {
            let leases = &self.inner.pods.lock().leases;
            leases.find(id).map(|lease| leases.mac(id, lease.ip))
        };
        let mac = mac.ok_or_else(|| NetworkError::PodId(id.to_owned()))?;
        let mut inside = Namespace::enter(namespace)?;
        let led = inside.links.lead_out(mac, self.inner.gateway);
        led.map_err(NetworkError::netlink("change a pod's default route"))
    }

    /// The address of IPv4 that a pod has a lease of.
    #[must_use]
    pub fn address(&self, id: &str) -> Option<Ipv4Addr> {
        self.inner.pods.lock().leases.find(id).map(|lease| lease.ip)
    }

    /// The range of this network's pods.
    pub fn range(&self) -> Cidr {
        self.inner.range
    }
}

impl Inner {
    /// A lease of what is wanted; without wishes, none yet.
    fn lease(&self, id: &str, wanted: Addresses) -> Result<(), NetworkError> {
        let leases = &mut self.pods.lock().leases;
        match (wanted.ip, wanted.mac) {
            (Some(ip), _) => drop(leases.lease_at(id, ip)?),
            (None, Some(_)) => drop(leases.lease(id, &[])?),
            (None, None) => {}
        }
        wanted.mac.map_or(Ok(()), |mac| leases.set_mac(id, mac))
    }

    fn link_into(
        &self,
        id: &str,
        ip: Ipv4Addr,
        path: &Path,
        interface: &str,
        default_route: bool,
    ) -> Result<(), NetworkError> {
        let mut namespace = Namespace::enter(path)?;
        let port = host::port_name(&self.instance, id);
        let mac = self.pods.lock().leases.mac(id, ip);
        {
            let links = &mut self.pods.lock().links;
            let isolated = self.keeps_ports_apart();
            let pod = PodSide { netns: namespace.fd(), mac, interface, index: 0, isolated };
            links.delete(&port).map_err(NetworkError::netlink("remove a pod's old link"))?;
            links
                .create_veth(&port, self.bridge_index, self.mtu, &pod)
                .map_err(NetworkError::netlink("create a pod's link"))?;
            let index = links.index(&port).map_err(NetworkError::netlink("look a pod's link up"))?;
            let index =
                index.ok_or_else(|| NetworkError::netlink("look a pod's link up")(io::ErrorKind::NotFound.into()))?;
            links
                .introduce(self.bridge_index, index, ip, mac)
                .map_err(NetworkError::netlink("introduce a pod to the bridge"))?;
        }
        namespace
            .links
            .configure_extra(interface, ip, self.range, self.way(), default_route)
            .map_err(NetworkError::netlink("set up a pod's further link"))?;
        // See `connect`: being looked up, the link is noticed to have its carrier.
        self.pods.lock().links.index(&port).map_err(NetworkError::netlink("look a pod's link up"))?;
        Ok(())
    }
}
