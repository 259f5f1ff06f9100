//! A pattern container's manual, as data.

use std::fmt::Write as _;

/// What a user of a pattern container must know of it. `--help` ends with it, the image's labels carry it, and its page in
/// `docs/patterns/` is held against it.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// The command without the program's name, such as `proxy shard`.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Version of its HTTP interface, such as `v1`.
    pub version: &'static str,
    /// Ports that it listens on by default.
    pub ports: &'static [Port],
    /// Endpoints beside those of every container.
    pub endpoints: &'static [Endpoint],
    /// Environment variables that set its flags.
    pub variables: &'static [Variable],
}

/// A port that a container listens on unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The number, 1 to 65535.
    pub number: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// What is spoken there.
    pub about: &'static str,
}

/// An HTTP endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path, with `{name}` for what varies.
    pub path: &'static str,
    /// What it answers.
    pub about: &'static str,
}

/// An environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its default; empty if there is none.
    pub default: &'static str,
    /// What it sets, with its unit.
    pub about: &'static str,
}

/// What every container answers on its admin port.
pub(crate) const ENDPOINTS: [Endpoint; 4] = [
    Endpoint { method: "GET", path: "/metrics", about: "metrics for Prometheus" },
    Endpoint { method: "GET", path: "/healthz", about: "200 while the process works" },
    Endpoint { method: "GET", path: "/readyz", about: "200 once it serves, 503 before that and while it ends" },
    Endpoint {
        method: "POST",
        path: "/-/reload",
        about: "reads the configuration anew; 400 with line and reason if it is broken",
    },
];

/// What every container reads from its environment.
pub(crate) const VARIABLES: [Variable; 5] = [
    Variable { name: "HYTHE_ADMIN", default: "0.0.0.0:9901", about: "address of the admin port; `off` for none" },
    Variable { name: "HYTHE_ACCESS_LOG", default: "json", about: "`json` or `off`" },
    Variable { name: "HYTHE_DRAIN", default: "10", about: "seconds that work under way is given after SIGTERM" },
    Variable {
        name: "HYTHE_LINGER",
        default: "0",
        about: "seconds that listeners stay open after SIGTERM, not ready any more",
    },
    Variable {
        name: "HYTHE_THREADS",
        default: "",
        about: "threads that serve; one a core, of `proxy shard` one for two",
    },
];

impl Manual {
    /// All endpoints: those of every container, then its own.
    pub fn all_endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        ENDPOINTS.into_iter().chain(self.endpoints.iter().copied())
    }

    /// All environment variables: those of every container, then its own.
    pub fn all_variables(&self) -> impl Iterator<Item = Variable> + '_ {
        VARIABLES.into_iter().chain(self.variables.iter().copied())
    }

    /// The text below `--help`.
    pub fn after_help(&self) -> String {
        let mut text = String::from("Ports:\n");
        for port in self.ports {
            let _ = writeln!(text, "  {}/{}  {}", port.number, port.protocol, port.about);
        }
        text.push_str("  9901/tcp  the admin port\n\nEndpoints of the admin port (version ");
        let _ = writeln!(text, "{}):", self.version);
        for endpoint in self.all_endpoints() {
            let _ = writeln!(text, "  {} {}  {}", endpoint.method, endpoint.path, endpoint.about);
        }
        text.push_str("\nEnvironment:\n");
        for variable in self.all_variables() {
            let default =
                if variable.default.is_empty() { String::new() } else { format!(" [default: {}]", variable.default) };
            let _ = writeln!(text, "  {}  {}{default}", variable.name, variable.about);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_port_endpoint_and_variable() {
        let manual = Manual {
            name: "sidecar topz",
            about: "Processes of a shared PID namespace.",
            version: "v1",
            ports: &[Port { number: 8080, protocol: "tcp", about: "HTTP" }],
            endpoints: &[Endpoint { method: "GET", path: "/topz", about: "the processes" }],
            variables: &[Variable { name: "TOPZ_ADDR", default: "0.0.0.0:8080", about: "where to listen" }],
        };
        let help = manual.after_help();
        for part in [
            "8080/tcp",
            "9901/tcp",
            "GET /topz",
            "GET /metrics",
            "POST /-/reload",
            "HYTHE_DRAIN",
            "TOPZ_ADDR",
            "[default: 0.0.0.0:8080]",
            "version v1",
        ] {
            assert!(help.contains(part), "{part} is missing in\n{help}");
        }
    }
}
