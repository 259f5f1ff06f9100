//! Listeners: an address, who may speak there and how, and the routes of what arrives.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Duration, Route, Size, is_default};

/// A place where connections or datagrams arrive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// For metrics and logs; the address if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `ADDRESS:PORT`, `[ADDRESS]:PORT` or `:PORT`, which is every address of the machine.
    pub address: String,
    /// More addresses where the same is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The port that clients ask for, where it is not that of the address: redirects that name no port lead there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// What is spoken: HTTP unless said otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// TLS is ended here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Connections begin with a PROXY protocol header (version 1 or 2) that tells the client's address. It is believed
    /// from `trusted_proxies` only (from everyone, if there are none) and required from them.
    #[serde(skip_serializing_if = "is_default")]
    pub accept_proxy_protocol: bool,
    /// Networks (`10.0.0.0/8`, `::1`) whose forwarded headers are believed and extended; everyone else's are replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// Bounds on what a client may do.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// HTTP: the best match wins, however they are ordered: exact path before longest prefix before regular expression,
    /// then method, then number of headers, then of query parameters; the first of equals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// TCP and UDP: the pool that everything goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

impl Listener {
    /// All its addresses as they are written.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.address).chain(&self.also).map(String::as_str)
    }
}

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 by ALPN or with prior knowledge.
    #[default]
    Http,
    /// Bytes.
    Tcp,
    /// Datagrams; those of one client address are a session.
    Udp,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The one that fits the client's server name is shown; the first if none does.
    pub certificates: Vec<Certificate>,
    /// `"1.2"` or `"1.3"`.
    pub min_version: String,
    /// Offer HTTP/2.
    pub http2: bool,
    /// A PEM file of authorities: clients must show a certificate of one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_authorities: Option<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { certificates: Vec::new(), min_version: "1.2".into(), http2: true, client_authorities: None }
    }
}

/// A certificate and its key, as PEM files. They are read again when they change (a mounted Secret is updated in place).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain, leaf first (`tls.crt`).
    pub certificate: PathBuf,
    /// The private key (`tls.key`).
    pub key: PathBuf,
    /// Server names it is shown for (`example.com`, `*.example.com`); those in the certificate if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// Bounds on a client, each with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Request line and headers together; beyond it 431 (414 for the line alone).
    pub header_bytes: Size,
    /// Number of header fields; beyond it 431.
    pub headers: usize,
    /// Request body; beyond it 413. None: unbounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<Size>,
    /// From the first byte of a request to the last of its headers; beyond it 408 (this is what a slow-loris meets).
    pub header_timeout: Duration,
    /// Between two reads of a request body, and between two writes of a response; beyond it the connection ends.
    pub idle_body_timeout: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// Silence on an upgraded connection (WebSocket) or a TCP or UDP session.
    pub tunnel_timeout: Duration,
    /// Open connections of the listener, at most; beyond it new ones are closed at once.
    pub connections: usize,
    /// Requests on one connection, after which it is closed in good order. 0: unbounded.
    pub requests_per_connection: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: Size(32 << 10),
            headers: 100,
            body_bytes: None,
            header_timeout: Duration::seconds(10),
            idle_body_timeout: Duration::seconds(60),
            keep_alive: Duration::seconds(75),
            tunnel_timeout: Duration::seconds(3600),
            connections: 16_384,
            requests_per_connection: 0,
        }
    }
}
