//! An address range in CIDR notation (RFC 4632), as `--pod-cidr` and `--service-cidr` are written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address range such as `10.42.0.0/16`. The host bits are cleared on construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of `prefix` leading bits around `address`; `None` if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => IpAddr::V4((u32::from(v4) & mask4(prefix)).into()),
            IpAddr::V6(v6) if prefix <= 128 => IpAddr::V6((u128::from(v6) & mask6(prefix)).into()),
            _ => return None,
        };
        Some(Cidr { address, prefix })
    }

    /// The first address of the range (the network address).
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits that all addresses of the range share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `ip` lies in the range; addresses of the other family never do.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Cidr::new(ip, self.prefix).is_some_and(|range| range == *self)
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The `index`-th address of an IPv4 range (0 is the network address); `None` outside it or for IPv6.
    pub fn nth4(&self, index: u32) -> Option<Ipv4Addr> {
        let IpAddr::V4(base) = self.address else { return None };
        if u64::from(index) >= self.size4() {
            return None;
        }
        Some(Ipv4Addr::from(u32::from(base) + index))
    }

    /// The `index`-th address of an IPv6 range; `None` outside it or for IPv4.
    pub fn nth6(&self, index: u128) -> Option<Ipv6Addr> {
        let IpAddr::V6(base) = self.address else { return None };
        let address = Ipv6Addr::from(u128::from(base).checked_add(index)?);
        self.contains(address.into()).then_some(address)
    }

    /// The places of an IPv4 range that hosts may have: not the first, which names the network, nor the last, which is for
    /// all, but in a range too small for either (RFC 3021). Empty for IPv6.
    pub fn hosts4(&self) -> std::ops::Range<u32> {
        match self.size4() {
            size @ 0..=2 => 0..size as u32,
            size => 1..(size - 1) as u32,
        }
    }

    /// The first address of an IPv4 range that a host may have; `None` for IPv6.
    pub fn first_host4(&self) -> Option<Ipv4Addr> {
        self.nth4(self.hosts4().start)
    }

    /// The number of addresses of an IPv4 range; 0 for IPv6.
    pub fn size4(&self) -> u64 {
        match self.address {
            IpAddr::V4(_) => 1u64 << (32 - self.prefix),
            IpAddr::V6(_) => 0,
        }
    }
}

fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The text is not an address range in CIDR notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range such as 10.42.0.0/16")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Cidr::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_clears_its_host_bits_and_knows_its_members() {
        let range: Cidr = "10.42.3.9/16".parse().unwrap();
        assert_eq!(range.to_string(), "10.42.0.0/16");
        assert!(range.contains("10.42.255.255".parse().unwrap()));
        assert!(!range.contains("10.43.0.0".parse().unwrap()));
        assert!(!range.contains("fd00::1".parse().unwrap()));
        assert_eq!(range.nth4(1), Some(Ipv4Addr::new(10, 42, 0, 1)));
        assert_eq!(range.nth4(65536), None);
    }

    #[test]
    fn the_widest_and_the_narrowest_ranges_work() {
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()));
        assert_eq!(all.size4(), 1 << 32);
        let one: Cidr = "10.0.0.7/32".parse().unwrap();
        assert!(one.contains("10.0.0.7".parse().unwrap()));
        assert!(!one.contains("10.0.0.6".parse().unwrap()));
        assert!("::/0".parse::<Cidr>().unwrap().contains("fd00::1".parse().unwrap()));
    }

    #[test]
    fn ranges_of_two_addresses_and_fewer_are_all_hosts() {
        let hosts = |text: &str| text.parse::<Cidr>().unwrap().hosts4();
        assert_eq!([hosts("10.0.0.0/24"), hosts("10.0.0.0/30")], [1..255, 1..3]);
        assert_eq!([hosts("10.0.0.0/31"), hosts("10.0.0.7/32")], [0..2, 0..1]);
        assert_eq!([hosts("0.0.0.0/0"), hosts("fd00::/64")], [1..u32::MAX, 0..0]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_symmetric() {
        let wide: Cidr = "10.0.0.0/8".parse().unwrap();
        let narrow: Cidr = "10.43.0.0/16".parse().unwrap();
        let other: Cidr = "10.42.0.0/16".parse().unwrap();
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!other.overlaps(&narrow) && !narrow.overlaps(&other));
    }
}
