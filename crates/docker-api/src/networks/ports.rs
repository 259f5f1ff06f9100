//! Published ports: which of the host's, kept from others by a socket that never listens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use network::HostPort;
use network::service::Protocol;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};

use crate::containers::Record;
use crate::containers::options::PortBinding;
use crate::error::{ApiError, Result};

/// Sockets bound to a container's ports: another program that wants one is told that it is in use.
#[derive(Default)]
pub(crate) struct HeldPorts(Vec<OwnedFd>);

/// Where ports are taken from when any will do, as the kernel's own range.
const EPHEMERAL: std::ops::Range<u16> = 32768..60999;

/// What a container publishes.
#[derive(Default)]
pub(crate) struct Published {
    pub host_ports: Vec<HostPort>,
    /// As `inspect` shows them: `80/tcp` → where.
    pub shown: BTreeMap<String, Vec<PortBinding>>,
    pub held: HeldPorts,
}

impl Published {
    /// Gives all ports back: the container has no way in.
    pub fn withdraw(&mut self) {
        *self = Self { shown: std::mem::take(&mut self.shown), ..Self::default() };
        self.shown.values_mut().for_each(Vec::clear);
    }
}

/// Splits `80/tcp`; the protocol may be missing.
pub(crate) fn parse(port: &str) -> Option<(u16, Protocol)> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    Some((number.parse().ok()?, protocol))
}

/// Finds and keeps the ports a container asks for.
pub(crate) fn publish(record: &Record) -> Result<Published> {
    let mut wanted = record.host.port_bindings.clone();
    if record.host.publish_all_ports {
        for port in record.options.exposed_ports.keys() {
            wanted.entry(port.clone()).or_insert_with(|| vec![PortBinding::default()]);
        }
    }
    let mut published = Published::default();
    for (port, bindings) in &wanted {
        let (container_port, protocol) =
            parse(port).ok_or_else(|| ApiError::bad(format!("invalid port specification: {port:?}")))?;
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| ApiError::bad(format!("invalid IP address: {text}")))?),
            };
            let address = host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let (host_port, held) = take(address, &binding.host_port, protocol).map_err(|error| {
                ApiError::internal(format!(
                    "failed to set up container networking: driver failed programming external connectivity on endpoint \
                     {} ({}): {error}",
                    record.name, record.id
                ))
            })?;
            published.held.0.extend(held);
            // The kernel's rules are IPv4's; an IPv6 binding is kept from others, and shown.
            if address.is_ipv4() {
                let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
                published.host_ports.push(HostPort { protocol, host_ip, host_port, container_port });
            }
            let shown = PortBinding { host_ip: address.to_string(), host_port: host_port.to_string() };
            published.shown.entry(format!("{container_port}/{}", name(protocol))).or_default().push(shown);
        }
    }
    // What is exposed but not published shows as such.
    for port in record.options.exposed_ports.keys() {
        if let Some((number, protocol)) = parse(port) {
            published.shown.entry(format!("{number}/{}", name(protocol))).or_default();
        }
    }
    Ok(published)
}

/// Keeps ports that are in force already. One that somebody took meanwhile is theirs and ours: the rules still lead here.
pub(crate) fn hold_again(ports: &BTreeMap<String, Vec<PortBinding>>) -> HeldPorts {
    let mut held = HeldPorts::default();
    for (port, bindings) in ports {
        let Some((_, protocol)) = parse(port) else { continue };
        for binding in bindings {
            if let (Ok(address), Ok(number)) = (binding.host_ip.parse(), binding.host_port.parse()) {
                held.0.extend(hold(address, number, protocol).ok().flatten());
            }
        }
    }
    held
}

/// As it is written in lower case.
pub(crate) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn take(address: IpAddr, wanted: &str, protocol: Protocol) -> Result<(u16, Option<OwnedFd>), String> {
    let invalid = || format!("invalid host port: {wanted:?}");
    let range = match wanted.split_once('-') {
        None if wanted.is_empty() || wanted == "0" => return any(address, protocol),
        None => {
            let port: u16 = wanted.parse().map_err(|_| invalid())?;
            port..=port
        }
        Some((first, last)) => first.parse().map_err(|_| invalid())?..=last.parse().map_err(|_| invalid())?,
    };
    let last = *range.end();
    for port in range {
        match hold(address, port, protocol) {
            Ok(held) => return Ok((port, held)),
            Err(nix::Error::EADDRINUSE) if port < last => {}
            Err(nix::Error::EADDRINUSE) => {
                return Err(format!("Bind for {address}:{port} failed: port is already allocated"));
            }
            Err(errno) => {
                return Err(format!(
                    "failed to bind host port for {address}:{port}/{}: {}",
                    name(protocol),
                    errno.desc().to_lowercase()
                ));
            }
        }
    }
    Err(invalid())
}

fn any(address: IpAddr, protocol: Protocol) -> Result<(u16, Option<OwnedFd>), String> {
    let start = rand::random_range(EPHEMERAL);
    for port in (start..EPHEMERAL.end).chain(EPHEMERAL.start..start) {
        if let Ok(held) = hold(address, port, protocol) {
            return Ok((port, held));
        }
    }
    Err("all ports are allocated".to_owned())
}

/// A socket bound to the port. Bound but not listening it costs nothing and takes no connection: the kernel's rules
/// translate the packets before it would see them.
fn hold(address: IpAddr, port: u16, protocol: Protocol) -> nix::Result<Option<OwnedFd>> {
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
        Protocol::Sctp => return Ok(None),
    };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let held = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        nix::sys::socket::setsockopt(&held, nix::sys::socket::sockopt::Ipv6V6Only, &true)?;
    }
    bind(held.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))?;
    Ok(Some(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_taken() {
        let local = Ipv4Addr::LOCALHOST.into();
        let (port, held) = take(local, "", Protocol::Tcp).unwrap();
        assert!(take(local, &port.to_string(), Protocol::Tcp).unwrap_err().ends_with("port is already allocated"));
        assert!(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
        drop(held);
        assert_eq!(take(local, &port.to_string(), Protocol::Tcp).unwrap().0, port);
    }

    #[test]
    fn ports_name_their_protocol() {
        assert_eq!(parse("53/udp"), Some((53, Protocol::Udp)));
        assert_eq!(parse("80"), Some((80, Protocol::Tcp)));
        assert_eq!(parse("http"), None);
    }
}
