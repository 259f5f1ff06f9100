//! The PROXY protocol (haproxy.org, "The PROXY protocol", versions 1 and 2): who the client is, told before its first byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyVersion;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1.
const LINE: usize = 107;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its length.
    pub length: usize,
    /// The client's address; `None` if the proxy speaks for itself (`LOCAL`, `UNKNOWN`).
    pub client: Option<SocketAddr>,
}

/// The bytes do not begin with a header of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no PROXY protocol header")]
pub struct NotThere;

/// Reads a header at the beginning of the input. `None`: more is needed.
///
/// # Errors
/// When it can become no header any more.
pub fn read(input: &[u8]) -> Result<Option<Told>, NotThere> {
    let same = input.len().min(SIGNATURE.len());
    if !input.is_empty() && input[..same] == SIGNATURE[..same] {
        return read_v2(input);
    }
    let same = input.len().min(6);
    if input[..same] != b"PROXY "[..same] {
        return Err(NotThere);
    }
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(LINE)]) else {
        return if input.len() >= LINE { Err(NotThere) } else { Ok(None) };
    };
    let line = input[6..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok()).ok_or(NotThere)?;
    let mut words = line.split(' ');
    let kind = words.next().ok_or(NotThere)?;
    let client = match kind {
        "UNKNOWN" => None,
        "TCP4" | "TCP6" => {
            let address: IpAddr = words.next().and_then(|w| w.parse().ok()).ok_or(NotThere)?;
            let _to: IpAddr = words.next().and_then(|w| w.parse().ok()).ok_or(NotThere)?;
            let port: u16 = words.next().and_then(|w| w.parse().ok()).ok_or(NotThere)?;
            let _to_port: u16 = words.next().and_then(|w| w.parse().ok()).ok_or(NotThere)?;
            if words.next().is_some() || address.is_ipv4() != (kind == "TCP4") {
                return Err(NotThere);
            }
            Some(SocketAddr::new(address, port))
        }
        _ => return Err(NotThere),
    };
    Ok(Some(Told { length: end + 1, client }))
}

fn read_v2(input: &[u8]) -> Result<Option<Told>, NotThere> {
    let Some(head) = input.get(12..16) else { return Ok(None) };
    let length = 16 + usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[0] >> 4 != 2 || head[0] & 15 > 1 || length > 4096 {
        return Err(NotThere);
    }
    let Some(body) = input.get(16..length) else { return Ok(None) };
    if head[0] & 15 == 0 {
        return Ok(Some(Told { length, client: None }));
    }
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let client = match head[1] >> 4 {
        1 if body.len() >= 12 => {
            Some(SocketAddr::new(Ipv4Addr::new(body[0], body[1], body[2], body[3]).into(), port(8)))
        }
        2 if body.len() >= 36 => {
            let octets: [u8; 16] = body[..16].try_into().map_err(|_| NotThere)?;
            Some(SocketAddr::new(Ipv6Addr::from(octets).into(), port(32)))
        }
        1 | 2 => return Err(NotThere),
        _ => None,
    };
    Ok(Some(Told { length, client }))
}

/// Writes a header.
pub fn write(version: ProxyVersion, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let v4 = match (client.ip(), local.ip()) {
        (IpAddr::V4(client), IpAddr::V4(local)) => Some((client, local)),
        _ => None,
    };
    match version {
        ProxyVersion::V1 => match v4 {
            Some((from, to)) => format!("PROXY TCP4 {from} {to} {} {}\r\n", client.port(), local.port()).into_bytes(),
            None => format!(
                "PROXY TCP6 {} {} {} {}\r\n",
                mapped(client.ip()),
                mapped(local.ip()),
                client.port(),
                local.port()
            )
            .into_bytes(),
        },
        ProxyVersion::V2 => {
            let mut out = SIGNATURE.to_vec();
            match v4 {
                Some((from, to)) => {
                    out.extend_from_slice(&[0x21, 0x11, 0, 12]);
                    out.extend_from_slice(&from.octets());
                    out.extend_from_slice(&to.octets());
                }
                None => {
                    out.extend_from_slice(&[0x21, 0x21, 0, 36]);
                    out.extend_from_slice(&mapped(client.ip()).octets());
                    out.extend_from_slice(&mapped(local.ip()).octets());
                }
            }
            out.extend_from_slice(&client.port().to_be_bytes());
            out.extend_from_slice(&local.port().to_be_bytes());
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_from_any_prefix_on() {
        for (client, local) in [("10.1.2.3:4567", "10.0.0.1:80"), ("[fd00::1]:4567", "[fd00::2]:443")] {
            let (client, local) = (client.parse().unwrap(), local.parse().unwrap());
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let mut bytes = write(version, client, local);
                let length = bytes.len();
                bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
                for end in 0..length {
                    assert_eq!(read(&bytes[..end]), Ok(None), "{version:?} {end}");
                }
                assert_eq!(read(&bytes), Ok(Some(Told { length, client: Some(client) })));
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
            b"PROXY UDP4 x\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        ] {
            assert_eq!(read(bytes), Err(NotThere), "{bytes:?}");
        }
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Ok(Some(Told { length: 15, client: None })));
    }
}
