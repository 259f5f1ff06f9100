//! Where a pool listens, and the servers behind it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hash_ring::{Member, twemproxy_name};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// Where a pool listens: `host:port`, or `/path` with permissions in octal digits after a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: Address,
    /// The permissions of a unix socket.
    pub permissions: Option<u32>,
}

/// A server of a pool: `host:port:weight [name]` or `/path:weight [name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is reached.
    pub address: Address,
    /// Its share among the others, 1 or more.
    pub weight: u32,
    /// Its name on the ring, if it has one of its own.
    pub name: Option<String>,
}

/// An address, a `listen` or a server that cannot be read; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {reason}")]
pub struct Malformed {
    text: String,
    reason: &'static str,
}

impl Malformed {
    fn new(text: &str, reason: &'static str) -> Malformed {
        Malformed { text: text.to_owned(), reason }
    }
}

impl Server {
    /// The name by which it stands on the ring.
    #[must_use]
    pub fn ring_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| match &self.address {
            Address::Tcp(host, port) => twemproxy_name(host, *port),
            Address::Unix(path) => twemproxy_name(&path.to_string_lossy(), 0),
        })
    }

    /// It as a member of a ring.
    #[must_use]
    pub fn member(&self) -> Member {
        Member::new(self.ring_name(), self.weight)
    }
}

impl FromStr for Address {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Address, Malformed> {
        if text.starts_with('/') {
            return Ok(Address::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(Malformed::new(text, "is not \"host:port\" nor a path"))?;
        if host.is_empty() {
            return Err(Malformed::new(text, "has no host before the port"));
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(Malformed::new(text, "has no port between 1 and 65535")),
            Ok(port) => Ok(Address::Tcp(host.trim_start_matches('[').trim_end_matches(']').to_owned(), port)),
        }
    }
}

impl FromStr for Listen {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Listen, Malformed> {
        if let (true, Some((path, permissions))) = (text.starts_with('/'), text.rsplit_once(' ')) {
            return match u32::from_str_radix(permissions, 8) {
                Ok(permissions @ ..=0o777) => {
                    Ok(Listen { address: Address::Unix(path.into()), permissions: Some(permissions) })
                }
                _ => Err(Malformed::new(text, "has an invalid file permission after the path")),
            };
        }
        Ok(Listen { address: text.parse()?, permissions: None })
    }
}

impl FromStr for Server {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Server, Malformed> {
        let (place, name) = match text.rsplit_once(' ') {
            Some((place, name)) => (place, Some(name)),
            None => (text, None),
        };
        if name.is_some_and(str::is_empty) {
            return Err(Malformed::new(text, "ends in a space where a name should follow"));
        }
        let (address, weight) = place
            .rsplit_once(':')
            .filter(|(address, _)| address.starts_with('/') || address.contains(':'))
            .ok_or(Malformed::new(text, "is not \"host:port:weight [name]\" or \"/path:weight [name]\""))?;
        let weight = match weight.parse() {
            Ok(0) => return Err(Malformed::new(text, "has a zero weight")),
            Ok(weight) => weight,
            Err(_) => return Err(Malformed::new(text, "has an invalid weight")),
        };
        Ok(Server { address: address.parse()?, weight, name: name.map(str::to_owned) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.permissions {
            Some(permissions) => write!(f, "{} {permissions:04o}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.weight)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$kind, D::Error> {
                super::lenient::parsed(deserializer)
            }
        }
    )*};
}

as_text!(Address, Listen, Server);
