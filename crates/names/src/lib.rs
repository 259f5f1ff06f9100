//! Names by `/etc/hosts` and DNS, without the C library's modules, which a static binary cannot load.
//!
//! Nothing is remembered here: every question goes to a server, and an answer says until when it holds. Who follows a
//! name keeps its answer; a second memory would only make changes late and failures last.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::OnceCell;

/// An address stands for itself for so long.
const FOREVER: Duration = Duration::from_secs(86_400);

/// A name that could not be resolved: it does not exist, has nothing of the kind, or no server answered. Asking again
/// later may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct NameError {
    /// What was asked for.
    pub name: String,
    /// The resolver's words.
    pub reason: String,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// At least one, in the order of their values.
    pub records: Vec<T>,
    /// Until when this holds: the end of the shortest time to live.
    pub until: Instant,
}

/// An answer to come.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<Answer<T>, NameError>> + Send + 'a>>;

/// An SRV record (RFC 2782). They are ordered by priority, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The lowest that can be reached is used.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// The host's name, without a dot at its end.
    pub target: String,
    /// The port.
    pub port: u16,
}

/// A resolver. Nothing is read or opened before the first question: most configurations name no names.
#[derive(Clone, Default)]
pub struct Names(Arc<Inner>);

#[derive(Default)]
struct Inner {
    nameserver: Option<SocketAddr>,
    resolver: OnceCell<TokioResolver>,
}

impl Names {
    /// A resolver that asks this server, or those of `/etc/resolv.conf`.
    #[must_use]
    pub fn new(nameserver: Option<SocketAddr>) -> Self {
        Self(Arc::new(Inner { nameserver, resolver: OnceCell::new() }))
    }

    /// The server it asks, where that is not the system's.
    #[must_use]
    pub fn nameserver(&self) -> Option<SocketAddr> {
        self.0.nameserver
    }

    /// All addresses of a name; an address, with brackets or without, is itself.
    ///
    /// # Errors
    /// When the name has none, or no server answers.
    pub async fn addresses(&self, name: &str) -> Result<Answer<IpAddr>, NameError> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse() {
            return Ok(Answer { records: vec![address], until: Instant::now() + FOREVER });
        }
        self.ask(name).await
    }

    /// Not part of its callers' code: the resolver's is large, and would be made anew in each crate that resolves names.
    #[inline(never)]
    fn ask<'a>(&'a self, name: &'a str) -> Asked<'a, IpAddr> {
        Box::pin(async move {
            let found = self.resolver(name).await?.lookup_ip(name).await.map_err(|error| failed(name, &error))?;
            answer(name, found.iter().collect(), found.valid_until())
        })
    }

    /// The SRV records of a name.
    ///
    /// # Errors
    /// When the name has none, or no server answers.
    #[inline(never)]
    pub fn services<'a>(&'a self, name: &'a str) -> Asked<'a, Service> {
        Box::pin(async move {
            let resolver = self.resolver(name).await?;
            let found = resolver.lookup(name, RecordType::SRV).await.map_err(|error| failed(name, &error))?;
            let services = found.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Service {
                    priority: srv.priority,
                    weight: srv.weight,
                    target: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                    port: srv.port,
                }),
                _ => None,
            });
            answer(name, services.collect(), found.valid_until())
        })
    }

    async fn resolver(&self, name: &str) -> Result<&TokioResolver, NameError> {
        let build = || async {
            let mut builder = match self.0.nameserver {
                None => TokioResolver::builder_tokio().map_err(|error| failed(name, &error))?,
                Some(address) => {
                    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                    connections.iter_mut().for_each(|connection| connection.port = address.port());
                    let server = NameServerConfig::new(address.ip(), true, connections.to_vec());
                    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
                    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
                }
            };
            builder.options_mut().cache_size = 0;
            builder.build().map_err(|error| failed(name, &error))
        };
        self.0.resolver.get_or_try_init(build).await
    }
}

fn failed(name: &str, reason: &impl ToString) -> NameError {
    NameError { name: name.to_owned(), reason: reason.to_string() }
}

fn answer<T: Ord>(name: &str, mut records: Vec<T>, until: Instant) -> Result<Answer<T>, NameError> {
    records.sort_unstable();
    records.dedup();
    if records.is_empty() { Err(failed(name, &"it has none")) } else { Ok(Answer { records, until }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_itself_and_asks_nobody() {
        let names = Names::new(Some(([127, 0, 0, 1], 1).into()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (name, address) in [("10.1.2.3", "10.1.2.3"), ("fd00::1", "fd00::1"), ("[fd00::1]", "fd00::1")] {
            let found = runtime.block_on(names.addresses(name)).unwrap();
            assert_eq!(found.records, [address.parse::<IpAddr>().unwrap()]);
        }
    }
}
