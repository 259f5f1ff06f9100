//! Where this machine already sends what.

use std::fs;
use std::net::Ipv4Addr;

use crate::Cidr;

/// One route of the main table, without the default ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it leads to.
    pub range: Cidr,
    /// The name of the link that it leads over.
    pub link: String,
}

impl Route {
    /// Whether packets to some address of `range` take this route rather than the range's own.
    pub(crate) fn takes_from(&self, range: Cidr) -> bool {
        self.range.overlaps(&range) && self.range.prefix() >= range.prefix()
    }
}

/// The IPv4 routes of this network namespace (`/proc/net/route`); none if that can't be read.
pub fn routes() -> Vec<Route> {
    parse(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

fn parse(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok().map(u32::from_be);
        let (destination, mask) = (number(1)?, number(7)?);
        let range = match mask {
            0 => None,
            mask => Cidr::new(Ipv4Addr::from(destination).into(), mask.count_ones() as u8),
        };
        Some(Route { range: range?, link: (*fields.first()?).to_owned() })
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_kernel_is_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    br0\t0000780A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routes = parse(text);
        assert_eq!(routes, [Route { range: "10.120.0.0/16".parse().unwrap(), link: "br0".into() }]);
        for (range, taken) in
            [("10.120.0.0/16", true), ("10.0.0.0/8", true), ("10.120.9.0/24", false), ("10.121.0.0/16", false)]
        {
            assert_eq!(routes[0].takes_from(range.parse().unwrap()), taken, "{range}");
        }
    }
}
