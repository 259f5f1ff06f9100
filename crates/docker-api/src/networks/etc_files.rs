//! A container's own `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::containers::Record;
use crate::daemon::Daemon;
use crate::error::Result;

use super::Attached;

/// Writes the three files of a container that is attached.
pub(crate) fn write(daemon: &Daemon, record: &Record, directory: &Path, attached: &Attached) -> Result<()> {
    let Attached { addresses, links, resolver, .. } = attached;
    let mode = record.host.network_mode.as_str();
    if let Some(other) = mode.strip_prefix("container:") {
        // Who shares a network shares its names too.
        let other = daemon.containers.find(other)?;
        for file in ["hostname", "hosts", "resolv.conf"] {
            fs::copy(other.directory.join(file), directory.join(file))?;
        }
        return Ok(());
    }
    let hostname = hostname(record);
    fs::write(directory.join("hostname"), format!("{hostname}\n"))?;
    let hosts = directory.join("hosts");
    if mode == "host" && record.host.extra_hosts.as_ref().is_none_or(Vec::is_empty) {
        fs::write(&hosts, fs::read_to_string("/etc/hosts").unwrap_or_default())?;
    } else {
        fs::write(&hosts, hosts_text(daemon, record, &hostname, addresses, links))?;
    }
    fs::write(directory.join("resolv.conf"), resolv_conf(record, *resolver))?;
    Ok(())
}

/// What the container calls itself.
pub(crate) fn hostname(record: &Record) -> String {
    match record.options.hostname.as_str() {
        "" if record.host.network_mode == "host" || record.host.uts_mode == "host" => crate::system::hostname(),
        "" => record.short_id().to_owned(),
        given => given.to_owned(),
    }
}

fn hosts_text(
    daemon: &Daemon,
    record: &Record,
    hostname: &str,
    addresses: &[String],
    links: &[(String, String)],
) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for extra in record.host.extra_hosts.iter().flatten() {
        let Some((name, address)) = extra.split_once(':').or_else(|| extra.split_once('=')) else { continue };
        let address = match address {
            "host-gateway" => {
                daemon.networks.by_name("bridge").and_then(|bridge| bridge.gateway()).map(|ip| ip.to_string())
            }
            address => Some(address.trim_matches(['[', ']']).to_owned()),
        };
        if let Some(address) = address {
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    for (address, names) in links {
        let _ = writeln!(text, "{address}\t{names}");
    }
    let full = match record.options.domainname.as_str() {
        "" => match hostname.split_once('.') {
            Some((short, _)) => format!("{hostname} {short}"),
            None => hostname.to_owned(),
        },
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    for address in addresses {
        let _ = writeln!(text, "{address}\t{full}");
    }
    text
}

/// The host's name servers for the default network, `resolver` for user-defined ones; `--dns` and its like replace what
/// they name.
pub(super) fn resolv_conf(record: &Record, resolver: Option<Ipv4Addr>) -> String {
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (mut servers, mut search, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for line in host.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            Some("options") => options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    let private = record.host.network_mode != "host";
    if private {
        // The host's loopback is not the container's.
        servers.retain(|server| server.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback()));
    }
    match resolver {
        Some(resolver) => servers = vec![resolver.to_string()],
        None if !record.host.dns.is_empty() => servers.clone_from(&record.host.dns),
        None if servers.is_empty() && private => servers = vec!["8.8.8.8".into(), "8.8.4.4".into()],
        None => {}
    }
    if !record.host.dns_search.is_empty() {
        search = record.host.dns_search.iter().filter(|domain| *domain != ".").cloned().collect();
    }
    if !record.host.dns_options.is_empty() {
        options.clone_from(&record.host.dns_options);
    }
    // Names without a dot are those of containers: they are asked for as they are.
    if resolver.is_some() && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".into());
    }
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}
