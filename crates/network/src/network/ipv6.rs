//! Addresses of IPv6 beside those of IPv4. Members of one bridge reach each other directly; what they send elsewhere
//! goes by the bridge's own address and out under the node's.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use super::Network;
use crate::namespace::Namespace;
use crate::nft::{Batch, ChainHook, Expression as E, Register, Session};
use crate::{Cidr, Isolation, NetworkError, host, isolation};

/// A network's range of IPv6 and the node's own address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// The range.
    pub range: Cidr,
    /// The members' way out: the bridge's own address, if it has one.
    pub gateway: Option<Ipv6Addr>,
}

const FIRST: Register = Register(0);
/// Where the source address is in the header of IPv6 (RFC 8200), and how long it is.
const SOURCE: (u32, u32) = (8, 16);
/// Behind other programs' translations, as the chain of IPv4.
const SOURCE_NAT: i32 = 100;

impl Network {
    /// Gives the bridge its address of IPv6 and the rules that keep it from others; fine if it has them already.
    ///
    /// `net.ipv6.conf.all.forwarding` is switched on, unless the network is an internal one, and stays on.
    ///
    /// # Errors
    /// The kernel's: it has no IPv6, or nftables can't be used (what nothing keeps from others is not opened).
    pub fn open_ipv6(&self, ipv6: Ipv6, isolated: Option<&Isolation>) -> Result<(), NetworkError> {
        let inner = &*self.inner;
        if let Some(isolated) = isolated {
            isolation::protect_ipv6(isolated, &inner.bridge)?;
        }
        if !inner.internal && !isolated.is_some_and(|isolated| isolated.unmasked) {
            masquerade(&inner.instance, &inner.bridge, ipv6.range).map_err(NetworkError::netlink("translate IPv6"))?;
        }
        let Some(gateway) = ipv6.gateway else { return Ok(()) };
        host::allow_ipv6(&inner.bridge, !inner.internal)?;
        let links = &mut inner.pods.lock().links;
        links
            .add_ipv6(inner.bridge_index, gateway, ipv6.range.prefix())
            .map_err(NetworkError::netlink("give the bridge its address of IPv6"))
    }

    /// Gives a member an address of IPv6 on its link to this network. With `default_route`, everything goes this way.
    ///
    /// # Errors
    /// The kernel's; [`NetworkError::PodId`] for a pod that is not in it.
    pub fn join_ipv6(
        &self,
        id: &str,
        ip: Ipv6Addr,
        ipv6: Ipv6,
        namespace: &Path,
        default_route: bool,
    ) -> Result<(), NetworkError> {
        let step = "give a pod its address of IPv6";
        let (mut inside, index, name) = self.link_in(id, namespace, step)?;
        let setting = |setting: &str, value: &str| (format!("ipv6/conf/{name}/{setting}"), value.to_owned());
        // What its neighbours say of ways out is not believed.
        Namespace::set(namespace, vec![setting("accept_ra", "0"), setting("disable_ipv6", "0")])?;
        inside.links.add_ipv6(index, ip, ipv6.range.prefix()).map_err(NetworkError::netlink(step))?;
        if let Some(gateway) = ipv6.gateway.filter(|_| default_route && !self.inner.internal) {
            inside.links.lead_out_ipv6(index, gateway).map_err(NetworkError::netlink(step))?;
        }
        Ok(())
    }

    /// Takes a member's address of IPv4 off its link: it has a lease of it still, by which it is known, and reaches the
    /// bridge, where its names are asked for, and nothing else over IPv4.
    ///
    /// # Errors
    /// The kernel's; [`NetworkError::PodId`] for a pod that is not in it.
    pub fn hide_ipv4(&self, id: &str, namespace: &Path) -> Result<(), NetworkError> {
        let step = "take a pod's address of IPv4 off its link";
        let (mut inside, index, _) = self.link_in(id, namespace, step)?;
        let ip = self.address(id).ok_or_else(|| NetworkError::PodId(id.to_owned()))?;
        // With its last address a link's routes go, too.
        inside.links.remove_address(index, ip).map_err(NetworkError::netlink(step))?;
        match self.inner.way() {
            Some(gateway) => inside.links.reach(index, gateway).map_err(NetworkError::netlink(step)),
            None => Ok(()),
        }
    }

    /// Makes this network a member's way to everything else over IPv6, in place of another.
    ///
    /// # Errors
    /// The kernel's; [`NetworkError::PodId`] for a pod that is not in it.
    pub fn lead_out_ipv6(&self, id: &str, ipv6: Ipv6, namespace: &Path) -> Result<(), NetworkError> {
        let step = "change a pod's default route of IPv6";
        let Some(gateway) = ipv6.gateway else { return Ok(()) };
        let (mut inside, index, _) = self.link_in(id, namespace, step)?;
        inside.links.lead_out_ipv6(index, gateway).map_err(NetworkError::netlink(step))
    }

    /// A member's link to this network: its index and name.
    fn link_in(
        &self,
        id: &str,
        namespace: &Path,
        step: &'static str,
    ) -> Result<(Namespace, u32, String), NetworkError> {
        let mac = {
            let leases = &self.inner.pods.lock().leases;
            leases.find(id).map(|lease| leases.mac(id, lease.ip))
        };
        let mac = mac.ok_or_else(|| NetworkError::PodId(id.to_owned()))?;
        let mut inside = Namespace::enter(namespace)?;
        let link = inside.links.with_mac(mac).map_err(NetworkError::netlink(step))?;
        let (index, name) = link.ok_or_else(|| NetworkError::netlink(step)(io::ErrorKind::NotFound.into()))?;
        Ok((inside, index, name))
    }
}

/// What leaves the range by another link than its bridge has the node's address: a table of the network's own.
fn masquerade(instance: &str, bridge: &str, range: Cidr) -> io::Result<()> {
    let IpAddr::V6(prefix) = range.address() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mask = u128::MAX.checked_shl(128 - u32::from(range.prefix())).unwrap_or(0);
    let table = host::table_name(instance);
    let mut batch = Batch::of_family(libc::NFPROTO_IPV6, &table);
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    let chain = "postrouting";
    batch.add_chain(chain, Some(&ChainHook { kind: "nat", hook: libc::NF_INET_POST_ROUTING, priority: SOURCE_NAT }));
    let (offset, length) = SOURCE;
    batch.add_rule(
        chain,
        &[
            E::Network { offset, length, to: FIRST },
            E::Bitwise { from: FIRST, to: FIRST, mask: mask.to_be_bytes().to_vec(), xor: vec![0; 16] },
            E::Equal { register: FIRST, value: prefix.octets().to_vec() },
            E::Meta { key: libc::NFT_META_OIFNAME, to: FIRST },
            E::NotEqual { register: FIRST, value: isolation::name_bytes(bridge) },
            E::Masquerade,
        ],
    );
    Session::of_family(libc::NFPROTO_IPV6)?.commit(batch).map_err(|error| error.source)
}

/// Takes the table of [`masquerade`] away; fine if there is none.
pub(super) fn remove_rules(instance: &str) -> io::Result<()> {
    let table = host::table_name(instance);
    let mut session = Session::of_family(libc::NFPROTO_IPV6)?;
    if !session.has_table(&table)? {
        return Ok(());
    }
    let mut batch = Batch::of_family(libc::NFPROTO_IPV6, &table);
    batch.delete_table();
    session.commit(batch).map_err(|error| error.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_networks_table_goes_with_it() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests of the network need root");
        let has_table = || Session::of_family(libc::NFPROTO_IPV6).unwrap().has_table("hythe-six").unwrap();
        let range = "fd00:1::/64".parse().unwrap();
        masquerade("six", "hy-1", range).unwrap();
        // The same again, by a daemon that was started anew.
        masquerade("six", "hy-1", range).unwrap();
        assert!(has_table());
        remove_rules("six").unwrap();
        assert!(!has_table());
        remove_rules("six").unwrap();
    }
}
