//! Rate limits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Discovery, Duration, is_default};

/// How many requests, by whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// What routes call it.
    pub name: String,
    /// What is counted apart, all of them together: `[address]`, `[{header: x-api-key}, path]`. Empty: everything as one.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive")]
    pub by: Vec<LimitBy>,
    /// How it is counted.
    #[serde(skip_serializing_if = "is_default")]
    pub algorithm: Algorithm,
    /// Requests …
    pub requests: u64,
    /// … in this time.
    pub per: Duration,
    /// Token bucket: how many at once after a rest; `requests` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Other numbers for requests that have an identity, the first that fits. Those without one have the numbers above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    /// Counted for all replicas together (see `peers`). Otherwise each replica counts for itself.
    #[serde(skip_serializing_if = "is_default")]
    pub shared: bool,
    /// Keys remembered at once; the longest unused leave first.
    pub keys: usize,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            name: String::new(),
            by: vec![LimitBy::Address],
            algorithm: Algorithm::default(),
            requests: 100,
            per: Duration::seconds(60),
            burst: None,
            tiers: Vec::new(),
            shared: false,
            keys: 100_000,
        }
    }
}

/// What of a request is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    /// The client's address (behind trusted proxies); IPv6 by its /64.
    Address,
    /// This header field.
    Header(String),
    /// The path without its query.
    Path,
    /// Who the client proves to be: the subject of its TLS certificate, else its whole `Authorization` (so that nobody uses
    /// up another's share by a name alone); who has neither is counted by address.
    Identity,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Tokens come back evenly over the time, up to the burst.
    #[default]
    TokenBucket,
    /// Requests of the last `per`, the window before weighed by how much of it still counts.
    SlidingWindow,
}

/// Numbers of its own for some who are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tier {
    /// For metrics.
    pub name: String,
    /// A header field that must be there; `authorization` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Its values that count; every value if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Requests in the limit's time.
    pub requests: u64,
    /// As in the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// The replicas of a limiter: each key is counted by one of them, found by a consistent hash ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// Where this replica answers the others, `ADDRESS:PORT`.
    pub address: String,
    /// What the others know this one by, as it stands among the members: `ADDRESS:PORT`. `$POD_IP` with the port of
    /// `address` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// All replicas, `ADDRESS:PORT` or `NAME:PORT`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Or where they are learnt from.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive", skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// How long another replica may take; beyond it this one counts by itself.
    pub timeout: Duration,
    /// A file with a secret that the replicas share. With it, who knows it may ask this one; without it, who asks from the
    /// address of a member. Everyone else is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<PathBuf>,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            address: String::new(),
            own: None,
            members: Vec::new(),
            discovery: None,
            timeout: Duration::millis(20),
            secret: None,
        }
    }
}
