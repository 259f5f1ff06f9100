//! Ports of a pod's containers that collide, or might (`pkg/api/pod/warnings.go`).

use serde_json::Value;

use crate::strategy::access::{list, text};

/// A port and its path.
struct Seen<'a> {
    path: String,
    port: &'a Value,
}

/// The ports of all containers so far.
#[derive(Default)]
pub(super) struct Ports<'a>(Vec<Seen<'a>>);

impl<'a> Ports<'a> {
    /// Those of one more container; `path` is the container's.
    pub(super) fn add(&mut self, found: &mut Vec<String>, path: &dyn std::fmt::Display, container: &'a Value) {
        for (index, port) in list(container, "ports").iter().enumerate() {
            let path = format!("{path}.ports[{index}]");
            let number = |field: &str| port[field].as_i64().unwrap_or(0);
            let (address, host) = (text(port, "hostIP"), number("hostPort"));
            if !address.is_empty() && host == 0 {
                let (name, inside, protocol) = (text(port, "name"), number("containerPort"), protocol(port));
                found.push(format!(
                    "{path}: hostIP set without hostPort: \
                     {{Name:{name} HostPort:{host} ContainerPort:{inside} Protocol:{protocol} HostIP:{address}}}"
                ));
            }
            for other in self.0.iter().filter(|other| {
                other.port["containerPort"] == port["containerPort"] && protocol(other.port) == protocol(port)
            }) {
                let (others_address, others_host) =
                    (text(other.port, "hostIP"), other.port["hostPort"].as_i64().unwrap_or(0));
                let words = if address == others_address && host == others_host {
                    "duplicate port definition with"
                } else if host == 0 || others_host == 0 {
                    "overlapping port definition with"
                } else if host == others_host && address.is_empty() != others_address.is_empty() {
                    "dangerously ambiguous port definition with"
                } else {
                    continue;
                };
                found.push(format!("{path}: {words} {}", other.path));
            }
            self.0.push(Seen { path, port });
        }
    }
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}
