//! ShardedService: routers before shards, which are there already or are made for the purpose.

use std::str::FromStr;

use controllers::queue::Key;
use pattern_kinds::patterns::{PatternStatus, ShardTemplate, ShardedService, Tier};
use proxy::config::{self as http, Balance, Endpoint, Route, Target};
use serde_json::{Value, json};
use sharding::config::{Config, Pool, Server};

use crate::{
    Settings,
    pattern::Pattern,
    plan::{Configuration, Plan, Port, Refusal},
    split::{HTTP, listener, rendered},
    world::{Watched, service_host},
};

/// A server that holds keys: its name on the ring stays when its address changes.
struct Shard {
    name: String,
    host: String,
    port: i32,
    weight: i32,
}

impl Pattern for ShardedService {
    const CONTROLLER: &'static str = "hythe-sharded-service";

    fn services(&self) -> Vec<&str> {
        let services = self.spec.shards.iter().flat_map(|s| s.services.iter().flatten());
        services.map(|s| s.name.as_str()).collect()
    }

    fn stateful_set(&self) -> Option<&str> {
        Some(&self.spec.shards.as_ref()?.stateful_set.as_ref()?.name)
    }

    fn tier(&self) -> Option<&Tier> {
        self.spec.tier.as_ref()
    }

    fn status(&self) -> Option<&PatternStatus> {
        self.status.as_ref()
    }

    fn plan(&self, watched: &Watched, settings: &Settings) -> Result<Plan, Refusal> {
        let protocol = self.spec.protocol.as_deref().unwrap_or("Redis");
        let usual = match protocol {
            "Memcached" => 11_211,
            "HTTP" => 80,
            _ => 6379,
        };
        let port = self.spec.port.unwrap_or(usual);
        let mut missing = Vec::new();
        let shards = shards(self, usual, watched, settings, &mut missing);
        let backends = i32::try_from(shards.len()).unwrap_or(i32::MAX);
        let (command, configuration, target): (&'static [&'static str], _, _) = match (&self.spec.config_from, protocol)
        {
            (Some(from), _) => {
                (&["proxy", "shard"], Configuration::Key { name: from.name.clone(), key: from.key.clone() }, port)
            }
            // An object without shards yet has a configuration that says so.
            (None, _) if shards.is_empty() => {
                return Err(Refusal { reason: "NoShards", message: missing.join("; ") });
            }
            (None, "HTTP") => (&["proxy", "http"], http_configuration(&shards)?, HTTP),
            (None, _) => (&["proxy", "shard"], self.configuration(protocol, port, &shards)?, port),
        };
        Ok(Plan {
            command,
            configuration,
            port: Port { name: if protocol == "HTTP" { "http" } else { "shards" }, port, target },
            peers: None,
            replicas: 2,
            memory: 0,
            disk: None,
            backends,
            missing,
            more: self.made(usual),
        })
    }
}

/// The hash unless another one is asked for. twemproxy's own default, fnv1a_64 cut to 32 bits, leaves keys that differ
/// only at their end side by side on the ring: `user:1` to `user:9` are one shard's.
const HASH: &str = "murmur";

trait Rendering {
    fn configuration(&self, protocol: &str, port: i32, shards: &[Shard]) -> Result<Configuration, Refusal>;
    fn made(&self, usual: i32) -> Vec<Value>;
}

impl Rendering for ShardedService {
    /// twemproxy's own form.
    fn configuration(&self, protocol: &str, port: i32, shards: &[Shard]) -> Result<Configuration, Refusal> {
        let spec = &self.spec;
        let invalid = |message: String| Refusal { reason: "InvalidConfiguration", message };
        let mut servers = Vec::new();
        for Shard { name, host, port, weight } in shards {
            let server =
                Server::from_str(&format!("{host}:{port}:{weight} {name}")).map_err(|e| invalid(e.to_string()))?;
            servers.push(server);
        }
        let listen = format!("0.0.0.0:{port}").parse().map_err(|_| invalid(format!("port {port}")))?;
        let mut pool = Pool::new(listen, servers);
        pool.redis = protocol == "Redis";
        let hash = spec.hash.as_deref().unwrap_or(HASH);
        pool.hash = hash.parse().map_err(|_| invalid(format!("spec.hash: {hash:?} is no hash")))?;
        if let Some(distribution) = &spec.distribution {
            pool.distribution =
                distribution.parse().map_err(|_| invalid(format!("spec.distribution: {distribution:?} is none")))?;
        }
        if let Some(tag) = &spec.hash_tag {
            pool.hash_tag = Some(tag.parse().map_err(|_| invalid(format!("spec.hashTag: {tag:?} is none")))?);
        }
        pool.timeout = spec.timeout_milliseconds.and_then(|ms| u64::try_from(ms).ok());
        if let Some(eject) = &spec.auto_eject {
            pool.auto_eject_hosts = true;
            if let Some(failures) = eject.failures.and_then(|n| u32::try_from(n).ok()) {
                pool.server_failure_limit = failures;
            }
            if let Some(retry) = eject.retry_milliseconds.and_then(|n| u64::try_from(n).ok()) {
                pool.server_retry_timeout = retry;
            }
        }
        let name = self.metadata.name.clone().unwrap_or_default();
        let config = Config { pools: [(name, pool)].into() };
        let text = config.to_yaml().map_err(|e| invalid(e.to_string()))?;
        Config::parse(&text).map_err(|error| invalid(error.to_string()))?;
        Ok(Configuration::Text(text))
    }

    /// The StatefulSet and its headless Service, if shards are made for the purpose.
    fn made(&self, usual: i32) -> Vec<Value> {
        let Some(template) = self.spec.shards.as_ref().and_then(|s| s.template.as_ref()) else { return Vec::new() };
        let name = self.metadata.name.clone().unwrap_or_default();
        vec![headless(&name, template, usual), stateful_set(&name, template)]
    }
}

fn shards(
    object: &ShardedService,
    usual: i32,
    watched: &Watched,
    settings: &Settings,
    missing: &mut Vec<String>,
) -> Vec<Shard> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let Some(shards) = &object.spec.shards else { return Vec::new() };
    if let Some(services) = &shards.services {
        return services
            .iter()
            .map(|service| {
                let port = service.port.unwrap_or(usual);
                if let Err(error) = watched.reach(settings, namespace, &service.name, port) {
                    missing.push(error.to_string());
                }
                Shard {
                    name: service.name.clone(),
                    host: service_host(settings, namespace, &service.name),
                    port,
                    weight: service.weight.unwrap_or(1).max(1),
                }
            })
            .collect();
    }
    let of_set = |set: &str, service: &str, replicas: i32, port: i32| -> Vec<Shard> {
        let host = service_host(settings, namespace, service);
        (0..replicas)
            .map(|i| Shard { name: format!("{set}-{i}"), host: format!("{set}-{i}.{host}"), port, weight: 1 })
            .collect()
    };
    if let Some(template) = &shards.template {
        let set = format!("{}-shard", object.metadata.name.as_deref().unwrap_or_default());
        return of_set(&set, &set, template.replicas, template.port.unwrap_or(usual));
    }
    let Some(wanted) = &shards.stateful_set else { return Vec::new() };
    let Some(set) = watched.stateful_sets.get(&Key::new(namespace, &wanted.name)) else {
        missing.push(format!("StatefulSet {:?} not found", wanted.name));
        return Vec::new();
    };
    let spec = set.spec.as_ref();
    let service = spec.and_then(|s| s.service_name.clone()).unwrap_or_default();
    let replicas = spec.and_then(|s| s.replicas).unwrap_or(1);
    let start = spec.and_then(|s| s.ordinals.as_ref()?.start).unwrap_or(0);
    if service.is_empty() {
        missing.push(format!("StatefulSet {:?} has no serviceName, so its pods have no names", wanted.name));
        return Vec::new();
    }
    let mut all = of_set(&wanted.name, &service, start + replicas, wanted.port.unwrap_or(usual));
    all.drain(..usize::try_from(start).unwrap_or(0).min(all.len()));
    all
}

/// The same for HTTP: consistent hashing over the whole URI.
fn http_configuration(shards: &[Shard]) -> Result<Configuration, Refusal> {
    let pool = http::Pool {
        name: "shards".to_owned(),
        endpoints: shards
            .iter()
            .map(|shard| Endpoint {
                address: format!("{}:{}", shard.host, shard.port),
                weight: u32::try_from(shard.weight).unwrap_or(1),
                ..Default::default()
            })
            .collect(),
        balance: Balance::Hash,
        hash: Some(http::Key::Uri),
        ..Default::default()
    };
    let route = Route { to: vec![Target { pool: "shards".to_owned(), ..Default::default() }], ..Default::default() };
    let mut config =
        http::Config { listeners: vec![listener(HTTP)], pools: vec![pool], access_log: true, ..Default::default() };
    config.listeners[0].routes = vec![route];
    rendered(&config)
}

fn headless(name: &str, template: &ShardTemplate, usual: i32) -> Value {
    let port = template.port.unwrap_or(usual);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": format!("{name}-shard")},
        "spec": {
            "clusterIP": "None",
            // A shard has its place on the ring whether it is ready or not.
            "publishNotReadyAddresses": true,
            "selector": shard_labels(name),
            "ports": [{"name": "shard", "protocol": "TCP", "port": port, "targetPort": port}],
        },
    })
}

fn stateful_set(name: &str, template: &ShardTemplate) -> Value {
    let mut pods = json!(template.template);
    for (key, value) in shard_labels(name).as_object().into_iter().flatten() {
        pods["metadata"]["labels"][key] = value.clone();
    }
    let mut set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": format!("{name}-shard")},
        "spec": {
            "replicas": template.replicas,
            "serviceName": format!("{name}-shard"),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": shard_labels(name)},
            "template": pods,
        },
    });
    if let Some(claims) = &template.volume_claim_templates {
        set["spec"]["volumeClaimTemplates"] = json!(claims);
    }
    set
}

fn shard_labels(name: &str) -> Value {
    json!({"patterns.hythe.dev/shard-of": name})
}

#[cfg(test)]
mod tests {
    use hash_ring::{Hash, Member, Placement, Ring};

    use super::*;

    /// The share of the fullest and of the emptiest of four shards, against an equal share.
    fn spread(hash: Hash, keys: impl Iterator<Item = String>) -> (f64, f64) {
        let members: Vec<Member> = (0..4).map(|i| Member::new(format!("cache-shard-{i}"), 1)).collect();
        let ring = Ring::new(Placement::Ketama, &members);
        let (mut counts, mut all) = ([0.0; 4], 0.0);
        for key in keys {
            counts[ring.lookup(hash.of(key.as_bytes())).expect("there are shards")] += 1.0;
            all += 1.0;
        }
        let share = |count: f64| count * 4.0 / all;
        (share(counts.iter().copied().fold(0.0, f64::max)), share(counts.iter().copied().fold(all, f64::min)))
    }

    #[test]
    fn keys_that_differ_only_at_their_end_are_spread_by_the_default_hash() {
        let hash: Hash = HASH.parse().expect("it is one of twemproxy's");
        let few = || (0..100).map(|i| format!("user:{i}"));
        let letters = || (b'a'..=b'z').map(|c| format!("session:2026-11-22:{}", char::from(c)));
        for (what, (most, least)) in [
            ("10,000 numbers", spread(hash, (0..10_000).map(|i| format!("user:{i:05}")))),
            ("100 numbers", spread(hash, few())),
            ("26 letters", spread(hash, letters())),
        ] {
            assert!(most < 1.9 && least > 0.3, "{what}: {least} to {most} of an equal share");
        }
        // What this is about: with twemproxy's default, some shard has nearly none or nearly all of them.
        let (most, least) = spread(Hash::default(), letters());
        assert!(most > 1.9 || least < 0.3, "{least} to {most}");
    }
}
