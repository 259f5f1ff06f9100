//! Names into addresses, and headless services into shards.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::sync::OnceCell;

use crate::config::{Address, Discovery, Server};

/// Asks DNS (and `/etc/hosts`). Nothing is read or opened before the first question: most pools name no names.
#[derive(Default)]
pub struct Names {
    /// The server to ask instead of the system's.
    pub nameserver: Option<SocketAddr>,
    resolver: OnceCell<TokioResolver>,
}

/// What discovery has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The shards, sorted by name.
    pub servers: Vec<Server>,
    /// When they are to be looked for again.
    pub until: Instant,
}

impl Names {
    /// A resolver that asks this server, or the system's.
    #[must_use]
    pub fn new(nameserver: Option<SocketAddr>) -> Names {
        Names { nameserver, resolver: OnceCell::new() }
    }

    async fn resolver(&self) -> Result<&TokioResolver, String> {
        let build = || async {
            let provider = TokioRuntimeProvider::default();
            let builder = match self.nameserver {
                None => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
                Some(address) => {
                    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                    connections.iter_mut().for_each(|connection| connection.port = address.port());
                    let server = NameServerConfig::new(address.ip(), true, connections.to_vec());
                    TokioResolver::builder_with_config(ResolverConfig::from_parts(None, vec![], vec![server]), provider)
                }
            };
            builder.build().map_err(|error| error.to_string())
        };
        self.resolver.get_or_try_init(build).await
    }

    /// The addresses of a name, and how long they hold.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn addresses(&self, host: &str) -> Result<(Vec<IpAddr>, Instant), String> {
        let found = self.resolver().await?.lookup_ip(host).await.map_err(|error| error.to_string())?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() { Err("it has no addresses".to_owned()) } else { Ok((addresses, found.valid_until())) }
    }

    /// The shards of a headless service.
    ///
    /// # Errors
    /// Why none can be told of.
    pub async fn discover(&self, discovery: &Discovery) -> Result<Found, String> {
        let (mut servers, until) = match (&discovery.srv, &discovery.host, discovery.port) {
            (Some(name), _, _) => self.services(name).await?,
            (None, Some(host), Some(port)) => {
                let (addresses, until) = self.addresses(host).await?;
                let server =
                    |ip: &IpAddr| Server { address: Address::Tcp(ip.to_string(), port), weight: 1, name: None };
                (addresses.iter().map(server).collect(), until)
            }
            _ => return Err("neither srv nor host and port".to_owned()),
        };
        servers.sort_by_key(Server::ring_name);
        let least = Instant::now() + Duration::from_secs(discovery.least_interval.max(1));
        Ok(Found { servers, until: until.max(least) })
    }

    /// The targets of a name's SRV records: pods of a StatefulSet, known by the first label of their names.
    async fn services(&self, name: &str) -> Result<(Vec<Server>, Instant), String> {
        let found = self.resolver().await?.srv_lookup(name).await.map_err(|error| error.to_string())?;
        let targets: Vec<(String, u16)> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(service) => Some((service.target.to_utf8().trim_end_matches('.').to_owned(), service.port)),
                _ => None,
            })
            .collect();
        if targets.is_empty() {
            return Err("it has no SRV records".to_owned());
        }
        let label = |target: &str| target.split('.').next().unwrap_or(target).to_owned();
        let servers = targets
            .iter()
            .map(|(target, port)| {
                // The first label tells the pods of one StatefulSet apart; where it does not, the whole name must.
                let first = label(target);
                let alone = targets.iter().filter(|(other, _)| label(other) == first).count() == 1;
                let name = Some(if alone { first } else { format!("{target}:{port}") });
                Server { address: Address::Tcp(target.clone(), *port), weight: 1, name }
            })
            .collect();
        Ok((servers, found.valid_until()))
    }
}
