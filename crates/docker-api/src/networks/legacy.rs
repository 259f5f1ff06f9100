//! `--link` on the default network, where names are not served: lines for `/etc/hosts`, and variables.

use crate::containers::Record;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};

/// A container that another knows by an alias.
pub(super) struct Link {
    pub address: String,
    alias: String,
    target: Record,
}

/// The links of a container; all their targets must run.
pub(super) fn links(daemon: &Daemon, record: &Record) -> Result<Vec<Link>> {
    if record.host.network_mode != "bridge" {
        return Ok(Vec::new());
    }
    let link = |text: &String| {
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let missing =
            |error: ApiError| ApiError::bad(format!("could not get container for {target}: {}", error.message));
        let target = daemon.containers.find(target).map_err(missing)?.snapshot();
        if !target.state.status.is_live() {
            return Err(ApiError::conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                target.name, record.name
            )));
        }
        let endpoint = target.networks.get("bridge");
        let address = endpoint.map(|endpoint| endpoint.ip_address.clone()).unwrap_or_default();
        Ok(Link { address, alias: alias.to_owned(), target })
    };
    record.host.links.iter().flatten().map(link).collect()
}

/// Tells those that run and are linked to a container which address it has now.
pub(crate) fn readdress(daemon: &Daemon, target: &Record) {
    let address = target.networks.get("bridge").map(|endpoint| endpoint.ip_address.as_str()).unwrap_or_default();
    if address.is_empty() {
        return;
    }
    for other in daemon.containers.all() {
        let record = other.snapshot();
        if record.host.network_mode != "bridge" || !record.state.status.is_live() || record.id == target.id {
            continue;
        }
        let aliases = record.host.links.iter().flatten().filter_map(|link| {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            daemon.containers.find(name).is_ok_and(|found| found.id == target.id).then_some(alias)
        });
        let aliases: Vec<&str> = aliases.collect();
        let path = other.directory.join("hosts");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let new = with_address(&text, &aliases, address);
        // The very file is what the container sees: it is written over, not replaced.
        if new != text
            && let Err(error) = std::fs::write(&path, new)
        {
            tracing::warn!(container = other.id, %error, "a linked container's new address is not known to it");
        }
    }
}

/// A hosts file in which the lines that begin with one of the names have another address.
fn with_address(text: &str, names: &[&str], address: &str) -> String {
    let line = |line: &str| match line.split_once('\t') {
        Some((_, rest)) if rest.split_whitespace().next().is_some_and(|first| names.contains(&first)) => {
            format!("{address}\t{rest}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

impl Link {
    /// The names beside the address in `/etc/hosts`.
    pub fn names(&self) -> String {
        let mut names = format!("{} {}", self.alias, super::etc_files::hostname(&self.target));
        if self.alias != self.target.name {
            names = format!("{names} {}", self.target.name);
        }
        names
    }

    /// `ALIAS_PORT_80_TCP_ADDR=…` and their like, as the container called `name` sees them.
    pub fn environment(&self, name: &str) -> Vec<String> {
        let prefix = self.alias.replace('-', "_").to_ascii_uppercase();
        let mut ports: Vec<(u16, &str)> = self
            .target
            .options
            .exposed_ports
            .keys()
            .filter_map(|port| {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                Some((number.parse().ok()?, protocol))
            })
            .collect();
        ports.sort_by_key(|(number, protocol)| (*protocol != "tcp", *number));
        let url = |port: u16, protocol: &str| format!("{protocol}://{}:{port}", self.address);
        let mut lines = Vec::new();
        lines.extend(ports.first().map(|(port, protocol)| format!("{prefix}_PORT={}", url(*port, protocol))));
        for (port, protocol) in ports {
            let stem = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
            lines.push(format!("{stem}={}", url(port, protocol)));
            lines.push(format!("{stem}_ADDR={}", self.address));
            lines.push(format!("{stem}_PORT={port}"));
            lines.push(format!("{stem}_PROTO={protocol}"));
        }
        lines.push(format!("{prefix}_NAME=/{name}/{}", self.alias));
        let own = |entry: &&String| !["HOME=", "PATH="].iter().any(|skipped| entry.starts_with(skipped));
        lines.extend(self.target.options.env.iter().filter(own).map(|entry| format!("{prefix}_ENV_{entry}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_address_comes_into_the_lines_of_a_link_alone() {
        let text = "127.0.0.1\tlocalhost\n172.17.0.2\tdb 0123 one\n172.17.0.2\tone 0123\n172.17.0.3\tdb2\n";
        let new = "127.0.0.1\tlocalhost\n172.17.0.9\tdb 0123 one\n172.17.0.9\tone 0123\n172.17.0.3\tdb2\n";
        assert_eq!(with_address(text, &["db", "one"], "172.17.0.9"), new);
        assert_eq!(with_address(text, &[], "172.17.0.9"), text);
    }

    #[test]
    fn a_link_tells_of_ports_and_variables() {
        let mut target = Record::default();
        target.options.env = vec!["PATH=/bin".into(), "A=1".into()];
        for port in ["53/udp", "443/tcp", "80/tcp"] {
            target.options.exposed_ports.insert(port.into(), serde_json::Value::Null);
        }
        let link = Link { address: "172.17.0.2".into(), alias: "my-db".into(), target };
        let lines = link.environment("web");
        assert_eq!(lines[..2], ["MY_DB_PORT=tcp://172.17.0.2:80", "MY_DB_PORT_80_TCP=tcp://172.17.0.2:80"]);
        for line in ["MY_DB_PORT_53_UDP_PROTO=udp", "MY_DB_NAME=/web/my-db", "MY_DB_ENV_A=1"] {
            assert!(lines.iter().any(|own| own == line), "{line}: {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.contains("PATH")));
    }
}
