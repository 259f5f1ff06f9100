//! One pool: what it listens on, its servers, and how keys and failures are dealt with.

use std::collections::BTreeMap;
use std::time::Duration;

use hash_ring::{Hash, HashTag, Placement};
use serde::{Deserialize, Serialize};

use super::address::{Address, Listen, Server};
use super::lenient;

/// A pool of shards behind one listening address. The first keys are twemproxy's own, with its defaults; the ones from
/// `protocol` on are not in twemproxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// `host:port`, or `/path` of a unix socket with permissions in octal digits after a space.
    pub listen: Listen,
    /// How keys are hashed.
    #[serde(default, deserialize_with = "lenient::parsed", skip_serializing_if = "is_default")]
    pub hash: Hash,
    /// The two characters around the part of a key that is hashed, such as `{}`.
    #[serde(default, deserialize_with = "lenient::optional", skip_serializing_if = "Option::is_none")]
    pub hash_tag: Option<HashTag>,
    /// How hashes are placed on servers.
    #[serde(default, deserialize_with = "lenient::parsed", skip_serializing_if = "is_default")]
    pub distribution: Placement,
    /// Milliseconds to wait for a connection or an answer; without it, for ever.
    #[serde(default, deserialize_with = "lenient::optional_number", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Connections that may wait to be accepted.
    #[serde(default = "backlog", deserialize_with = "lenient::number", skip_serializing_if = "is_backlog")]
    pub backlog: u32,
    /// Most clients at a time; 0 is no limit. (twemproxy reads this key and ignores it.)
    #[serde(default, deserialize_with = "lenient::number", skip_serializing_if = "is_default")]
    pub client_connections: u32,
    /// Whether the servers are Redis; memcached otherwise.
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "is_default")]
    pub redis: bool,
    /// The password of the servers, which clients have to give as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_auth: Option<String>,
    /// The database selected on the servers.
    #[serde(default, deserialize_with = "lenient::number", skip_serializing_if = "is_default")]
    pub redis_db: u32,
    /// Whether connections to servers are made at the start rather than for the first request.
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "is_default")]
    pub preconnect: bool,
    /// Whether a server that failed `server_failure_limit` times leaves the ring for `server_retry_timeout`.
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "is_default")]
    pub auto_eject_hosts: bool,
    /// Connections to each server (from each event loop).
    #[serde(default = "one", deserialize_with = "lenient::number", skip_serializing_if = "is_one")]
    pub server_connections: u32,
    /// Milliseconds after which an ejected server is tried again.
    #[serde(default = "retry", deserialize_with = "lenient::number", skip_serializing_if = "is_retry")]
    pub server_retry_timeout: u64,
    /// Failures in a row that eject a server.
    #[serde(default = "two", deserialize_with = "lenient::number", skip_serializing_if = "is_two")]
    pub server_failure_limit: u32,
    /// Whether the kernel probes idle client connections.
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "is_default")]
    pub tcpkeepalive: bool,
    /// Read for the sake of newer files of twemproxy; Hythe's event loops always share the port.
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "is_default")]
    pub reuseport: bool,
    /// The shards: `host:port:weight [name]` or `/path:weight [name]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// Further shards, found in DNS and followed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<Discovery>,
    /// Replicas of shards: the shard's name on the ring, and their addresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replicas: BTreeMap<String, Vec<Address>>,
    /// Which of a shard's servers answer reads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reads: Reads,
    /// Which of a shard's servers get writes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub writes: Writes,
    /// How many of the most used keys are told of on the admin port; 0 counts none.
    #[serde(default = "hot_keys", deserialize_with = "lenient::number", skip_serializing_if = "is_hot_keys")]
    pub hot_keys: usize,
    /// Most bytes of answers that are kept for one client until the others they are joined with, or those before them,
    /// have come; and of one answer of a server meanwhile. What would be more is an error in its place. Also the longest value
    /// that is taken from a client of memcached, since it is held until it is whole.
    #[serde(default = "held", deserialize_with = "lenient::number", skip_serializing_if = "is_held")]
    pub held_bytes: usize,
}

/// What a pool's servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RESP2 and RESP3.
    Redis,
    /// memcached's text and meta protocol.
    Memcached,
}

/// Shards by a name in DNS, asked again as its records expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// A name with SRV records, as `_redis._tcp.db.default.svc` of a headless service: each target is a shard, named on
    /// the ring by its first label (`db-0`), so that it keeps its keys when its address changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srv: Option<String>,
    /// A name with A or AAAA records: each address is a shard and its own name. Needs `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port of the addresses of `host`.
    #[serde(default, deserialize_with = "lenient::optional_number", skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Least seconds between two questions; records that live longer are asked for when they expire.
    #[serde(
        default = "least_interval",
        deserialize_with = "lenient::number",
        skip_serializing_if = "is_least_interval"
    )]
    pub least_interval: u64,
}

/// Which of a replicated shard's servers answer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// The shard's own server alone.
    #[default]
    Primary,
    /// Its replicas in turn, and the primary while none of them can be reached.
    Replicas,
    /// The primary and its replicas in turn.
    All,
}

/// Which of a replicated shard's servers get writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// The shard's own server, which copies them to its replicas itself (Redis).
    #[default]
    Primary,
    /// Every server of the shard; the primary's answer is the client's (memcached, which copies nothing).
    All,
}

impl Pool {
    /// A pool with twemproxy's defaults.
    #[must_use]
    pub fn new(listen: Listen, servers: Vec<Server>) -> Pool {
        Pool {
            listen,
            hash: Hash::default(),
            hash_tag: None,
            distribution: Placement::default(),
            timeout: None,
            backlog: backlog(),
            client_connections: 0,
            redis: false,
            redis_auth: None,
            redis_db: 0,
            preconnect: false,
            auto_eject_hosts: false,
            server_connections: one(),
            server_retry_timeout: retry(),
            server_failure_limit: two(),
            tcpkeepalive: false,
            reuseport: false,
            servers,
            discover: None,
            replicas: BTreeMap::new(),
            reads: Reads::default(),
            writes: Writes::default(),
            hot_keys: hot_keys(),
            held_bytes: held(),
        }
    }

    /// What its servers speak.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        if self.redis { Protocol::Redis } else { Protocol::Memcached }
    }

    /// How long a connection or an answer may take.
    #[must_use]
    pub fn answer_timeout(&self) -> Option<Duration> {
        self.timeout.filter(|&timeout| timeout > 0).map(Duration::from_millis)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

macro_rules! defaults {
    ($($default:ident, $is:ident: $kind:ty = $value:expr;)*) => {$(
        fn $default() -> $kind {
            $value
        }

        fn $is(value: &$kind) -> bool {
            *value == $value
        }
    )*};
}

defaults! {
    backlog, is_backlog: u32 = 512;
    one, is_one: u32 = 1;
    two, is_two: u32 = 2;
    retry, is_retry: u64 = 30_000;
    hot_keys, is_hot_keys: usize = 32;
    held, is_held: usize = 64 << 20;
    least_interval, is_least_interval: u64 = 1;
}
