//! Bridges kept from each other: one table for all bridges of a program, whose cost does not grow with their number.
//!
//! What a member of an isolated bridge may reach is decided in the `forward` hook. Members of one bridge reach each other
//! by its gateway, so their packets pass here too:
//!
//! ```text
//! same[iifname . oifname]      → go on      (within one bridge)
//! apart[iifname . oifname]     → drop unless it answers or was translated (a bridge whose members are on their own)
//! internal[iifname], [oifname] → drop       (an internal network has neither a way out nor one in)
//! members[oifname]             → go on if it answers, or was translated on its way (a published port); else drop
//! ```
//!
//! As Docker's own rules do, this keeps everybody else from ports that are not published, not only other bridges.

use std::io;

use crate::NetworkError;
use crate::nft::{
    Batch, ChainHook, ElementData, ElementKind, Expression as E, Register, Session, SetSpec, TransactionError, Verdict,
};

/// How a network's bridge is kept from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Isolation {
    /// The name all bridges that are kept from each other share; their table is `hythe-<name>`. It must differ from the
    /// names of networks.
    pub group: String,
    /// No way out and none in, but from the node itself; no default route, no masquerading.
    pub internal: bool,
    /// Whether others are kept from ports that are not published. Without (Docker's `nat-unprotected`), whoever finds a
    /// route may use it. Means nothing for an internal network.
    pub protected: bool,
    /// Members of the bridge do not reach each other either, but by published ports (Docker's `enable_icc=false`).
    pub apart: bool,
    /// Members go out under their own addresses (Docker's `enable_ip_masquerade=false`): somebody else routes the answers.
    pub unmasked: bool,
}

/// Raised whenever the table's shape changes: one of another shape is made anew.
const SHAPE: &str = "isolation-2";
const MEMBERS: &str = "members";
const INTERNAL: &str = "internal";
const SAME: &str = "same";
const APART: &str = "apart";
const NAME_LENGTH: u32 = libc::IFNAMSIZ as u32;
const FIRST: Register = Register(0);
const SECOND: Register = Register(4);
/// `NF_CT_STATE_BIT` of `IP_CT_ESTABLISHED` and `IP_CT_RELATED` (linux/netfilter/nf_conntrack_common.h, nf_conntrack_tuple_common.h).
const STATE_ANSWERS: u32 = 1 << 1 | 1 << 2;
/// `IPS_DST_NAT`.
const STATUS_DST_NAT: u32 = 1 << 5;

/// Puts a bridge under the rules; once there it stays until [`release`]. Fine if it is there already.
pub(crate) fn protect(isolation: &Isolation, bridge: &str) -> Result<(), NetworkError> {
    protect_in(libc::NFPROTO_IPV4, isolation, bridge)
}

/// The same for packets of IPv6, which only some networks have.
pub(crate) fn protect_ipv6(isolation: &Isolation, bridge: &str) -> Result<(), NetworkError> {
    protect_in(libc::NFPROTO_IPV6, isolation, bridge)
}

fn protect_in(family: i32, isolation: &Isolation, bridge: &str) -> Result<(), NetworkError> {
    let step = "isolate a bridge";
    let table = crate::host::table_name(&isolation.group);
    let mut session = Session::of_family(family).map_err(NetworkError::netlink(step))?;
    let mut last = None;
    // Two bridges may be the first at a time, or one the first while another is the last: who is late looks again.
    for _ in 0..3 {
        let mut batch = Batch::of_family(family, &table);
        if !session.has_chain(&table, SHAPE).map_err(NetworkError::netlink(step))? {
            create(&mut batch);
        }
        let name = name_bytes(bridge);
        let pairs = if isolation.apart { APART } else { SAME };
        batch.add_element(pairs, &[&name[..], &name[..]].concat(), ElementData::Nothing);
        if isolation.internal {
            batch.add_element(INTERNAL, &name, ElementData::Nothing);
        } else if isolation.protected {
            batch.add_element(MEMBERS, &name, ElementData::Nothing);
        }
        match session.commit(batch) {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let source = last.map_or_else(|| io::ErrorKind::Other.into(), |error: TransactionError| error.source);
    Err(NetworkError::Netlink { step, source })
}

/// Takes a bridge out of the rules, and the table away with the last one. Fine if it is not there.
pub(crate) fn release(isolation: &Isolation, bridge: &str) -> io::Result<()> {
    release_in(libc::NFPROTO_IPV4, isolation, bridge).and(release_in(libc::NFPROTO_IPV6, isolation, bridge))
}

fn release_in(family: i32, isolation: &Isolation, bridge: &str) -> io::Result<()> {
    let table = crate::host::table_name(&isolation.group);
    let mut session = Session::of_family(family)?;
    if !session.has_chain(&table, SHAPE)? {
        return Ok(());
    }
    let name = name_bytes(bridge);
    let pair = [&name[..], &name[..]].concat();
    let mut batch = Batch::of_family(family, &table);
    for (set, key) in [(SAME, &pair), (APART, &pair), (INTERNAL, &name), (MEMBERS, &name)] {
        if session.elements(&table, set)?.iter().any(|(present, _)| present == key) {
            batch.delete_element(set, key);
        }
    }
    session.commit(batch).map_err(|error| error.source)?;
    for pairs in [SAME, APART] {
        if !session.elements(&table, pairs)?.is_empty() {
            return Ok(());
        }
    }
    let mut batch = Batch::of_family(family, &table);
    batch.delete_table();
    session.commit(batch).map_err(|error| error.source)
}

/// The table without any bridge, in place of whatever has its name.
fn create(batch: &mut Batch) {
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    let pair = 2 * NAME_LENGTH;
    for (id, name, key_length) in
        [(1, MEMBERS, NAME_LENGTH), (2, INTERNAL, NAME_LENGTH), (3, SAME, pair), (4, APART, pair)]
    {
        batch.add_set(&SetSpec { name, key_length, data: ElementKind::Nothing, dynamic: None }, id);
    }
    batch.add_chain(SHAPE, None);
    let forward = "forward";
    batch.add_chain(forward, Some(&ChainHook { kind: "filter", hook: libc::NF_INET_FORWARD, priority: 0 }));
    let from = |to| E::Meta { key: libc::NFT_META_IIFNAME, to };
    let into = |to| E::Meta { key: libc::NFT_META_OIFNAME, to };
    let any_of = |key, bits: u32| {
        [
            E::Ct { key, to: FIRST },
            E::Bitwise { from: FIRST, to: FIRST, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] },
            E::NotEqual { register: FIRST, value: vec![0; 4] },
            E::End(Verdict::Return),
        ]
    };
    let (drop, on) = (E::End(Verdict::Drop), E::End(Verdict::Return));
    batch.add_rule(forward, &[from(FIRST), into(SECOND), E::InSet { set: SAME, key: FIRST }, on]);
    batch.add_rule(forward, &[from(FIRST), E::InSet { set: INTERNAL, key: FIRST }, drop.clone()]);
    batch.add_rule(forward, &[into(FIRST), E::InSet { set: INTERNAL, key: FIRST }, drop.clone()]);
    batch.add_rule(forward, &any_of(libc::NFT_CT_STATUS, STATUS_DST_NAT));
    batch.add_rule(forward, &any_of(libc::NFT_CT_STATE, STATE_ANSWERS));
    batch.add_rule(forward, &[from(FIRST), into(SECOND), E::InSet { set: APART, key: FIRST }, drop.clone()]);
    batch.add_rule(forward, &[into(FIRST), E::InSet { set: MEMBERS, key: FIRST }, drop]);
}

/// An interface name as the kernel compares it.
pub(crate) fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_with_its_last_bridge() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests of the network need root");
        let of = |internal| Isolation {
            group: "a-isolation".into(),
            internal,
            protected: true,
            apart: internal,
            unmasked: false,
        };
        let has_table = || Session::open().unwrap().has_table("hythe-a-isolation").unwrap();
        protect(&of(false), "hy-1").unwrap();
        protect(&of(false), "hy-1").unwrap();
        protect(&of(true), "hy-2").unwrap();
        release(&of(false), "hy-1").unwrap();
        assert!(has_table());
        release(&of(true), "hy-2").unwrap();
        assert!(!has_table());
        release(&of(true), "hy-2").unwrap();
    }
}
