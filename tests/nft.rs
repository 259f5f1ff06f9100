//! What nftables holds, asked of the kernel without the library under test.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

// linux/netfilter/nf_tables.h
const GET_RULE: u8 = 7;
const GET_SET: u8 = 10;
const GET_ELEMENTS: u8 = 13;
const TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const RULE_CHAIN: u16 = 2;
const ELEMENTS: u16 = 3;

/// How many rules and how many elements of maps and sets a table has, without those that choose among so many endpoints:
/// these stay, up to a limit, for whoever has so many endpoints next.
pub fn size_of(table: &str) -> (usize, usize) {
    let is_of_table = |message: &&Vec<u8>| text(message, TABLE) == table;
    let stays = |rule: &&Vec<u8>| !text(rule, RULE_CHAIN).starts_with("pick-");
    let rules = dump(GET_RULE, &[]).iter().filter(is_of_table).filter(stays).count();
    let sets: Vec<String> = dump(GET_SET, &[]).iter().filter(is_of_table).map(|set| text(set, SET_NAME)).collect();
    let sets = sets.into_iter().filter(|set| set != "variants");
    let elements = sets.map(|set| {
        let parts = dump(GET_ELEMENTS, &[(TABLE, table), (SET_NAME, &set)]);
        parts.iter().filter_map(|part| attribute(part, ELEMENTS)).map(|list| attributes(list).len()).sum::<usize>()
    });
    (rules, elements.sum())
}

/// The attributes of all messages that the kernel answers with.
fn dump(kind: u8, about: &[(u16, &str)]) -> Vec<Vec<u8>> {
    let family = AddressFamily::Netlink;
    let socket = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkNetFilter).unwrap();
    // struct nfgenmsg: any family.
    let mut body = vec![0; 4];
    for (kind, text) in about {
        let length = 4 + text.len() + 1;
        body.extend((length as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(text.as_bytes());
        body.resize(body.len() + 1 + (4 - length % 4) % 4, 0);
    }
    if !about.is_empty() {
        const IPV4: u8 = 2;
        body[0] = IPV4;
    }
    const SUBSYSTEM: u16 = 10;
    const REQUEST_DUMP: u16 = 0x301;
    let mut request = (16 + body.len() as u32).to_ne_bytes().to_vec();
    request.extend((SUBSYSTEM << 8 | u16::from(kind)).to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).unwrap();
    answers(&socket)
}

fn answers(socket: &OwnedFd) -> Vec<Vec<u8>> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    let mut out = Vec::new();
    loop {
        let mut buffer = vec![0; 1 << 16];
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        let mut rest = &buffer[..length];
        while rest.len() >= 16 {
            let size = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            match u16::from_ne_bytes(rest[4..6].try_into().unwrap()) {
                DONE | ERROR => return out,
                // Header and struct nfgenmsg.
                _ => out.push(rest[20..size].to_vec()),
            }
            rest = &rest[size.next_multiple_of(4).min(rest.len())..];
        }
    }
}

fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut out = Vec::new();
    while rest.len() >= 4 {
        let length = u16::from_ne_bytes([rest[0], rest[1]]) as usize;
        // Without the flags for nested ones and byte order.
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & 0x3fff;
        out.push((kind, &rest[4..length.clamp(4, rest.len())]));
        rest = &rest[length.max(4).next_multiple_of(4).min(rest.len())..];
    }
    out
}

fn attribute(message: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(message).into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn text(message: &[u8], kind: u16) -> String {
    let bytes = attribute(message, kind).unwrap_or_default();
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}
