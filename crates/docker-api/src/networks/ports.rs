//! Published ports: which of the host's, kept from others by sockets. Those of IPv4 never listen.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use network::HostPort;
use network::service::Protocol;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};

use tokio::task::JoinSet;

use super::forward::{self, Door};
use crate::containers::Record;
use crate::containers::options::PortBinding;
use crate::error::{ApiError, Result};

/// Sockets bound to a container's ports: another program that wants one is told that it is in use.
#[derive(Default)]
pub(crate) struct HeldPorts {
    kept: Vec<OwnedFd>,
    /// Of IPv6, until they lead to the container.
    doors: Vec<Door>,
    /// What is carried through them.
    #[allow(dead_code, reason = "held for its drop")]
    carried: JoinSet<()>,
}

impl HeldPorts {
    /// Leads those of IPv6 to the container. Needs a runtime.
    pub fn lead_to(&mut self, container: IpAddr) {
        if !self.doors.is_empty() {
            self.carried = forward::open(std::mem::take(&mut self.doors), container);
        }
    }
}

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
    /// Gives those of IPv4 back: the container has no address of it to which the kernel could lead them.
    pub fn keep_ipv6(&mut self) {
        self.host_ports.clear();
        self.held.kept.clear();
        let is_six = |binding: &PortBinding| binding.host_ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        self.shown.values_mut().for_each(|bindings| bindings.retain(is_six));
    }

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
        let (container_port, protocol) = parse(port)
            .filter(|(port, _)| *port > 0)
            .ok_or_else(|| ApiError::bad(format!("invalid port specification: {port:?}")))?;
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| ApiError::bad(format!("invalid IP address: {text}")))?),
            };
            let address = host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let taken = take(address, host_ip.is_none(), &binding.host_port, protocol).map_err(|error| {
                ApiError::internal(format!(
                    "failed to set up container networking: driver failed programming external connectivity on endpoint \
                     {} ({}): {error}",
                    record.name, record.id
                ))
            })?;
            let Taken { port: host_port, kept, other } = taken;
            let shown = published.shown.entry(format!("{container_port}/{}", name(protocol))).or_default();
            let binding =
                |address: IpAddr| PortBinding { host_ip: address.to_string(), host_port: host_port.to_string() };
            shown.push(binding(address));
            shown.extend(other.as_ref().map(|_| binding(Ipv6Addr::UNSPECIFIED.into())));
            let mut door = |socket| published.held.doors.push(Door { socket, protocol, container_port });
            other.into_iter().for_each(&mut door);
            // The kernel's rules are IPv4's.
            if address.is_ipv6() {
                kept.into_iter().for_each(&mut door);
            } else {
                published.held.kept.extend(kept);
                let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
                published.host_ports.push(HostPort { protocol, host_ip, host_port, container_port });
            }
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
        let Some((container_port, protocol)) = parse(port) else { continue };
        for binding in bindings {
            let (Ok(address), Ok(number)) = (binding.host_ip.parse::<IpAddr>(), binding.host_port.parse()) else {
                continue;
            };
            let kept = hold(address, number, protocol).ok().flatten();
            if address.is_ipv6() {
                held.doors.extend(kept.map(|socket| Door { socket, protocol, container_port }));
            } else {
                held.kept.extend(kept);
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

/// A port that is kept.
struct Taken {
    port: u16,
    kept: Option<OwnedFd>,
    /// The same of IPv6, for a port of all addresses.
    other: Option<OwnedFd>,
}

/// Keeps a port of an address, and with `all` that of all addresses of IPv6, too, where the machine has those.
fn keep(address: IpAddr, all: bool, port: u16, protocol: Protocol) -> nix::Result<Taken> {
    let kept = hold(address, port, protocol)?;
    let other = match hold(Ipv6Addr::UNSPECIFIED.into(), port, protocol) {
        _ if !all => None,
        Err(nix::Error::EADDRINUSE) => return Err(nix::Error::EADDRINUSE),
        other => other.ok().flatten(),
    };
    Ok(Taken { port, kept, other })
}

fn take(address: IpAddr, all: bool, wanted: &str, protocol: Protocol) -> Result<Taken, String> {
    let invalid = || format!("invalid host port: {wanted:?}");
    let range = match wanted.split_once('-') {
        None if wanted.is_empty() || wanted == "0" => return any(address, all, protocol),
        None => {
            let port: u16 = wanted.parse().map_err(|_| invalid())?;
            port..=port
        }
        Some((first, last)) => first.parse().map_err(|_| invalid())?..=last.parse().map_err(|_| invalid())?,
    };
    let last = *range.end();
    for port in range {
        match keep(address, all, port, protocol) {
            Ok(taken) => return Ok(taken),
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

fn any(address: IpAddr, all: bool, protocol: Protocol) -> Result<Taken, String> {
    let start = rand::random_range(EPHEMERAL);
    for port in (start..EPHEMERAL.end).chain(EPHEMERAL.start..start) {
        if let Ok(taken) = keep(address, all, port, protocol) {
            return Ok(taken);
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
        use nix::sys::socket::{setsockopt, sockopt};
        setsockopt(&held, sockopt::Ipv6V6Only, &true)?;
        // Connections that it took may not be forgotten yet when the next one wants the port.
        setsockopt(&held, sockopt::ReuseAddr, &(kind == SockType::Stream))?;
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
        let Taken { port, kept, .. } = take(local, false, "", Protocol::Tcp).unwrap();
        let again = || take(local, false, &port.to_string(), Protocol::Tcp);
        assert!(again().err().unwrap().ends_with("port is already allocated"));
        assert!(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
        drop(kept);
        assert_eq!(again().unwrap().port, port);
    }

    #[test]
    fn a_port_of_all_addresses_is_kept_in_both_kinds() {
        let any = Ipv4Addr::UNSPECIFIED.into();
        let taken = take(any, true, "", Protocol::Tcp).unwrap();
        assert_eq!(taken.other.is_some(), std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok());
        assert!(std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, taken.port)).is_err());
    }

    #[test]
    fn ports_name_their_protocol() {
        assert_eq!(parse("53/udp"), Some((53, Protocol::Udp)));
        assert_eq!(parse("80"), Some((80, Protocol::Tcp)));
        assert_eq!(parse("http"), None);
    }
}
