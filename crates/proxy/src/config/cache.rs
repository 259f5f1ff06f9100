//! Caches.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Duration, Size, is_default};

/// A shared HTTP cache (RFC 9111).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// What routes call it, and what `Cache-Status` says.
    pub name: String,
    /// Memory for stored responses. What is worth least by frequency and size leaves first.
    pub memory: Size,
    /// Larger responses are not stored.
    pub max_response: Size,
    /// Freshness of responses that say nothing about it and have no `Last-Modified`. `0s`: they are not stored.
    #[serde(skip_serializing_if = "is_default")]
    pub default_ttl: Duration,
    /// `stale-while-revalidate` of responses that do not say.
    #[serde(skip_serializing_if = "is_default")]
    pub stale_while_revalidate: Duration,
    /// `stale-if-error` of responses that do not say.
    #[serde(skip_serializing_if = "is_default")]
    pub stale_if_error: Duration,
    /// Header fields whose values name the tags a response can be purged by.
    pub tag_headers: Vec<String>,
    /// Networks that may `PURGE`; empty: nobody. A `PURGE` of a URL drops it in all variants, one with `Cache-Tag` or
    /// `Surrogate-Key` whatever bears one of the tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub purge_from: Vec<String>,
    /// The other replicas of this cache, `ADDRESS:PORT` or `NAME:PORT` of a listener without TLS: what one is told to purge
    /// it has all of them purge, each address of a name. It may be among them itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub purge_peers: Vec<String>,
    /// How long other requests for the same wait for the first one's answer before they go on by themselves.
    pub collapse_timeout: Duration,
    /// Response fields that are for caches like this one: where one is there, it counts in place of `Cache-Control` and
    /// `Expires` (RFC 9213). The first that is there does.
    pub targeted: Vec<String>,
    /// A second tier on disk: what is stored is there after a restart, and what leaves memory is not lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            name: String::new(),
            memory: Size(64 << 20),
            max_response: Size(1 << 20),
            default_ttl: Duration::default(),
            stale_while_revalidate: Duration::default(),
            stale_if_error: Duration::default(),
            tag_headers: vec!["surrogate-key".into(), "cache-tag".into()],
            purge_from: Vec::new(),
            purge_peers: Vec::new(),
            targeted: vec!["cdn-cache-control".into()],
            collapse_timeout: Duration::seconds(5),
            disk: None,
        }
    }
}

/// A cache's tier on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// A directory of its own; made if it is not there.
    pub path: PathBuf,
    /// How much it may hold, in whole blocks of 4 KiB a response. When the disk takes less, less is stored.
    pub size: Size,
}
