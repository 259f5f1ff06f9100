//! The address 127.0.0.11, where programs in a container expect its network's name server: configurations name it
//! (nginx's `resolver`, haproxy's `nameserver`). Inside the container's namespace it is led to the gateway, where that
//! server is; or, in a network without one, to other ports of 127.0.0.11, which are the server's then.
//!
//! ```text
//! output:      127.0.0.11:53 → SERVER:PORT
//! postrouting: from 127.0.0.0/8 to SERVER → from the container's own address
//! ```
//!
//! Its own is the one that it has a lease of: its link need not have it (see [`Network::hide_ipv4`]).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use super::Network;
use crate::nft::{Batch, ChainHook, Expression as E, Register, Session};
use crate::{NetworkError, namespace};

/// Docker's own choice.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const TABLE: &str = "hythe-resolver";
const FIRST: Register = Register(0);
const SECOND: Register = Register(4);
/// Where the addresses are in the header of IPv4 (RFC 791), and the destination port behind it.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const PORT: u32 = 2;
const DNS: u16 = 53;
/// `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`.
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;

impl Network {
    /// Leads [`RESOLVER`] to this network's gateway for everything in a member's namespace; once more, it leads there
    /// instead of elsewhere. It goes with the namespace.
    ///
    /// In a network whose bridge has no address it leads to sockets inside the namespace, which the caller gets and
    /// answers: who asks is known by the member's own address, as at a gateway.
    ///
    /// # Errors
    /// The kernel's: nftables can't be used, or `/proc/sys` is read-only. Nothing is led anywhere then.
    /// [`NetworkError::PodId`] for a pod that is not in it.
    pub fn lead_resolver(&self, id: &str, path: &Path) -> Result<Option<(UdpSocket, TcpListener)>, NetworkError> {
        let own = self.address(id).ok_or_else(|| NetworkError::PodId(id.to_owned()))?;
        let way = self.inner.way();
        namespace::inside(path, "lead names in a namespace", move || match way {
            Some(gateway) => lead(own, gateway, [DNS; 2]).map(|()| None),
            None => {
                // Port 53 of all addresses stays the container's own.
                let (udp, tcp) = (UdpSocket::bind((RESOLVER, 0))?, TcpListener::bind((RESOLVER, 0))?);
                lead(own, RESOLVER, [udp.local_addr()?.port(), tcp.local_addr()?.port()])?;
                Ok(Some((udp, tcp)))
            }
        })
    }
}

/// Acts in the calling thread's namespace. The ports are the server's for UDP and TCP.
fn lead(own: Ipv4Addr, server: Ipv4Addr, ports: [u16; 2]) -> io::Result<()> {
    // Answers come back to 127.0.0.1 by a link that is not the loopback.
    fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")?;
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    let address = |offset, to| E::Network { offset, length: 4, to };
    let is = |register, bytes: &[u8]| E::Equal { register, value: bytes.to_vec() };
    let output = "output";
    batch.add_chain(output, Some(&ChainHook { kind: "nat", hook: libc::NF_INET_LOCAL_OUT, priority: DESTINATION_NAT }));
    for (protocol, port) in [libc::IPPROTO_UDP, libc::IPPROTO_TCP].into_iter().zip(ports) {
        batch.add_rule(
            output,
            &[
                address(DESTINATION, FIRST),
                is(FIRST, &RESOLVER.octets()),
                E::Meta { key: libc::NFT_META_L4PROTO, to: FIRST },
                is(FIRST, &[protocol as u8]),
                E::Transport { offset: PORT, length: 2, to: FIRST },
                is(FIRST, &DNS.to_be_bytes()),
                E::Load { to: FIRST, value: server.octets().to_vec() },
                E::Load { to: SECOND, value: port.to_be_bytes().to_vec() },
                E::Dnat { address: FIRST, port: SECOND },
            ],
        );
    }
    let postrouting = "postrouting";
    batch.add_chain(
        postrouting,
        Some(&ChainHook { kind: "nat", hook: libc::NF_INET_POST_ROUTING, priority: SOURCE_NAT }),
    );
    batch.add_rule(
        postrouting,
        &[
            address(SOURCE, FIRST),
            E::Bitwise { from: FIRST, to: FIRST, mask: vec![0xff, 0, 0, 0], xor: vec![0; 4] },
            is(FIRST, &[127, 0, 0, 0]),
            address(DESTINATION, FIRST),
            is(FIRST, &server.octets()),
            E::Load { to: FIRST, value: own.octets().to_vec() },
            E::Snat { address: FIRST },
        ],
    );
    Session::open()?.commit(batch).map_err(|error| error.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_one_gateway_leads_to_another_when_it_is_said_again() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests of the network need root");
        lead(Ipv4Addr::new(172, 18, 0, 2), Ipv4Addr::new(172, 18, 0, 1), [DNS; 2]).unwrap();
        lead(Ipv4Addr::new(172, 19, 0, 2), Ipv4Addr::new(172, 19, 0, 1), [DNS; 2]).unwrap();
        let mut session = Session::open().unwrap();
        assert!(session.has_chain(TABLE, "output").unwrap() && session.has_chain(TABLE, "postrouting").unwrap());
    }
}
