//! RequestSplit: shares of the requests to different Services, the same user always to the same one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use pattern_kinds::patterns::{PatternStatus, RequestSplit, Sticky, Tier};
use proxy::config::{Config, Filters, Key, Listener, Mirror, Route, Target};

use crate::{
    Settings,
    pattern::Pattern,
    plan::{Configuration, Plan, Port, Refusal},
    world::Watched,
};

/// Where tiers of HTTP listen in their pods.
pub const HTTP: i32 = 8080;
/// The cookie by which a user is known unless the object names another.
const COOKIE: &str = "hythe-split";

impl Pattern for RequestSplit {
    const CONTROLLER: &'static str = "hythe-request-split";

    fn services(&self) -> Vec<&str> {
        let backends = self.spec.backends.iter().map(|b| b.name.as_str());
        backends.chain(self.spec.tee.iter().map(|t| t.name.as_str())).collect()
    }

    fn tier(&self) -> Option<&Tier> {
        self.spec.tier.as_ref()
    }

    fn status(&self) -> Option<&PatternStatus> {
        self.status.as_ref()
    }

    fn plan(&self, watched: &Watched, settings: &Settings, _: Timestamp) -> Result<Plan, Refusal> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let port = self.spec.port.unwrap_or(80);
        let mut config = Config {
            listeners: vec![listener(HTTP, self.spec.trusted_proxies.as_ref())],
            access_log: true,
            ..Default::default()
        };
        let mut missing = BTreeSet::new();
        let mut pool = |config: &mut Config, service: &str, at: Option<i32>| {
            let name = format!("{service}:{}", at.unwrap_or(port));
            if config.pools.iter().all(|pool| pool.name != name) {
                match watched.reach(settings, namespace, service, at.unwrap_or(port)) {
                    Ok(reach) => config.pools.push(reach.pool(&name)),
                    Err(error) => {
                        missing.insert(error.to_string());
                        config.pools.push(proxy::config::Pool { name: name.clone(), ..Default::default() });
                    }
                }
            }
            name
        };
        let mut route = Route { stick: self.spec.sticky.as_ref().map(key), ..Default::default() };
        for backend in &self.spec.backends {
            let weight = u32::try_from(backend.weight.unwrap_or(1)).unwrap_or_default();
            let pool = pool(&mut config, &backend.name, backend.port);
            route.to.push(Target { pool, weight, ..Default::default() });
        }
        if let Some(tee) = &self.spec.tee {
            let pool = pool(&mut config, &tee.name, tee.port);
            let percent = f64::from(tee.percent.unwrap_or(100));
            route.filters = Filters { mirrors: vec![Mirror { pool, percent, compare: true }], ..Default::default() };
        }
        config.listeners[0].routes = vec![route];
        Ok(Plan {
            command: &["proxy", "http"],
            configuration: rendered(&config)?,
            port: Port { name: "http", port, target: HTTP },
            peers: None,
            replicas: 2,
            memory: 0,
            disk: None,
            backends: i32::try_from(self.spec.backends.len()).unwrap_or(i32::MAX),
            missing: missing.into_iter().collect(),
            more: Vec::new(),
            waits: None,
        })
    }
}

fn key(sticky: &Sticky) -> Key {
    let name = sticky.name.clone();
    match sticky.by.as_deref() {
        Some("Cookie") => Key::Cookie(name.unwrap_or_else(|| COOKIE.to_owned())),
        Some("Header") => Key::Header(name.unwrap_or_default().to_ascii_lowercase()),
        _ => Key::Address,
    }
}

/// A listener of HTTP on all addresses of the pod, and whose word on who the client is it believes.
pub fn listener(port: i32, trusted: Option<&Vec<String>>) -> Listener {
    let trusted_proxies = trusted.cloned().unwrap_or_default();
    Listener { address: format!("0.0.0.0:{port}"), trusted_proxies, ..Default::default() }
}

/// The configuration as the container reads it, held against its own checks first.
pub fn rendered(config: &Config) -> Result<Configuration, Refusal> {
    let invalid = |message: String| Refusal { reason: "InvalidConfiguration", message };
    proxy::config::check(config).map_err(|problem| invalid(problem.to_string()))?;
    Ok(Configuration::Text(serde_yaml_ng::to_string(config).map_err(|error| invalid(error.to_string()))?))
}
