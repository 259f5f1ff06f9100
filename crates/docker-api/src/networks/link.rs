//! What an endpoint's driver options ask of its link: a name, and settings of the kernel's.

use crate::containers::options::Endpoint;
use crate::error::{ApiError, Result};

const NAME: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

fn option<'a>(endpoint: &'a Endpoint, name: &str) -> Option<&'a str> {
    endpoint.driver_opts.as_ref()?.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// The name that the link is to have in the container.
pub(super) fn name(endpoint: &Endpoint) -> Result<Option<&str>> {
    match option(endpoint, NAME) {
        Some(name) if name == "lo" || !network::is_link_name(name) => {
            Err(ApiError::bad(format!("invalid network interface name: {name:?}")))
        }
        name => Ok(name),
    }
}

/// Settings, by their names below `/proc/sys/net`, of a link of that name.
pub(super) fn settings(endpoint: &Endpoint, link: &str) -> Result<Vec<(String, String)>> {
    let all = option(endpoint, SYSCTLS).unwrap_or_default().split(',').filter(|sysctl| !sysctl.is_empty());
    all.map(|sysctl| setting(sysctl, link).ok_or_else(|| unknown(sysctl))).collect()
}

/// `net.ipv4.conf.IFNAME.NAME=VALUE`; clients write the link's name in either case.
fn setting(sysctl: &str, link: &str) -> Option<(String, String)> {
    let (path, value) = sysctl.split_once('=')?;
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let parts: Vec<&str> = path.split('.').collect();
    match parts[..] {
        ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind, "IFNAME" | "ifname", name] if plain(kind) && plain(name) => {
            Some((format!("{family}/{kind}/{link}/{name}"), value.to_owned()))
        }
        _ => None,
    }
}

fn unknown(sysctl: &str) -> ApiError {
    ApiError::bad(format!(
        "invalid endpoint settings:\nunrecognised network interface sysctl '{sysctl}'; represent 'net.X.Y.ethN.Z=V' as \
         'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn endpoint(name: &str, value: &str) -> Endpoint {
        let options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Endpoint { driver_opts: Some(options), ..Endpoint::default() }
    }

    #[test]
    fn settings_are_of_the_link_and_of_nothing_else() {
        let of = |value: &str| settings(&endpoint(SYSCTLS, value), "eth3");
        let both = of("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2").unwrap();
        let told = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(both, [told("ipv4/conf/eth3/log_martians", "1"), told("ipv6/conf/eth3/accept_ra", "2")]);
        for wrong in
            ["net.ipv4.conf.all.x=1", "kernel.x.y.IFNAME.z=1", "net.ipv4.../x.IFNAME.y=1", "net.ipv4.a.IFNAME.b"]
        {
            assert!(of(wrong).unwrap_err().message.contains("unrecognised network interface sysctl"), "{wrong}");
        }
        assert!(settings(&Endpoint::default(), "eth0").unwrap().is_empty());
    }

    #[test]
    fn a_links_name_is_one_that_the_kernel_takes() {
        assert_eq!(name(&endpoint(NAME, "front")).unwrap(), Some("front"));
        assert_eq!(name(&Endpoint::default()).unwrap(), None);
        for wrong in ["a/b", "lo", "..", "much-too-long-a-name", "two words"] {
            assert!(name(&endpoint(NAME, wrong)).is_err(), "{wrong}");
        }
    }
}
