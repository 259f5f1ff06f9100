//! A configuration at work: what was read, compiled for use by every request.

pub mod cors;
mod headers;
mod matching;
mod route;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use names::Names;

use crate::address::Network;
use crate::cache::Cache;
use crate::config::{self, Config, Protocol};
use crate::limit::Limits;
use crate::metrics::ListenerMetrics;
use crate::pool::Pool;
use crate::tls::{self, Certificates};

pub use headers::{Edits, Sink, write_edited};
pub use matching::Found;
pub use route::{Mirror, Route, Target, key_of, location};

/// Everything that serving needs. Requests hold the one they began with.
pub struct Site {
    /// What it was made of.
    pub config: Config,
    /// Where connections arrive.
    pub listeners: Vec<Arc<Listener>>,
    /// Where they go.
    pub pools: HashMap<String, Arc<Pool>>,
    /// Caches.
    pub caches: HashMap<String, Arc<Cache>>,
    /// Rate limits.
    pub limits: Arc<Limits>,
    /// Who is asked about names.
    pub names: Names,
}

/// A listener at work.
pub struct Listener {
    /// What it was told.
    pub config: Arc<config::Listener>,
    /// What it is called.
    pub name: String,
    /// Where it is, as the configuration has it.
    written: String,
    /// Where it is.
    pub address: SocketAddr,
    /// TLS, where it is ended here.
    pub tls: Option<(Arc<rustls::ServerConfig>, Arc<Certificates>)>,
    trusted: Vec<Network>,
    /// Routes in the order in which they are looked at.
    routes: Arc<matching::Table>,
    /// Where TCP and UDP go.
    pub pool: Option<Arc<Pool>>,
    /// Counts.
    pub metrics: Arc<ListenerMetrics>,
}

impl Site {
    /// Makes a site of a configuration. What did not change since `former` goes on as it is: pools with their health,
    /// caches with what they hold, limits with what they counted.
    ///
    /// # Errors
    /// What is wrong, with its field.
    pub fn new(config: Config, former: Option<&Self>) -> Result<Self, config::Problem> {
        config::check(&config)?;
        let problem = |field: String| move |reason: String| config::Problem { field, reason };
        let nameserver = match &config.nameserver {
            Some(text) => Some(
                text.parse()
                    .map_err(|_| problem("nameserver".to_owned())(format!("{text:?} is no address with a port")))?,
            ),
            None => None,
        };
        let names = former.map(|f| f.names.clone()).filter(|names| names.nameserver() == nameserver);
        let same_names = names.is_some();
        let names = names.unwrap_or_else(|| Names::new(nameserver));
        let mut pools = HashMap::new();
        for (i, pool) in config.pools.iter().enumerate() {
            let known = former.and_then(|f| f.pools.get(&pool.name));
            let made = match known {
                Some(known) if known.config == *pool && same_names => Arc::clone(known),
                _ => Pool::new(pool.clone(), known.map(Arc::as_ref)).map_err(problem(format!("pools[{i}].tls")))?,
            };
            pools.insert(pool.name.clone(), made);
        }
        let mut caches = HashMap::new();
        for cache in &config.caches {
            let made = match former.and_then(|f| f.caches.get(&cache.name)) {
                Some(known) if known.config == *cache => Arc::clone(known),
                _ => Arc::new(Cache::new(cache.clone())),
            };
            caches.insert(cache.name.clone(), made);
        }
        let limits = match former {
            Some(former) if former.config.rate_limits == config.rate_limits && former.config.peers == config.peers => {
                Arc::clone(&former.limits)
            }
            _ => Arc::new(
                Limits::new(&config.rate_limits, config.peers.as_ref()).map_err(problem("peers.secret".to_owned()))?,
            ),
        };
        let mut listeners = Vec::new();
        for (i, listener) in config.listeners.iter().enumerate() {
            let at = format!("listeners[{i}]");
            let known = |written: &str| {
                let is_it = |l: &&Arc<Listener>| l.written == written && l.config.protocol == listener.protocol;
                former.and_then(|f| f.listeners.iter().find(is_it))
            };
            let all: Vec<(&str, Option<&Arc<Listener>>)> = listener.addresses().map(|a| (a, known(a))).collect();
            let tls = match &listener.tls {
                None => None,
                Some(tls) => {
                    let mut same = all.iter().filter_map(|(_, known)| *known);
                    let same = same.find(|l| l.config.tls.as_ref() == Some(tls)).and_then(|l| l.tls.clone());
                    Some(match same {
                        Some(same) => same,
                        None => {
                            let certificates =
                                Certificates::new(tls).map_err(problem(format!("{at}.tls.certificates")))?;
                            let mut server =
                                tls::server(tls, Arc::clone(&certificates)).map_err(problem(format!("{at}.tls")))?;
                            if listener.protocol == Protocol::Tcp {
                                Arc::make_mut(&mut server).alpn_protocols.clear();
                            }
                            (server, certificates)
                        }
                    })
                }
            };
            let former_routes = all.iter().find_map(|(_, known)| *known).map(|l| &*l.routes);
            let routes = Arc::new(matching::Table::new(&listener.routes, &pools, &caches, former_routes));
            let shared = Arc::new(listener.clone());
            for (j, (written, known)) in all.into_iter().enumerate() {
                let field = || if j == 0 { format!("{at}.address") } else { format!("{at}.also[{}]", j - 1) };
                let address = crate::address::bind(written).ok_or_else(|| problem(field())("is no address".into()))?;
                let name = match (listener.name.as_str(), j) {
                    ("", _) => written.to_owned(),
                    (name, 0) => name.to_owned(),
                    (name, _) => format!("{name} {written}"),
                };
                listeners.push(Arc::new(Listener {
                    name,
                    written: written.to_owned(),
                    // A port of the system's own choice stays the one it chose.
                    address: known.map_or(address, |l| l.address),
                    trusted: listener.trusted_proxies.iter().filter_map(|n| Network::parse(n)).collect(),
                    routes: Arc::clone(&routes),
                    pool: listener.pool.as_ref().and_then(|name| pools.get(name).cloned()),
                    metrics: known.map_or_else(Arc::default, |l| Arc::clone(&l.metrics)),
                    tls: tls.clone(),
                    config: Arc::clone(&shared),
                }));
            }
        }
        Ok(Self { config, listeners, pools, caches, limits, names })
    }

    /// Starts what keeps the pools true, and caches' tiers on disk; tells of names that no certificate is for. What goes on
    /// is left alone.
    pub fn start(&self, former: Option<&Self>) {
        for listener in &self.listeners {
            let Some((_, certificates)) = &listener.tls else { continue };
            let known = |host: &str| former.is_some_and(|f| f.listeners.iter().any(|l| l.serves_with_tls(host)));
            let hosts: std::collections::BTreeSet<&String> =
                listener.config.routes.iter().flat_map(|route| &route.hosts).collect();
            for host in hosts.into_iter().filter(|host| !certificates.covers(host) && !known(host)) {
                tracing::warn!(
                    listener = listener.name,
                    host,
                    "no certificate is for this name: the first one is shown"
                );
            }
        }
        for (name, pool) in &self.pools {
            if former.and_then(|f| f.pools.get(name)).is_none_or(|known| !Arc::ptr_eq(known, pool)) {
                pool.start(&self.names);
            }
        }
        for (name, cache) in &self.caches {
            let known = former.and_then(|f| f.caches.get(name));
            if known.is_none_or(|known| !Arc::ptr_eq(known, cache)) {
                cache.start(known.map(Arc::as_ref));
            }
        }
    }
}

impl Listener {
    /// Whether what a peer says about others is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Whether a connection's PROXY protocol header is believed.
    pub fn trusts_proxy_header(&self, address: IpAddr) -> bool {
        self.trusted.is_empty() || self.trusts(address)
    }

    /// The port that clients ask for.
    pub fn port(&self) -> u16 {
        self.config.public_port.unwrap_or(self.address.port())
    }

    /// The route of a request.
    pub fn find(&self, request: &crate::http1::Request) -> Option<Found<'_>> {
        self.routes.find(request)
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.all()
    }

    fn serves_with_tls(&self, host: &str) -> bool {
        self.tls.is_some() && self.config.routes.iter().any(|route| route.hosts.iter().any(|h| h == host))
    }

    /// With another address: where the system chose the port.
    pub fn at(&self, address: SocketAddr) -> bool {
        self.address == address
    }
}
