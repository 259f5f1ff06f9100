//! RateLimit: limiters before a Service that refuse what is too much.

use jiff::Timestamp;
use pattern_kinds::patterns::{PatternStatus, RateLimit, Tier};
use proxy::config::{self, Algorithm, Config, Discovery, Duration, LimitBy, Peers, Route, Target};

use crate::{
    Settings,
    cache::backend,
    pattern::Pattern,
    plan::{Plan, Port, Refusal, peers_name},
    split::{HTTP, listener, rendered},
    world::{Watched, service_host},
};

const NAME: &str = "limit";
/// Where limiters ask each other.
const PEERS: i32 = 7946;

impl Pattern for RateLimit {
    const CONTROLLER: &'static str = "hythe-rate-limit";

    fn services(&self) -> Vec<&str> {
        vec![&self.spec.service.name]
    }

    fn tier(&self) -> Option<&Tier> {
        self.spec.tier.as_ref()
    }

    fn status(&self) -> Option<&PatternStatus> {
        self.status.as_ref()
    }

    fn plan(&self, watched: &Watched, settings: &Settings, _: Timestamp) -> Result<Plan, Refusal> {
        let spec = &self.spec;
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let port = spec.port.unwrap_or(80);
        let shared = spec.shared.unwrap_or(true);
        let period = i64::from(spec.limit.period_seconds.unwrap_or(1)).max(1);
        let number = |n: i64| u64::try_from(n).unwrap_or(1).max(1);
        let limit = config::RateLimit {
            name: NAME.to_owned(),
            by: vec![match spec.by.as_deref() {
                Some("Header") => LimitBy::Header(spec.header.clone().unwrap_or_default().to_ascii_lowercase()),
                Some("Path") => LimitBy::Path,
                Some("Identity") => LimitBy::Identity,
                _ => LimitBy::Address,
            }],
            algorithm: match spec.algorithm.as_deref() {
                Some("SlidingWindow") => Algorithm::SlidingWindow,
                _ => Algorithm::TokenBucket,
            },
            requests: number(spec.limit.requests),
            per: Duration::seconds(number(period)),
            burst: spec.limit.burst.map(number),
            tiers: spec
                .authenticated
                .iter()
                .map(|known| {
                    // A tier counts in the limit's own time.
                    let theirs = i64::from(known.limit.period_seconds.unwrap_or(1)).max(1);
                    let requests = known.limit.requests.saturating_mul(period) / theirs;
                    config::Tier {
                        name: "authenticated".to_owned(),
                        header: known.header.as_ref().map(|h| h.to_ascii_lowercase()),
                        requests: number(requests),
                        burst: known.limit.burst.map(number),
                        ..Default::default()
                    }
                })
                .collect(),
            shared,
            ..Default::default()
        };
        let (pool, missing) =
            backend(watched, settings, namespace, &spec.service.name, spec.service.port.unwrap_or(port));
        let route = Route {
            to: vec![Target { pool: pool.name.clone(), ..Default::default() }],
            rate_limits: vec![NAME.to_owned()],
            ..Default::default()
        };
        let mut config = Config {
            listeners: vec![listener(HTTP, spec.trusted_proxies.as_ref())],
            pools: vec![pool],
            rate_limits: vec![limit],
            access_log: true,
            ..Default::default()
        };
        config.listeners[0].routes = vec![route];
        if shared {
            let host = service_host(settings, namespace, &peers_name(self));
            config.peers = Some(Peers {
                address: format!("0.0.0.0:{PEERS}"),
                discovery: Some(Discovery::Dns(format!("{host}:{PEERS}"))),
                timeout: Duration::millis(50),
                ..Default::default()
            });
        }
        Ok(Plan {
            command: &["proxy", "http"],
            configuration: rendered(&config)?,
            port: Port { name: "http", port, target: HTTP },
            peers: shared.then_some(Port { name: "peers", port: PEERS, target: PEERS }),
            replicas: 2,
            memory: 0,
            disk: None,
            backends: 1,
            missing,
            more: Vec::new(),
            waits: None,
        })
    }
}
