//! Pools: endpoints, how one is chosen, when it is trusted, and how it is spoken to.

use std::path::PathBuf;

use hash_ring::{Hash, HashTag, Placement};
use serde::{Deserialize, Serialize};

use super::{Duration, Key, is_default};

/// Endpoints that serve the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// What routes call it.
    pub name: String,
    /// Known endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Endpoints that something else knows, beside the known ones.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive", skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// How an endpoint is chosen.
    #[serde(skip_serializing_if = "is_default")]
    pub balance: Balance,
    /// What decides in `balance: hash`; the client's address if not said.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive", skip_serializing_if = "Option::is_none")]
    pub hash: Option<Key>,
    /// Where keys and endpoints are placed in `balance: hash`.
    #[serde(skip_serializing_if = "is_default")]
    pub ring: RingConfig,
    /// A cookie of the proxy's own keeps a client at its endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// The endpoints are asked whether they are well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What their answers to requests say about them.
    #[serde(skip_serializing_if = "is_default")]
    pub outlier: Outlier,
    /// The share of an endpoint that became healthy grows over this time from a tenth to the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// Requests (HTTP) or connections (TCP) in flight to the whole pool, at most; beyond it they wait. 0: unbounded.
    #[serde(skip_serializing_if = "is_default")]
    pub max_requests: usize,
    /// The same for one endpoint; beyond it another is chosen.
    #[serde(skip_serializing_if = "is_default")]
    pub max_requests_per_endpoint: usize,
    /// Requests that may wait; beyond it the answer is 503 at once.
    pub max_pending: usize,
    /// How long one may wait.
    pub pending_timeout: Duration,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept for the next request.
    pub idle_timeout: Duration,
    /// Unused connections kept to an endpoint, a thread. 0: none is used again.
    pub idle_connections: usize,
    /// TLS to the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// What is spoken to them.
    #[serde(skip_serializing_if = "is_default")]
    pub http: HttpVersion,
    /// The client's address is told in a PROXY protocol header; then no connection is used for two clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_proxy_protocol: Option<ProxyVersion>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoints: Vec::new(),
            discovery: None,
            balance: Balance::default(),
            hash: None,
            ring: RingConfig::default(),
            sticky: None,
            health: None,
            outlier: Outlier::default(),
            slow_start: None,
            max_requests: 0,
            max_requests_per_endpoint: 0,
            max_pending: 1024,
            pending_timeout: Duration::seconds(10),
            connect_timeout: Duration::seconds(5),
            idle_timeout: Duration::seconds(60),
            idle_connections: 256,
            tls: None,
            http: HttpVersion::default(),
            send_proxy_protocol: None,
        }
    }
}

/// A server. A name in place of an address is looked up and followed; each of its addresses is an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// `ADDRESS:PORT`, `[ADDRESS]:PORT` or `NAME:PORT`.
    pub address: String,
    /// Its share with `balance: weighted` and `hash`; with all others too if it is 0: none.
    pub weight: u32,
    /// Gets no new requests; those it has may end. Clients that stick to it by cookie still reach it.
    #[serde(skip_serializing_if = "is_default")]
    pub drain: bool,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { address: String::new(), weight: 1, drain: false }
    }
}

/// Where endpoints are learnt from. Names are looked up again when their time to live is over; when a look-up fails, what
/// was known stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discovery {
    /// A and AAAA records with this port, `NAME:PORT`: a headless Service.
    Dns(String),
    /// SRV records, `_http._tcp.NAME`: ports, weights and the lowest priority that has any.
    Srv(String),
    /// A Service binding: a directory of files (`$SERVICE_BINDING_ROOT/NAME`).
    Binding(Binding),
    /// Environment variables: `PREFIX_HOST` and `PREFIX_PORT`, `PREFIX_SERVICE_HOST` and `PREFIX_SERVICE_PORT`, or `PREFIX_URL`.
    Environment(String),
}

/// A Service binding (servicebinding.io, "Workload Projection").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Binding {
    /// The binding's directory name; empty: the only one whose `type` fits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its `type`, such as `mysql`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The directory of bindings; `$SERVICE_BINDING_ROOT` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// The port if the binding names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// One after the other by weight, interleaved.
    Weighted,
    /// The one with the fewest requests in flight.
    LeastConnections,
    /// The less loaded of two drawn at random.
    RandomTwoChoices,
    /// The one a consistent hash of `hash` names: few clients move when endpoints come and go.
    Hash,
}

/// The ring of `balance: hash`. Left as it is, keys go where nginx's `hash KEY consistent` puts them among the same servers,
/// which are known by their addresses as they are written here; one that is looked up and has several addresses, by those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RingConfig {
    /// `nginx_consistent`, or twemproxy's `ketama`, `modula` and `random`.
    pub distribution: Placement,
    /// twemproxy's names; `crc32a` with `nginx_consistent`, else `fnv1a_64` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// Two characters: only what stands between them in a key is hashed, where both are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_tag: Option<HashTag>,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { distribution: Placement::NginxConsistent, hash: None, hash_tag: None }
    }
}

impl RingConfig {
    /// Where on the ring a key is.
    pub fn point(&self, key: &[u8]) -> u32 {
        let own = if self.distribution == Placement::NginxConsistent { Hash::Crc32a } else { Hash::default() };
        self.hash.unwrap_or(own).of(self.hash_tag.map_or(key, |tag| tag.part(key)))
    }
}

/// Stickiness by a cookie of the proxy's own. It holds a digest of the endpoint's address, not the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: String,
    /// How long the client keeps it; for its session if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// Its path.
    pub path: String,
}

impl Default for Sticky {
    fn default() -> Self {
        Self { cookie: "hythe-endpoint".into(), max_age: None, path: "/".into() }
    }
}

/// Active health checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Asked for by GET; a connection alone is the check if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Sent as `Host`; the endpoint's address if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Statuses that are well; 200–399 if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// Between two checks of an endpoint, a tenth more or less.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Good checks in a row until an unhealthy endpoint is used again.
    pub healthy: u32,
    /// Bad checks in a row until it is no longer used.
    pub unhealthy: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: None,
            host: None,
            statuses: Vec::new(),
            interval: Duration::seconds(5),
            timeout: Duration::seconds(2),
            healthy: 2,
            unhealthy: 3,
        }
    }
}

/// Passive health: an endpoint that fails requests is left out for a while (circuit breaking, outlier ejection).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outlier {
    /// Failures in a row (no connection, no or a broken response, 502–504) until it is left out. 0: never.
    pub failures: u32,
    /// For how long the first time; each further time as much longer, up to ten times.
    pub ejection: Duration,
    /// How many of a hundred endpoints may be left out at once; the last one never is.
    pub max_percent: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Self { failures: 5, ejection: Duration::seconds(10), max_percent: 50 }
    }
}

/// TLS to endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// The name asked for and expected in the certificate; the endpoint's own name or address if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// A PEM file of authorities; the machine's own (`/etc/ssl/certs/ca-certificates.crt`) if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// Believe every certificate. For tests: whoever is in between may then read and change everything.
    #[serde(skip_serializing_if = "is_default")]
    pub insecure: bool,
    /// A certificate of our own, shown to endpoints that ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Which HTTP is spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2 (with prior knowledge where there is no TLS): gRPC needs it.
    #[serde(rename = "2")]
    Http2,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}
