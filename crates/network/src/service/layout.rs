//! The nftables table: what is always there, and the byte shapes of its maps.
//!
//! A packet's way (`nat` hooks see the first packet of a connection only):
//!
//! ```text
//! prerouting, output → inside | outside: frontends[zone . address . protocol . port] → (variant . group)
//!                                        variants[variant] → refuse | drop | pick-…
//! pick-…:                                endpoints[group . random below the number of endpoints] → address . port
//! ```
//!
//! Only `variants` holds verdicts. The kernel walks all verdicts whenever rules change, so Services live in the other
//! maps, whose updates cost the same at any size. There is one `pick-…` chain for each number of endpoints in use
//! (and zone, masquerade and affinity time): the modulus of the random number is a constant of the rule.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use crate::Cidr;
use crate::nft::{Batch, ChainHook, ElementData, ElementKind, Expression as E, Register, SetSpec, Verdict};
use crate::service::plan::{Frontend, Zone};

/// What the table is made for.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub table: String,
    pub bridge: String,
    pub pods: Cidr,
    pub services: Cidr,
    pub cluster_dns: Option<Ipv4Addr>,
    /// What leaves the range keeps its address, or nothing leaves it.
    pub unmasked: bool,
}

/// Raised whenever a table made by an earlier version can't be adopted.
const VERSION: u32 = 2;
/// The packet mark bit between the choice of an endpoint and the masquerading of the source; kube-proxy's own default.
const MASQUERADE_BIT: u32 = 1 << 14;
/// `IPS_DST_NAT` of linux/netfilter/nf_conntrack_common.h.
const STATUS_DST_NAT: u32 = 1 << 5;
/// `RTN_LOCAL` of linux/rtnetlink.h.
const ROUTE_LOCAL: u32 = 2;
const ICMP_REDIRECT: u8 = 5;
/// Clients remembered at a time, all Services together.
const AFFINITY_SIZE: u32 = 65_536;

pub(crate) const FRONTENDS: &str = "frontends";
pub(crate) const VARIANTS: &str = "variants";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const MEMBERS: &str = "members";
pub(crate) const HAIRPIN: &str = "hairpin";
pub(crate) const AFFINITY: &str = "affinity";
const INSIDE: &str = "inside";
const OUTSIDE: &str = "outside";
const REFUSE: &str = "refuse";

// Registers: the key of `frontends`, its value, then what the choice yields. `SOURCE . GROUP` is the key of `affinity`,
// `GROUP . SLOT` of `endpoints`, `GROUP . ADDRESS . PORT` of `members`.
const KEY: Register = Register(0);
const KEY_ADDRESS: Register = Register(1);
const KEY_PROTOCOL: Register = Register(2);
const KEY_PORT: Register = Register(3);
const VALUE: Register = Register(4);
const SOURCE: Register = Register(5);
const GROUP: Register = Register(6);
const SLOT: Register = Register(7);
const ADDRESS: Register = Register(7);
const PORT: Register = Register(8);

/// How traffic at a frontend is treated: the key of `variants`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Variant {
    Refuse,
    Drop,
    Pick {
        /// The number of endpoints, at least 1.
        endpoints: u32,
        zone: Zone,
        masquerade: bool,
        /// Seconds; 0: none.
        affinity: u32,
    },
}

impl Variant {
    pub(crate) fn key(self) -> [u8; 8] {
        let (endpoints, detail) = match self {
            Variant::Refuse => (0, 0),
            Variant::Drop => (0, 1),
            Variant::Pick { endpoints, zone, masquerade, affinity } => {
                (endpoints, affinity << 8 | u32::from(masquerade) << 2 | zone as u32)
            }
        };
        pair(endpoints, detail)
    }

    pub(crate) fn from_key(key: &[u8]) -> Option<Variant> {
        let (endpoints, detail) = (word(key, 0)?, word(key, 4)?);
        let zone = match detail & 3 {
            0 => Zone::Inside,
            1 => Zone::Outside,
            2 => Zone::InsideNode,
            _ => Zone::OutsideNode,
        };
        Some(match (endpoints, detail) {
            (0, 0) => Variant::Refuse,
            (0, 1) => Variant::Drop,
            (0, _) => return None,
            _ => Variant::Pick { endpoints, zone, masquerade: detail >> 2 & 1 == 1, affinity: detail >> 8 },
        })
    }

    fn chain(self) -> String {
        let key = self.key();
        format!("pick-{}-{:x}", word(&key, 0).unwrap_or_default(), word(&key, 4).unwrap_or_default())
    }
}

pub(crate) fn frontend_key(frontend: &Frontend) -> [u8; 16] {
    let mut key = [0; 16];
    key[0] = frontend.zone as u8;
    key[4..8].copy_from_slice(&frontend.address.octets());
    key[8] = frontend.protocol.number();
    key[12..14].copy_from_slice(&frontend.port.to_be_bytes());
    key
}

pub(crate) fn frontend_value(variant: Variant, group: u32) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&variant.key());
    value[8..].copy_from_slice(&group.to_ne_bytes());
    value
}

pub(crate) fn slot_key(group: u32, slot: u32) -> [u8; 8] {
    pair(group, slot)
}

/// The (group, slot) of an `endpoints` key.
pub(crate) fn slot_from_key(key: &[u8]) -> Option<(u32, u32)> {
    Some((word(key, 0)?, word(key, 4)?))
}

pub(crate) fn endpoint_value(endpoint: SocketAddrV4) -> [u8; 8] {
    let mut value = [0; 8];
    value[..4].copy_from_slice(&endpoint.ip().octets());
    value[4..6].copy_from_slice(&endpoint.port().to_be_bytes());
    value
}

pub(crate) fn endpoint_from_value(value: &[u8]) -> Option<SocketAddrV4> {
    let address: [u8; 4] = value.get(..4)?.try_into().ok()?;
    let port: [u8; 2] = value.get(4..6)?.try_into().ok()?;
    Some(SocketAddrV4::new(address.into(), u16::from_be_bytes(port)))
}

pub(crate) fn member_key(group: u32, endpoint: SocketAddrV4) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.to_ne_bytes());
    key[4..].copy_from_slice(&endpoint_value(endpoint));
    key
}

pub(crate) fn hairpin_key(address: Ipv4Addr) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&address.octets());
    key[4..].copy_from_slice(&address.octets());
    key
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    bytes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Layout {
    /// The name of an empty chain that tells what the table was made for; a table without it can't be adopted.
    pub(crate) fn fingerprint(&self) -> String {
        let text = format!(
            "{VERSION} {} {} {} {:?} {}",
            self.bridge, self.pods, self.services, self.cluster_dns, self.unmasked
        );
        format!("layout-{:016x}", crate::hash::fnv1a64(text.as_bytes()))
    }

    /// The table without any Service, in place of whatever has its name.
    pub(crate) fn create(&self, batch: &mut Batch) {
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        for (id, (name, key_length, data)) in [
            (FRONTENDS, 16, ElementKind::Value(12)),
            (VARIANTS, 8, ElementKind::Verdict),
            (ENDPOINTS, 8, ElementKind::Value(8)),
            (MEMBERS, 12, ElementKind::Nothing),
            (HAIRPIN, 8, ElementKind::Nothing),
        ]
        .into_iter()
        .enumerate()
        {
            batch.add_set(&SetSpec { name, key_length, data, dynamic: None }, id as u32 + 1);
        }
        batch.add_chain(&self.fingerprint(), None);
        self.refuse(batch);
        self.entry(batch, INSIDE, Zone::Inside, Zone::InsideNode);
        self.entry(batch, OUTSIDE, Zone::Outside, Zone::OutsideNode);
        self.hooks(batch);
        self.postrouting(batch);
        add_variant(batch, Variant::Refuse);
        add_variant(batch, Variant::Drop);
    }

    fn refuse(&self, batch: &mut Batch) {
        batch.add_chain(REFUSE, None);
        batch.add_rule(
            REFUSE,
            &[
                E::Meta { key: libc::NFT_META_L4PROTO, to: KEY },
                E::Equal { register: KEY, value: vec![libc::IPPROTO_TCP as u8] },
                E::Reset,
            ],
        );
        batch.add_rule(REFUSE, &[E::PortUnreachable]);
    }

    fn entry(&self, batch: &mut Batch, chain: &str, addresses: Zone, node: Zone) {
        batch.add_chain(chain, None);
        if let Some(dns) = self.cluster_dns {
            let mut rule = destination(dns.into(), 32, true);
            rule.push(E::End(Verdict::Return));
            batch.add_rule(chain, &rule);
        }
        let mut by_address = load_frontend(addresses);
        by_address.push(E::VerdictMap { map: VARIANTS, key: VALUE });
        batch.add_rule(chain, &by_address);

        // What is addressed to the Service range but to no Service would otherwise leave the node.
        let mut unknown = destination(self.services.address(), self.services.prefix(), true);
        unknown.push(E::End(Verdict::Jump(REFUSE.to_owned())));
        batch.add_rule(chain, &unknown);

        let mut by_node =
            vec![E::DestinationType { to: KEY }, E::Equal { register: KEY, value: ROUTE_LOCAL.to_ne_bytes().to_vec() }];
        by_node.extend(load_frontend(node));
        by_node.push(E::VerdictMap { map: VARIANTS, key: VALUE });
        batch.add_rule(chain, &by_node);
    }

    fn hooks(&self, batch: &mut Batch) {
        // The bridge routes loopback addresses (for node ports on 127.0.0.1), so pods must be kept off the node's.
        let (prerouting, output) = (libc::NF_INET_PRE_ROUTING, libc::NF_INET_LOCAL_OUT);
        batch.add_chain("guard", Some(&ChainHook { kind: "filter", hook: prerouting, priority: -300 }));
        let mut loopback = vec![
            E::Meta { key: libc::NFT_META_IIFNAME, to: KEY },
            E::Equal { register: KEY, value: interface(&self.bridge) },
        ];
        loopback.extend(destination(Ipv4Addr::LOCALHOST.into(), 8, true));
        loopback.push(E::End(Verdict::Drop));
        batch.add_rule("guard", &loopback);

        // Pods reach each other by the gateway on purpose; the node shall not advise against it.
        batch.add_chain("redirects", Some(&ChainHook { kind: "filter", hook: output, priority: 0 }));
        batch.add_rule(
            "redirects",
            &[
                E::Meta { key: libc::NFT_META_OIFNAME, to: KEY },
                E::Equal { register: KEY, value: interface(&self.bridge) },
                E::Meta { key: libc::NFT_META_L4PROTO, to: KEY },
                E::Equal { register: KEY, value: vec![libc::IPPROTO_ICMP as u8] },
                E::Transport { offset: 0, length: 1, to: KEY },
                E::Equal { register: KEY, value: vec![ICMP_REDIRECT] },
                E::End(Verdict::Drop),
            ],
        );

        batch.add_chain("prerouting", Some(&ChainHook { kind: "nat", hook: prerouting, priority: -100 }));
        batch.add_rule(
            "prerouting",
            &[
                E::Meta { key: libc::NFT_META_IIFNAME, to: KEY },
                E::Equal { register: KEY, value: interface(&self.bridge) },
                E::End(Verdict::Goto(INSIDE.to_owned())),
            ],
        );
        batch.add_rule("prerouting", &[E::End(Verdict::Goto(OUTSIDE.to_owned()))]);
        batch.add_chain("output", Some(&ChainHook { kind: "nat", hook: output, priority: -100 }));
        batch.add_rule("output", &[E::End(Verdict::Goto(INSIDE.to_owned()))]);
    }

    fn postrouting(&self, batch: &mut Batch) {
        let name = "postrouting";
        let hook = libc::NF_INET_POST_ROUTING;
        batch.add_chain(name, Some(&ChainHook { kind: "nat", hook, priority: 100 }));
        let all = |bytes: [u8; 4]| bytes.to_vec();
        let bridge = |equal: bool| {
            let value = interface(&self.bridge);
            match equal {
                true => E::Equal { register: KEY, value },
                false => E::NotEqual { register: KEY, value },
            }
        };
        let out = E::Meta { key: libc::NFT_META_OIFNAME, to: KEY };

        batch.add_rule(
            name,
            &[
                E::Meta { key: libc::NFT_META_MARK, to: KEY },
                E::Bitwise { from: KEY, to: KEY_ADDRESS, mask: all(MASQUERADE_BIT.to_ne_bytes()), xor: all([0; 4]) },
                E::NotEqual { register: KEY_ADDRESS, value: all([0; 4]) },
                E::Bitwise { from: KEY, to: KEY, mask: all((!MASQUERADE_BIT).to_ne_bytes()), xor: all([0; 4]) },
                E::SetMark { from: KEY },
                E::Masquerade,
            ],
        );

        let mut from_loopback = source(Ipv4Addr::LOCALHOST.into(), 8);
        from_loopback.extend([out.clone(), bridge(true), E::Masquerade]);
        batch.add_rule(name, &from_loopback);

        // A pod that reached itself through a Service would answer itself past the translation.
        batch.add_rule(
            name,
            &[
                E::Network { offset: 12, length: 8, to: KEY },
                E::InSet { set: HAIRPIN, key: KEY },
                E::Ct { key: libc::NFT_CT_STATUS, to: KEY },
                E::Bitwise { from: KEY, to: KEY, mask: all(STATUS_DST_NAT.to_ne_bytes()), xor: all([0; 4]) },
                E::NotEqual { register: KEY, value: all([0; 4]) },
                E::Masquerade,
            ],
        );

        if self.unmasked {
            return;
        }
        let mut leaving = source(self.pods.address(), self.pods.prefix());
        leaving.extend(destination(self.pods.address(), self.pods.prefix(), false));
        leaving.extend([out, bridge(false), E::Masquerade]);
        batch.add_rule(name, &leaving);
    }
}

/// Makes the memory of client addresses. Its buckets take a megabyte, so only nodes that need it have it.
pub(crate) fn add_affinity(batch: &mut Batch) {
    let data = ElementKind::Value(8);
    batch.add_set(&SetSpec { name: AFFINITY, key_length: 8, data, dynamic: Some(AFFINITY_SIZE) }, 100);
}

/// Makes a variant usable.
pub(crate) fn add_variant(batch: &mut Batch, variant: Variant) {
    let Variant::Pick { endpoints, zone, masquerade, affinity } = variant else {
        let verdict = match variant {
            Variant::Drop => Verdict::Drop,
            _ => Verdict::Goto(REFUSE.to_owned()),
        };
        return batch.add_element(VARIANTS, &variant.key(), ElementData::Verdict(verdict));
    };
    let chain = variant.chain();
    batch.add_chain(&chain, None);
    if masquerade {
        let bit = MASQUERADE_BIT.to_ne_bytes().to_vec();
        batch.add_rule(
            &chain,
            &[
                E::Meta { key: libc::NFT_META_MARK, to: KEY },
                E::Bitwise { from: KEY, to: KEY, mask: (!MASQUERADE_BIT).to_ne_bytes().to_vec(), xor: bit },
                E::SetMark { from: KEY },
            ],
        );
    }
    let translate = E::Dnat { address: ADDRESS, port: PORT };
    let mut choose = load_frontend(zone);
    choose.extend([E::Random { to: SLOT, modulus: endpoints }, E::Map { map: ENDPOINTS, key: GROUP, to: ADDRESS }]);
    if affinity != 0 {
        let client = E::Network { offset: 12, length: 4, to: SOURCE };
        let remember = E::Remember { map: AFFINITY, key: SOURCE, value: ADDRESS, seconds: u64::from(affinity) };
        let mut known = load_frontend(zone);
        known.extend([
            client.clone(),
            E::Map { map: AFFINITY, key: SOURCE, to: ADDRESS },
            E::InSet { set: MEMBERS, key: GROUP },
            remember.clone(),
            translate.clone(),
        ]);
        batch.add_rule(&chain, &known);
        // An endpoint that is gone is forgotten first: remembering only refreshes what is there.
        let mut anew = choose.clone();
        let forget = E::Forget { map: AFFINITY, key: SOURCE, value: ADDRESS };
        anew.extend([client, forget, remember, translate.clone()]);
        batch.add_rule(&chain, &anew);
    }
    // With affinity this is what remains when its memory is full.
    choose.push(translate.clone());
    batch.add_rule(&chain, &choose);
    // A packet that met a change between two lookups may have missed its slot; slot 0 is there as long as any is. What
    // still finds nothing is dropped: let through untranslated, the connection would stay so.
    let mut first = load_frontend(zone);
    first.extend([
        E::Load { to: SLOT, value: vec![0; 4] },
        E::Map { map: ENDPOINTS, key: GROUP, to: ADDRESS },
        translate,
    ]);
    batch.add_rule(&chain, &first);
    batch.add_rule(&chain, &[E::End(Verdict::Drop)]);
    batch.add_element(VARIANTS, &variant.key(), ElementData::Verdict(Verdict::Goto(chain)));
}

/// Removes a variant no frontend uses.
pub(crate) fn delete_variant(batch: &mut Batch, variant: Variant) {
    batch.delete_element(VARIANTS, &variant.key());
    batch.delete_chain(&variant.chain());
}

/// Loads `VALUE` and `GROUP` of the frontend the packet is addressed to; goes on if there is one. Registers don't
/// outlive a rule, so each rule that needs them looks them up.
fn load_frontend(zone: Zone) -> Vec<E> {
    let address = match zone {
        Zone::Inside | Zone::Outside => E::Network { offset: 16, length: 4, to: KEY_ADDRESS },
        Zone::InsideNode | Zone::OutsideNode => E::Load { to: KEY_ADDRESS, value: vec![0; 4] },
    };
    vec![
        E::Load { to: KEY, value: vec![zone as u8, 0, 0, 0] },
        address,
        E::Meta { key: libc::NFT_META_L4PROTO, to: KEY_PROTOCOL },
        E::Transport { offset: 2, length: 2, to: KEY_PORT },
        E::Map { map: FRONTENDS, key: KEY, to: VALUE },
    ]
}

fn destination(address: IpAddr, prefix: u8, inside: bool) -> Vec<E> {
    in_range(16, address, prefix, inside)
}

fn source(address: IpAddr, prefix: u8) -> Vec<E> {
    in_range(12, address, prefix, true)
}

fn in_range(offset: u32, address: IpAddr, prefix: u8, inside: bool) -> Vec<E> {
    let (range, mask) = match Cidr::new(address, prefix).map(|cidr| cidr.address()) {
        Some(IpAddr::V4(v4)) => (v4, u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)),
        _ => unreachable!("NetworkConfig is checked to be IPv4"),
    };
    let value = range.octets().to_vec();
    vec![
        E::Network { offset, length: 4, to: KEY },
        E::Bitwise { from: KEY, to: KEY, mask: mask.to_be_bytes().to_vec(), xor: vec![0; 4] },
        match inside {
            true => E::Equal { register: KEY, value },
            false => E::NotEqual { register: KEY, value },
        },
    ]
}

/// An interface name as the kernel compares it.
fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_survives_its_key() {
        let pick = Variant::Pick { endpoints: 70_000, zone: Zone::OutsideNode, masquerade: true, affinity: 86_400 };
        for variant in [Variant::Refuse, Variant::Drop, pick] {
            assert_eq!(Variant::from_key(&variant.key()), Some(variant));
        }
        assert_eq!(Variant::from_key(&[0; 3]), None);
    }

    #[test]
    fn different_ranges_make_different_fingerprints() {
        let layout = |services: &str| Layout {
            table: "hythe-a".into(),
            bridge: "hy-1".into(),
            pods: "10.42.0.0/16".parse().unwrap(),
            services: services.parse().unwrap(),
            cluster_dns: None,
            unmasked: false,
        };
        assert_eq!(layout("10.43.0.0/16").fingerprint(), layout("10.43.0.0/16").fingerprint());
        assert_ne!(layout("10.43.0.0/16").fingerprint(), layout("10.44.0.0/16").fingerprint());
    }
}
