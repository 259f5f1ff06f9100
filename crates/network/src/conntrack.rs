//! Cutting connections: a background thread that deletes conntrack entries over ctnetlink.
//!
//! The kernel translates the packets of a known connection without asking the rules again. When an endpoint goes away,
//! its entries must go too; the next packet then meets the rules (or a reset). One walk over the table serves all cuts
//! that wait, since the walk is what costs (milliseconds, whatever the number of Services).

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::netlink::{AttributeWriter, Family, NetlinkSocket, attributes, next_sequence};
use crate::nft::{close, push_header};
use crate::service::Protocol;

/// Which connections to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All from and to this address.
    Address(Ipv4Addr),
    /// Those that came to one of these ports and were translated to this endpoint.
    Endpoint { protocol: Protocol, endpoint: SocketAddrV4, ports: Vec<u16> },
    /// Those addressed to this port (of this address, or of any), translated or not.
    Frontend { protocol: Protocol, address: Option<Ipv4Addr>, port: u16 },
}

/// The handle of the background thread, which ends when the last handle is dropped.
pub(crate) struct Cutter {
    orders: Sender<Order>,
}

enum Order {
    Cut(Vec<Cut>),
    /// Answer once all earlier orders are done.
    Settle(Sender<()>),
}

impl Cutter {
    /// Starts the thread; it acts in the caller's network namespace.
    pub(crate) fn start() -> io::Result<Cutter> {
        let mut socket = NetlinkSocket::open(Family::Netfilter)?;
        let (orders, inbox) = channel();
        std::thread::Builder::new().name("connections".to_owned()).spawn(move || run(&mut socket, &inbox))?;
        Ok(Cutter { orders })
    }

    pub(crate) fn cut(&self, cuts: Vec<Cut>) {
        if !cuts.is_empty() {
            // The thread only ends with this handle.
            let _ = self.orders.send(Order::Cut(cuts));
        }
    }

    pub(crate) fn settle(&self) {
        let (done, wait) = channel();
        if self.orders.send(Order::Settle(done)).is_ok() {
            let _ = wait.recv();
        }
    }
}

fn run(socket: &mut NetlinkSocket, inbox: &Receiver<Order>) {
    let mut warned = false;
    while let Ok(first) = inbox.recv() {
        let mut cuts = Cuts::default();
        let mut waiting = Vec::new();
        for order in std::iter::once(first).chain(inbox.try_iter()) {
            match order {
                Order::Cut(more) => more.into_iter().for_each(|cut| cuts.add(cut)),
                Order::Settle(done) => waiting.push(done),
            }
        }
        if !cuts.is_empty()
            && let Err(error) = cut_matching(socket, &cuts)
            && !warned
        {
            tracing::warn!(%error, "connections to deleted endpoints can't be cut; they last until a peer closes them");
            warned = true;
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// Cuts, arranged so that one look at an entry tells whether it is meant.
#[derive(Default)]
struct Cuts {
    addresses: HashSet<Ipv4Addr>,
    endpoints: HashMap<(u8, SocketAddrV4), HashSet<u16>>,
    frontends: HashSet<(u8, Option<Ipv4Addr>, u16)>,
}

impl Cuts {
    fn add(&mut self, cut: Cut) {
        match cut {
            Cut::Address(address) => {
                self.addresses.insert(address);
            }
            Cut::Endpoint { protocol, endpoint, ports } => {
                self.endpoints.entry((protocol.number(), endpoint)).or_default().extend(ports);
            }
            Cut::Frontend { protocol, address, port } => {
                self.frontends.insert((protocol.number(), address, port));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.endpoints.is_empty() && self.frontends.is_empty()
    }

    fn mean(&self, flow: &Flow) -> bool {
        let Tuple { protocol, source, destination } = flow.original;
        let translated = destination != flow.reply.source;
        let by_address = [source, destination, flow.reply.source].iter().any(|end| self.addresses.contains(end.ip()));
        by_address
            || (translated
                && self
                    .endpoints
                    .get(&(protocol, flow.reply.source))
                    .is_some_and(|ports| ports.contains(&destination.port())))
            || self.frontends.contains(&(protocol, Some(*destination.ip()), destination.port()))
            || self.frontends.contains(&(protocol, None, destination.port()))
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    protocol: u8,
    source: SocketAddrV4,
    destination: SocketAddrV4,
}

/// A conntrack entry.
struct Flow {
    original: Tuple,
    reply: Tuple,
    /// The attributes that name it for deletion.
    name: Vec<u8>,
}

// linux/netfilter/nfnetlink_conntrack.h
const MSG_GET: u16 = 1;
const MSG_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Deletions sent in one call.
const DELETIONS: usize = 200;

fn cut_matching(socket: &mut NetlinkSocket, cuts: &Cuts) -> io::Result<()> {
    let request = message(MSG_GET, libc::NLM_F_DUMP, next_sequence(), &[]);
    let mut names = Vec::new();
    socket.dump(&request, |_, payload| {
        names.extend(parse(payload).filter(|flow| cuts.mean(flow)).map(|flow| flow.name));
    })?;
    for chunk in names.chunks(DELETIONS) {
        let mut bytes = Vec::new();
        let sequences: Vec<u32> = chunk.iter().map(|_| next_sequence()).collect();
        for (name, sequence) in chunk.iter().zip(&sequences) {
            bytes.extend(message(MSG_DELETE, libc::NLM_F_ACK, *sequence, name));
        }
        socket.send(&bytes)?;
        for sequence in sequences {
            // An entry that ended by itself meanwhile is refused; that is fine.
            let _ = socket.acknowledged(sequence, sequence)?;
        }
    }
    Ok(())
}

fn message(kind: u16, flags: i32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let kind = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | kind;
    let flags = (libc::NLM_F_REQUEST | flags) as u16;
    push_header(&mut bytes, kind, flags, sequence, libc::AF_INET as u8, 0);
    bytes.extend_from_slice(body);
    close(&mut bytes, 0);
    bytes
}

fn parse(payload: &[u8]) -> Option<Flow> {
    let (mut original, mut reply, mut name) = (None, None, Vec::new());
    for (kind, value) in attributes(payload.get(4..)?) {
        match kind {
            CTA_TUPLE_ORIG => {
                original = tuple(value);
                AttributeWriter::new(&mut name).bytes(CTA_TUPLE_ORIG | libc::NLA_F_NESTED as u16, value);
            }
            CTA_TUPLE_REPLY => reply = tuple(value),
            CTA_ID | CTA_ZONE => {
                AttributeWriter::new(&mut name).bytes(kind, value);
            }
            _ => {}
        }
    }
    Some(Flow { original: original?, reply: reply?, name })
}

/// `None` for protocols without ports.
fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let part = |wanted: u16| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let (ip, proto) = (part(CTA_TUPLE_IP)?, part(CTA_TUPLE_PROTO)?);
    let address = |wanted: u16| {
        let octets: [u8; 4] = attributes(ip).find(|(kind, _)| *kind == wanted)?.1.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    let field = |wanted: u16| attributes(proto).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let port = |wanted: u16| Some(u16::from_be_bytes(field(wanted)?.try_into().ok()?));
    Some(Tuple {
        protocol: *field(CTA_PROTO_NUM)?.first()?,
        source: SocketAddrV4::new(address(CTA_IP_V4_SRC)?, port(CTA_PROTO_SRC_PORT)?),
        destination: SocketAddrV4::new(address(CTA_IP_V4_DST)?, port(CTA_PROTO_DST_PORT)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: u8, source: &str, destination: &str, served_by: &str) -> Flow {
        let (source, served_by) = (source.parse().unwrap(), served_by.parse().unwrap());
        Flow {
            original: Tuple { protocol, source, destination: destination.parse().unwrap() },
            reply: Tuple { protocol, source: served_by, destination: source },
            name: vec![],
        }
    }

    #[test]
    fn only_translated_connections_through_the_service_lose_their_endpoint() {
        let mut cuts = Cuts::default();
        let endpoint = "10.42.0.2:8080".parse().unwrap();
        cuts.add(Cut::Endpoint { protocol: Protocol::Tcp, endpoint, ports: vec![80, 30080] });
        assert!(cuts.mean(&flow(6, "10.42.0.3:999", "10.43.0.1:80", "10.42.0.2:8080")));
        assert!(cuts.mean(&flow(6, "10.42.0.3:999", "192.0.2.1:30080", "10.42.0.2:8080")));
        assert!(!cuts.mean(&flow(6, "10.42.0.3:999", "10.43.0.2:81", "10.42.0.2:8080")));
        assert!(!cuts.mean(&flow(6, "10.42.0.3:999", "10.42.0.2:8080", "10.42.0.2:8080")));
        assert!(!cuts.mean(&flow(17, "10.42.0.3:999", "10.43.0.1:80", "10.42.0.2:8080")));
    }

    #[test]
    fn an_address_loses_its_connections_in_both_directions() {
        let mut cuts = Cuts::default();
        cuts.add(Cut::Address("10.42.0.2".parse().unwrap()));
        assert!(cuts.mean(&flow(6, "10.42.0.2:999", "192.0.2.1:80", "192.0.2.1:80")));
        assert!(cuts.mean(&flow(17, "10.42.0.9:999", "10.43.0.1:80", "10.42.0.2:80")));
        assert!(!cuts.mean(&flow(6, "10.42.0.9:999", "10.43.0.1:80", "10.42.0.3:80")));
    }

    #[test]
    fn a_frontend_means_its_address_or_any() {
        let mut cuts = Cuts::default();
        let address = Some("10.43.0.1".parse().unwrap());
        cuts.add(Cut::Frontend { protocol: Protocol::Udp, address, port: 53 });
        cuts.add(Cut::Frontend { protocol: Protocol::Udp, address: None, port: 30053 });
        assert!(cuts.mean(&flow(17, "10.42.0.9:999", "10.43.0.1:53", "10.42.0.3:53")));
        assert!(!cuts.mean(&flow(17, "10.42.0.9:999", "10.43.0.2:53", "10.42.0.3:53")));
        assert!(cuts.mean(&flow(17, "10.42.0.9:999", "192.0.2.7:30053", "192.0.2.7:30053")));
    }
}
