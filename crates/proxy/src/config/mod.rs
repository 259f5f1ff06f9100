//! What a proxy is told: listeners → routes → pools, and the caches and rate limits that routes name.
//!
//! The types are the configuration file: `hythe proxy http --config FILE` reads them, the controllers of Ingress, Gateway
//! and the pattern resources render them, and the flags of the other commands expand to them. Unknown fields are refused,
//! fields left at their default are not written.

mod cache;
mod check;
mod limit;
mod listener;
mod pool;
mod route;
mod units;

pub use cache::{Cache, Disk};
pub use check::{Problem, check};
pub use limit::{Algorithm, LimitBy, Peers, RateLimit, Tier};
pub use listener::{Certificate, Limits, Listener, Protocol, Tls};
pub use pool::{
    Balance, Binding, Discovery, Endpoint, Health, HttpVersion, Outlier, Pool, ProxyVersion, RingConfig, Sticky,
    UpstreamTls,
};
pub use route::{
    Cors, Filters, HeaderEdit, HeaderMatch, HeaderValue, Key, Match, Mirror, PathMatch, PathRewrite, Redirect, Respond,
    Retry, Rewrite, Route, Target,
};
pub use serving::Span as Duration;
pub use units::Size;

use serde::{Deserialize, Serialize};

/// A whole proxy.
///
/// ```
/// let config: proxy::config::Config = serde_yaml_ng::from_str("
/// listeners: [{address: '0.0.0.0:8080', routes: [{to: [{pool: app}]}]}]
/// pools: [{name: app, endpoints: [{address: '127.0.0.1:3000'}]}]
/// ").unwrap();
/// assert!(proxy::config::check(&config).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// Where they go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// Caches that routes name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<Cache>,
    /// Rate limits that routes name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// The replicas among which shared rate limits are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
    /// `ADDRESS:PORT` of the server that is asked about names, in place of the machine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nameserver: Option<String>,
    /// One JSON line a request or connection on standard output, unless the command's flags say `--access-log off`. Read at
    /// start only.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub access_log: bool,
    /// Threads that carry traffic; 0 is what the command's flags say, one a processor. Read at start only.
    #[serde(skip_serializing_if = "is_zero")]
    pub threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            pools: Vec::new(),
            caches: Vec::new(),
            rate_limits: Vec::new(),
            peers: None,
            nameserver: None,
            access_log: true,
            threads: 0,
        }
    }
}

impl Config {
    /// Reads a configuration from YAML, and checks what can be checked without looking elsewhere.
    ///
    /// # Errors
    /// What is wrong, with its line or field.
    pub fn parse(text: &str) -> Result<Self, serving::ConfigError> {
        let config: Self = serving::from_yaml(text)?;
        check(&config).map_err(|problem| serving::ConfigError::field(problem.field, problem.reason))?;
        Ok(config)
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// For `skip_serializing_if`: whether a value is its type's default.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
