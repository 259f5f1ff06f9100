//! The addresses that an instance works with, checked before anything starts.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context, Result, bail};
use apiserver::Cidr;

use crate::cli::UpFlags;

/// Flags that can't work are refused with the flag's name.
pub fn check(flags: &UpFlags) -> Result<()> {
    let pods = parse("--pod-cidr", &flags.pod_cidr)?;
    let services = parse("--service-cidr", &flags.service_cidr)?;
    if pods.bits > 28 {
        bail!("--pod-cidr {}: too small, use /28 or larger", flags.pod_cidr);
    }
    if services.bits > 28 || services.bits < 12 {
        bail!("--service-cidr {}: use a size from /12 to /28", flags.service_cidr);
    }
    if pods.contains(services.nth(0)) || services.contains(pods.nth(0)) {
        bail!("--pod-cidr {} and --service-cidr {} overlap", flags.pod_cidr, flags.service_cidr);
    }
    if let Some(name) = &flags.node_name {
        let label = |l: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !l.is_empty() && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            bail!("--node-name {name:?}: use lower-case letters, digits, '-' and '.'");
        }
    }
    Ok(())
}

/// An IPv4 network from a flag.
pub fn parse(flag: &str, text: &str) -> Result<Cidr> {
    text.parse().map_err(|e| anyhow::anyhow!("{flag}: {e}"))
}

/// The address under which this node is reached: that of the link with the default route, else loopback.
pub fn node_ip(bind: Ipv4Addr) -> Ipv4Addr {
    if !bind.is_unspecified() {
        return bind;
    }
    // Connecting a UDP socket sends nothing; it only asks the routing table (RFC 5737 address).
    let ask = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match ask() {
        Ok(IpAddr::V4(address)) if !address.is_unspecified() => address,
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// The host's name as a node name.
pub fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("the host has no name: use --node-name")?;
    let name: String = name
        .to_string_lossy()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    Ok(name.trim_matches(['-', '.']).to_owned()).map(|n| if n.is_empty() { "node".to_owned() } else { n })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(pods: &str, services: &str, name: Option<&str>) -> UpFlags {
        UpFlags {
            kubelet_config: None,
            bind: Ipv4Addr::UNSPECIFIED,
            port: 6443,
            node_name: name.map(str::to_owned),
            pod_cidr: pods.into(),
            service_cidr: services.into(),
            registry_port: 0,
            kubelet_port: None,
            healthz_port: None,
            edge_http_port: 0,
            edge_https_port: 0,
            edge_host_network: false,
            no_patterns: false,
            seccomp_default: false,
            docker_socket: None,
            userns_remap: None,
            registries: Default::default(),
            detach: false,
            notify_fd: None,
        }
    }

    #[test]
    fn flags_that_cannot_work_are_refused_by_name() {
        assert!(check(&flags("10.42.0.0/16", "10.43.0.0/16", Some("node-1.lab"))).is_ok());
        for (pods, services, name, word) in [
            ("10.42.0.0", "10.43.0.0/16", None, "--pod-cidr"),
            ("10.42.0.0/16", "10.43.0.0/99", None, "--service-cidr"),
            ("10.42.0.0/16", "10.42.9.0/24", None, "overlap"),
            ("10.42.0.0/30", "10.43.0.0/16", None, "too small"),
            ("10.42.0.0/16", "10.43.0.0/16", Some("Node_1"), "--node-name"),
        ] {
            let error = check(&flags(pods, services, name)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
