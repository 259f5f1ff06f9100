//! A route at work: its targets by weight, its edits, what it does to paths.

use std::net::IpAddr;
use std::sync::Arc;

use super::cors;
use super::headers::Edits;
use crate::cache::Cache;
use crate::config::{self, HeaderEdit, Key, PathRewrite, Redirect, Rewrite};
use crate::http1::Request;
use crate::metrics::RouteMetrics;
use crate::pool::Pool;
use crate::tee::Comparison;

/// A route.
pub struct Route {
    /// What it was told.
    pub config: config::Route,
    /// What it is called.
    pub name: String,
    /// Where its requests go.
    pub targets: Vec<Target>,
    /// All shares together.
    pub total_weight: u64,
    /// Copies.
    pub mirrors: Vec<Mirror>,
    /// The cache before the targets.
    pub cache: Option<Arc<Cache>>,
    /// Counts.
    pub metrics: Arc<RouteMetrics>,
    /// Edits of answers that come from no target.
    pub response_edits: Edits,
}

/// One of a route's targets.
pub struct Target {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Its share.
    pub weight: u64,
    /// Answered with this instead of going to the pool.
    pub status: Option<u16>,
    /// Edits of requests.
    pub request_edits: Edits,
    /// Edits of responses.
    pub response_edits: Edits,
    /// Answered with a redirect.
    pub redirect: Option<Redirect>,
    /// What is passed on instead of what was asked for.
    rewrite: Rewrite,
}

/// A copy for another pool.
pub struct Mirror {
    /// The pool.
    pub pool: Arc<Pool>,
    /// What it was told.
    pub config: config::Mirror,
    /// What is kept for the report.
    pub comparison: Arc<Comparison>,
}

impl Route {
    /// A route, with the counts it had.
    pub fn new(
        config: &config::Route,
        name: String,
        pools: &std::collections::HashMap<String, Arc<Pool>>,
        caches: &std::collections::HashMap<String, Arc<Cache>>,
        known: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let filters = &config.filters;
        let cors = filters.cors.as_ref().map_or_else(HeaderEdit::default, |_| cors::edit());
        let targets: Vec<Target> = config
            .to
            .iter()
            .filter_map(|target| {
                let pool = match target.status {
                    // One that leads nowhere: it has no endpoint and is never asked.
                    Some(_) => Pool::new(config::Pool::default(), None).ok()?,
                    None => Arc::clone(pools.get(&target.pool)?),
                };
                let (own, all) =
                    (target.rewrite.clone().unwrap_or_default(), filters.rewrite.clone().unwrap_or_default());
                Some(Target {
                    redirect: target.redirect.clone(),
                    rewrite: Rewrite { host: own.host.or(all.host), path: own.path.or(all.path) },
                    pool,
                    weight: u64::from(target.weight),
                    status: target.status,
                    request_edits: Edits::new(&[&filters.request_headers, &target.request_headers]),
                    response_edits: Edits::new(&[&cors, &filters.response_headers, &target.response_headers]),
                })
            })
            .collect();
        let mirrors = filters.mirrors.iter().filter_map(|mirror| {
            let comparison = known
                .and_then(|k| k.mirrors.iter().find(|m| m.config.pool == mirror.pool))
                .map(|m| Arc::clone(&m.comparison));
            let comparison = comparison.unwrap_or_else(|| Arc::new(Comparison::new(&name, &mirror.pool)));
            Some(Mirror { pool: Arc::clone(pools.get(&mirror.pool)?), config: mirror.clone(), comparison })
        });
        let mirrors = mirrors.collect();
        Arc::new(Self {
            total_weight: targets.iter().map(|t| t.weight).sum(),
            targets,
            mirrors,
            cache: config.cache.as_ref().and_then(|name| caches.get(name).cloned()),
            metrics: known.map_or_else(Arc::default, |k| Arc::clone(&k.metrics)),
            response_edits: Edits::new(&[&cors, &filters.response_headers]),
            name,
            config: config.clone(),
        })
    }

    /// The target of a request: drawn by weight, or by what the client sticks to, so that it never flips while weights stay.
    /// When weights change, only as many clients move as must.
    pub fn target(&self, request: &Request, client: IpAddr) -> Option<&Target> {
        if self.targets.len() == 1 {
            return self.targets.first().filter(|t| t.weight > 0);
        }
        if self.total_weight == 0 {
            return None;
        }
        let draw = match &self.config.stick {
            Some(key) => match key_of(key, request) {
                Some(value) => crate::pool::digest(value),
                None => match client {
                    IpAddr::V4(v4) => crate::pool::digest(&v4.octets()),
                    IpAddr::V6(v6) => crate::pool::digest(&v6.octets()),
                },
            },
            None => rand::random(),
        };
        // A point in 0..1 rather than a remainder: 90/10 to 80/20 moves a tenth of the clients and no others.
        let mut point = ((u128::from(draw) * u128::from(self.total_weight)) >> 64) as u64;
        self.targets.iter().find(|target| {
            let here = point < target.weight;
            point = point.saturating_sub(target.weight);
            here
        })
    }
}

impl Target {
    /// Path and query as they are passed on; `None`: unchanged.
    pub fn rewritten(&self, request: &Request, prefix: &str) -> Option<Vec<u8>> {
        Some(rewrite(self.rewrite.path.as_ref()?, request, prefix))
    }

    /// Where a route's copies for a pool go: as its requests do, if not for a target of its own.
    pub fn of_copies(route: &Route, pool: &Arc<Pool>) -> Self {
        let filters = &route.config.filters;
        Self {
            pool: Arc::clone(pool),
            weight: 1,
            status: None,
            request_edits: Edits::new(&[&filters.request_headers]),
            response_edits: Edits::default(),
            redirect: None,
            rewrite: filters.rewrite.clone().unwrap_or_default(),
        }
    }

    /// The host that is passed on, if it is another.
    pub fn host(&self) -> Option<&str> {
        self.rewrite.host.as_deref()
    }
}

/// Where a redirect leads, and with which status.
pub fn location(redirect: &Redirect, request: &Request, prefix: &str, tls: bool, port: u16) -> (u16, Vec<u8>) {
    let scheme = redirect.scheme.as_deref().unwrap_or(if tls { "https" } else { "http" });
    let mut location = format!("{scheme}://").into_bytes();
    match &redirect.host {
        Some(host) => location.extend_from_slice(host.as_bytes()),
        None => location.extend_from_slice(request.hostname()),
    }
    // Gateway API: a port that is not said is the scheme's own if the scheme is, else the listener's.
    let own = if scheme == "https" { 443 } else { 80 };
    let port = redirect.port.unwrap_or(if redirect.scheme.is_some() { own } else { port });
    if port != own {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    match &redirect.path {
        Some(path) => location.extend_from_slice(&rewrite(path, request, prefix)),
        None if request.target().first() == Some(&b'/') => location.extend_from_slice(request.target()),
        None => location.push(b'/'),
    }
    (redirect.status.unwrap_or(302), location)
}

fn rewrite(path: &PathRewrite, request: &Request, prefix: &str) -> Vec<u8> {
    let mut out = match path {
        PathRewrite::Full(full) => full.clone().into_bytes(),
        PathRewrite::Prefix(new) => {
            let rest = request.path().strip_prefix(prefix.trim_end_matches('/').as_bytes()).unwrap_or(request.path());
            let mut out = new.trim_end_matches('/').as_bytes().to_vec();
            if !rest.is_empty() && rest[0] != b'/' {
                out.push(b'/');
            }
            out.extend_from_slice(rest);
            out
        }
    };
    if out.first() != Some(&b'/') {
        out.insert(0, b'/');
    }
    if let Some(query) = request.query() {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out
}

/// What of a request decides; `None`: the client's address does, also for who lacks what should.
pub fn key_of<'a>(key: &Key, request: &'a Request) -> Option<&'a [u8]> {
    match key {
        Key::Address => None,
        Key::Header(name) => request.header(name),
        Key::Cookie(name) => request.cookie(name),
        Key::Uri => Some(request.target()),
        Key::Path => Some(request.path()),
        Key::Query(name) => request.query().and_then(|query| super::matching::parameter(query, name)),
    }
}
