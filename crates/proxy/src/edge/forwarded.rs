//! Who the client is, behind proxies, and how that is told to endpoints.

use std::net::IpAddr;

use super::connection::Conn;
use crate::http1::{Known, Request};
use crate::site::{Listener, Sink};

/// The client's address: that of the connection, or, where that is a trusted proxy's, the last one in its
/// `X-Forwarded-For` that is not a trusted proxy's.
pub(super) fn client(conn: &Conn, listener: &Listener, request: &Request) -> IpAddr {
    let mut client = conn.peer.ip().to_canonical();
    if !listener.trusts(client) {
        return client;
    }
    let lists: Vec<&[u8]> =
        request.fields.iter().filter(|f| f.known == Known::XForwardedFor).map(|f| f.value.of(&request.text)).collect();
    for word in lists.iter().rev().flat_map(|list| list.rsplit(|b| *b == b',')) {
        let address = std::str::from_utf8(word.trim_ascii()).ok().and_then(|word| {
            let word = word.strip_prefix('[').map_or(word, |rest| rest.split(']').next().unwrap_or(rest));
            word.parse::<IpAddr>().ok().or_else(|| word.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))
        });
        let Some(address) = address else { break };
        client = address.to_canonical();
        if !listener.trusts(client) {
            break;
        }
    }
    client
}

/// Writes the four forwarded headers.
pub(super) fn write(sink: &mut impl Sink, conn: &Conn, listener: &Listener, request: &Request, client: IpAddr) {
    let trusted = listener.trusts(conn.peer.ip());
    let mut joined = Vec::new();
    if trusted {
        for field in request.fields.iter().filter(|f| f.known == Known::XForwardedFor) {
            joined.extend_from_slice(field.value.of(&request.text));
            joined.extend_from_slice(b", ");
        }
    }
    if joined.is_empty() {
        sink.field(b"x-forwarded-for", conn.peer_text.as_bytes());
    } else {
        joined.extend_from_slice(conn.peer_text.as_bytes());
        sink.field(b"x-forwarded-for", &joined);
    }
    let own = if conn.tls { &b"https"[..] } else { b"http" };
    sink.field(b"x-forwarded-proto", request.known(Known::XForwardedProto).filter(|_| trusted).unwrap_or(own));
    let host = request.host.of(&request.text);
    sink.field(b"x-forwarded-host", request.known(Known::XForwardedHost).filter(|_| trusted).unwrap_or(host));
    if trusted {
        sink.field(b"x-real-ip", client.to_string().as_bytes());
    } else {
        sink.field(b"x-real-ip", conn.peer_text.as_bytes());
    }
}

/// Whether a field is one of those written here.
pub(super) fn is_one(known: Known) -> bool {
    matches!(known, Known::XForwardedFor | Known::XForwardedProto | Known::XForwardedHost | Known::XRealIp)
}
