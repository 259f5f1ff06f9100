//! Links, addresses, routes and neighbours over rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    Parseable,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Family, NetlinkSocket, next_sequence};
use crate::Cidr;

/// Links of the namespace it was opened in.
pub(crate) struct Links {
    socket: NetlinkSocket,
}

/// The pod's half of a veth pair, made inside the pod's namespace.
pub(crate) struct PodSide<'a> {
    pub netns: RawFd,
    pub mac: [u8; 6],
    pub interface: &'a str,
    /// The interface's index; 0 lets the kernel choose.
    pub index: u32,
    /// The bridge passes nothing on between its port and others that are isolated, too.
    pub isolated: bool,
}

/// The pod-side interface's index: the first after loopback in a fresh namespace.
pub(crate) const POD_INDEX: u32 = 2;
const LOOPBACK_INDEX: u32 = 1;
/// rtnetlink(7) keeps 4 and up free for programs; routes made here carry it.
const ROUTE_PROTOCOL: u8 = 72;

impl Links {
    pub(crate) fn open() -> io::Result<Links> {
        Ok(Links { socket: NetlinkSocket::open(Family::Route)? })
    }

    /// The interface's index, `None` if there is no such interface.
    pub(crate) fn index(&mut self, name: &str) -> io::Result<Option<u32>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let mut index = None;
        let request = encode(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST);
        match self.socket.dump(&request, |_, payload| {
            index = LinkMessage::parse(payload).ok().map(|link| link.header.index);
        }) {
            Ok(()) => Ok(index),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of all links whose bridge is `bridge`.
    pub(crate) fn ports(&mut self, bridge: u32) -> io::Result<Vec<String>> {
        let request = encode(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_REQUEST | NLM_F_DUMP);
        let mut names = Vec::new();
        self.socket.dump(&request, |_, payload| {
            let Ok(link) = LinkMessage::parse(payload) else { return };
            if link.attributes.contains(&LinkAttribute::Controller(bridge)) {
                names.extend(link.attributes.iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name.clone()),
                    _ => None,
                }));
            }
        })?;
        Ok(names)
    }

    /// Creates a bridge that neither learns topology nor speaks, with a fixed address (or it would take a port's).
    pub(crate) fn create_bridge(&mut self, name: &str, mac: [u8; 6]) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
            ]),
        ];
        self.ask(vec![(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)])
    }

    pub(crate) fn up(&mut self, index: u32) -> io::Result<()> {
        self.ask(vec![(RouteNetlinkMessage::SetLink(link_up(index)), 0)])
    }

    /// Removes an interface; fine if it is gone.
    pub(crate) fn delete(&mut self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        gone_is_fine(self.ask(vec![(RouteNetlinkMessage::DelLink(message), 0)]), libc::ENODEV)
    }

    /// Creates a veth pair whose peer is born inside the pod's namespace and whose near end is an active port of the
    /// bridge. (Creating it here and moving it takes an RCU grace period, 15 times as long.)
    pub(crate) fn create_veth(&mut self, name: &str, bridge: u32, mtu: u32, pod: &PodSide<'_>) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.header.index = pod.index;
        peer.attributes = vec![
            LinkAttribute::IfName(pod.interface.to_owned()),
            LinkAttribute::Address(pod.mac.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsFd(pod.netns),
        ];
        let mut pair = LinkMessage::default();
        pair.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        // Where br_netfilter is on, the kernel bridges translated packets straight to their port, back to the sender's
        // own for a pod that calls itself through its Service: hence hairpin. The bridge is told each pod's address (see
        // `introduce`), so it neither learns, which pods could abuse, nor floods. IPv6 stays silent on the node's end.
        let mut port = link_up(0);
        let mut settings = vec![
            InfoBridgePort::HairpinMode(true),
            InfoBridgePort::Learning(false),
            InfoBridgePort::UnicastFlood(false),
        ];
        if pod.isolated {
            settings.push(InfoBridgePort::Isolated(true));
        }
        port.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(settings)),
            ]),
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                In6AddrGenMode::None,
            )])]),
        ];
        self.ask(vec![
            (RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL),
            (RouteNetlinkMessage::NewLink(port), 0),
        ])
    }

    /// Inside a pod's namespace: loopback and `eth0` up, the pod's address alone on its link, everything (or with `reach`
    /// that range alone) by the gateway, or over the link where there is none.
    pub(crate) fn configure_pod(
        &mut self,
        ip: Ipv4Addr,
        gateway: Option<Ipv4Addr>,
        reach: Option<Cidr>,
    ) -> io::Result<()> {
        let mut route = route_by(POD_INDEX, gateway);
        if let Some((range, IpAddr::V4(address))) = reach.map(|range| (range, range.address())) {
            route.header.destination_prefix_length = range.prefix();
            route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(address)));
        }
        self.ask(vec![
            (RouteNetlinkMessage::SetLink(link_up(LOOPBACK_INDEX)), 0),
            (RouteNetlinkMessage::NewAddress(address_message(POD_INDEX, ip, 32)), NLM_F_CREATE | NLM_F_REPLACE),
            (RouteNetlinkMessage::SetLink(link_up(POD_INDEX)), 0),
            (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE),
        ])
    }

    /// Inside a pod's namespace: one more link up, with its address and the way to its network (or to everything).
    pub(crate) fn configure_extra(
        &mut self,
        interface: &str,
        ip: Ipv4Addr,
        range: Cidr,
        gateway: Option<Ipv4Addr>,
        default_route: bool,
    ) -> io::Result<()> {
        let index = self.index(interface)?.ok_or(io::ErrorKind::NotFound)?;
        let mut to_range = route_by(index, gateway);
        to_range.header.destination_prefix_length = range.prefix();
        if let IpAddr::V4(address) = range.address() {
            to_range.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(address)));
        }
        let mut messages = vec![
            (RouteNetlinkMessage::NewAddress(address_message(index, ip, 32)), NLM_F_CREATE | NLM_F_REPLACE),
            (RouteNetlinkMessage::SetLink(link_up(index)), 0),
            (RouteNetlinkMessage::NewRoute(to_range), NLM_F_CREATE | NLM_F_REPLACE),
        ];
        if default_route {
            messages.push((RouteNetlinkMessage::NewRoute(route_by(index, gateway)), NLM_F_CREATE | NLM_F_REPLACE));
        }
        self.ask(messages)
    }

    /// Inside a pod's namespace: everything by this gateway, over the link with that hardware address.
    pub(crate) fn lead_out(&mut self, mac: [u8; 6], gateway: Ipv4Addr) -> io::Result<()> {
        let (index, _) = self.with_mac(mac)?.ok_or(io::ErrorKind::NotFound)?;
        let route = route_by(index, Some(gateway));
        self.ask(vec![(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)])
    }

    pub(crate) fn add_address(&mut self, index: u32, ip: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = address_message(index, ip, prefix);
        self.ask(vec![(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)])
    }

    /// Takes an address of a single host off a link.
    pub(crate) fn remove_address(&mut self, index: u32, ip: Ipv4Addr) -> io::Result<()> {
        self.ask(vec![(RouteNetlinkMessage::DelAddress(address_message(index, ip, 32)), 0)])
    }

    /// Leads one address to a link, which need not have one of its own.
    pub(crate) fn reach(&mut self, index: u32, ip: Ipv4Addr) -> io::Result<()> {
        let mut message = route_message(index, RouteScope::Link);
        message.header.destination_prefix_length = 32;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(ip)));
        self.ask(vec![(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)])
    }

    /// Adds an address of IPv6, in use at once: nobody else can have it.
    pub(crate) fn add_ipv6(&mut self, index: u32, ip: Ipv6Addr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.prefix_len = prefix;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(ip.into()), AddressAttribute::Address(ip.into())];
        self.ask(vec![(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)])
    }

    /// Everything of IPv6 by this gateway, over that link.
    pub(crate) fn lead_out_ipv6(&mut self, index: u32, gateway: Ipv6Addr) -> io::Result<()> {
        let mut route = route_message(index, RouteScope::Universe);
        route.header.address_family = AddressFamily::Inet6;
        route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet6(gateway)));
        self.ask(vec![(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)])
    }

    /// The index and name of the link with that hardware address.
    pub(crate) fn with_mac(&mut self, mac: [u8; 6]) -> io::Result<Option<(u32, String)>> {
        let request = encode(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_REQUEST | NLM_F_DUMP);
        let mut found = None;
        self.socket.dump(&request, |_, payload| {
            let Ok(link) = LinkMessage::parse(payload) else { return };
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            if let (true, Some(name)) = (link.attributes.contains(&LinkAttribute::Address(mac.to_vec())), name) {
                found = Some((link.header.index, name));
            }
        })?;
        Ok(found)
    }

    /// Leads `range` to the link at `index`, with `source` as the node's own address.
    pub(crate) fn add_route(&mut self, index: u32, range: Cidr, source: Ipv4Addr) -> io::Result<()> {
        let mut message = route_message(index, RouteScope::Link);
        message.header.destination_prefix_length = range.prefix();
        if let IpAddr::V4(address) = range.address() {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(address)));
        }
        message.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(source)));
        self.ask(vec![(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)])
    }

    /// Tells the node a pod's hardware address and the bridge the port behind which it is, so that no packet to the pod
    /// waits for, or floods the bridge with, a question.
    pub(crate) fn introduce(&mut self, bridge: u32, port: u32, ip: Ipv4Addr, mac: [u8; 6]) -> io::Result<()> {
        let mut neighbour = neighbour_message(bridge, ip);
        neighbour.header.state = NeighbourState::Permanent;
        neighbour.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let mut forwarding = NeighbourMessage::default();
        forwarding.header.family = AddressFamily::Bridge;
        forwarding.header.ifindex = port;
        forwarding.header.state = NeighbourState::Noarp;
        forwarding.header.flags = NeighbourFlags::Controller;
        forwarding.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        self.ask(vec![
            (RouteNetlinkMessage::NewNeighbour(neighbour), NLM_F_CREATE | NLM_F_REPLACE),
            (RouteNetlinkMessage::NewNeighbour(forwarding), NLM_F_CREATE | NLM_F_REPLACE),
        ])
    }

    /// Forgets a pod's hardware address; fine if unknown.
    pub(crate) fn delete_neighbour(&mut self, index: u32, ip: Ipv4Addr) -> io::Result<()> {
        let message = neighbour_message(index, ip);
        gone_is_fine(self.ask(vec![(RouteNetlinkMessage::DelNeighbour(message), 0)]), libc::ENOENT)
    }

    /// The smallest MTU of the links that own `ip`, or the usual 1500.
    pub(crate) fn mtu_of(&mut self, ip: Ipv4Addr) -> io::Result<u32> {
        let mut owners = Vec::new();
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.socket.dump(&encode(addresses, NLM_F_REQUEST | NLM_F_DUMP), |_, payload| {
            let Ok(address) = AddressMessage::parse(payload) else { return };
            if address.attributes.contains(&AddressAttribute::Local(IpAddr::V4(ip))) {
                owners.push(address.header.index);
            }
        })?;
        let mut smallest = 1500;
        let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.socket.dump(&encode(links, NLM_F_REQUEST | NLM_F_DUMP), |_, payload| {
            let Ok(link) = LinkMessage::parse(payload) else { return };
            let mtu = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
            if owners.contains(&link.header.index) {
                smallest = smallest.min(mtu.unwrap_or(smallest));
            }
        })?;
        Ok(smallest.max(576))
    }

    /// Sends the messages in one call; each must be accepted, the first refusal is returned.
    fn ask(&mut self, messages: Vec<(RouteNetlinkMessage, u16)>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut sequences = Vec::new();
        for (message, flags) in messages {
            let encoded = encode(message, NLM_F_REQUEST | NLM_F_ACK | flags);
            sequences.push(u32::from_ne_bytes(encoded[8..12].try_into().expect("a message has a header")));
            bytes.extend(encoded);
        }
        self.socket.send(&bytes)?;
        let mut outcome = Ok(());
        for sequence in sequences {
            let answer = self.socket.acknowledged(sequence, sequence)?;
            outcome = outcome.and(answer.map_err(|(_, error)| error));
        }
        outcome
    }
}

fn encode(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::InnerMessage(message));
    message.header.flags = flags;
    message.header.sequence_number = next_sequence();
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link_up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn address_message(index: u32, ip: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip.into()), AddressAttribute::Address(ip.into())];
    message
}

fn route_message(index: u32, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = libc::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.scope = scope;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Oif(index)];
    message
}

/// A route by a gateway that need not be in any range of the link, or over the link itself.
fn route_by(index: u32, gateway: Option<Ipv4Addr>) -> RouteMessage {
    let Some(gateway) = gateway else { return route_message(index, RouteScope::Link) };
    let mut route = route_message(index, RouteScope::Universe);
    route.header.flags = RouteFlags::Onlink;
    route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    route
}

fn neighbour_message(index: u32, ip: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(ip))];
    message
}

fn gone_is_fine(outcome: io::Result<()>, gone: i32) -> io::Result<()> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(gone) => Ok(()),
        other => other,
    }
}
