//! CacheTier: an HTTP cache before a Service, in few and large replicas.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pattern_kinds::patterns::{CacheTier, PatternStatus, Tier};
use proxy::config::{Cache, Config, Disk, Pool, Route, Size, Target};

use crate::{
    Settings,
    pattern::Pattern,
    plan::{Plan, Port, Refusal, peers_name},
    split::{HTTP, listener, rendered},
    world::{Watched, service_host},
};

const NAME: &str = "tier";

impl Pattern for CacheTier {
    const CONTROLLER: &'static str = "hythe-cache-tier";

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
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let port = self.spec.port.unwrap_or(80);
        let memory = bytes("memory", self.spec.memory.as_ref())?.unwrap_or(256 << 20);
        let disk = bytes("disk", self.spec.disk.as_ref())?;
        let mut cache = Cache { name: NAME.to_owned(), memory: Size(memory), ..Default::default() };
        if let Some(largest) = bytes("maxObjectSize", self.spec.max_object_size.as_ref())? {
            cache.max_response = Size(largest);
        }
        cache.disk = disk.map(|size| Disk { path: "/var/cache/hythe".into(), size: Size(size) });
        cache.purge_from = self.spec.purge_from.clone().unwrap_or_default();
        let purged = !cache.purge_from.is_empty();
        if purged {
            cache.purge_peers = vec![format!("{}:{HTTP}", service_host(settings, namespace, &peers_name(self)))];
        }
        let (pool, missing) =
            backend(watched, settings, namespace, &self.spec.service.name, self.spec.service.port.unwrap_or(port));
        let route = Route {
            to: vec![Target { pool: pool.name.clone(), ..Default::default() }],
            cache: Some(NAME.to_owned()),
            ..Default::default()
        };
        let mut config = Config {
            listeners: vec![listener(HTTP, self.spec.trusted_proxies.as_ref())],
            pools: vec![pool],
            caches: vec![cache],
            access_log: true,
            ..Default::default()
        };
        config.listeners[0].routes = vec![route];
        Ok(Plan {
            command: &["proxy", "http"],
            configuration: rendered(&config)?,
            port: Port { name: "http", port, target: HTTP },
            peers: purged.then_some(Port { name: "purge", port: HTTP, target: HTTP }),
            replicas: 2,
            memory: memory.saturating_add(memory / 4),
            disk,
            backends: 1,
            missing,
            more: Vec::new(),
            waits: None,
        })
    }
}

/// The pool of the Service behind a tier, and what is missing of it.
pub fn backend(
    watched: &Watched,
    settings: &Settings,
    namespace: &str,
    service: &str,
    port: i32,
) -> (Pool, Vec<String>) {
    let name = format!("{service}:{port}");
    match watched.reach(settings, namespace, service, port) {
        Ok(reach) => (reach.pool(&name), Vec::new()),
        Err(error) => (Pool { name, ..Default::default() }, vec![error.to_string()]),
    }
}

/// A quantity in whole bytes.
fn bytes(field: &str, quantity: Option<&Quantity>) -> Result<Option<u64>, Refusal> {
    let Some(quantity) = quantity else { return Ok(None) };
    let whole = quantity.0.parse::<api::quantity::Quantity>().ok().and_then(|q| u64::try_from(q.value()).ok());
    whole.filter(|bytes| *bytes > 0).map(Some).ok_or_else(|| Refusal {
        reason: "Invalid",
        message: format!("spec.{field}: {:?} is no amount of bytes", quantity.0),
    })
}
