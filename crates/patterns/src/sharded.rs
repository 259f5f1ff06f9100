//! ShardedService: routers before shards, which are there already or are made for the purpose.

use std::str::FromStr;

use controllers::queue::Key;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use pattern_kinds::patterns::{PatternStatus, ShardTemplate, ShardedService, Tier};
use proxy::config::{self as http, Balance, Endpoint, Route, Target};
use serde_json::{Value, json};
use sharding::config::{Config, Pool, Server};

use crate::{
    Settings,
    pattern::Pattern,
    plan::{Configuration, Plan, Port, Refusal, Waits},
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

    fn plan(&self, watched: &Watched, settings: &Settings, now: Timestamp) -> Result<Plan, Refusal> {
        let protocol = self.spec.protocol.as_deref().unwrap_or("Redis");
        let usual = match protocol {
            "Memcached" => 11_211,
            "HTTP" => 80,
            _ => 6379,
        };
        let port = self.spec.port.unwrap_or(usual);
        let mut missing = Vec::new();
        let mut waits = None;
        let shards = shards(self, usual, watched, settings, &mut missing, &mut waits);
        let backends = i32::try_from(shards.len()).unwrap_or(i32::MAX);
        let more = self.made(usual, watched, settings, now, &mut waits);
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
            more,
            waits,
        })
    }
}

/// The hash unless another one is asked for. twemproxy's own default, fnv1a_64 cut to 32 bits, leaves keys that differ
/// only at their end side by side on the ring: `user:1` to `user:9` are one shard's.
const HASH: &str = "murmur";

trait Rendering {
    fn configuration(&self, protocol: &str, port: i32, shards: &[Shard]) -> Result<Configuration, Refusal>;
    fn made(
        &self,
        usual: i32,
        watched: &Watched,
        settings: &Settings,
        now: Timestamp,
        waits: &mut Option<Waits>,
    ) -> Vec<Value>;
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
    fn made(
        &self,
        usual: i32,
        watched: &Watched,
        settings: &Settings,
        now: Timestamp,
        waits: &mut Option<Waits>,
    ) -> Vec<Value> {
        let Some(template) = self.spec.shards.as_ref().and_then(|s| s.template.as_ref()) else { return Vec::new() };
        let name = self.metadata.name.clone().unwrap_or_default();
        let namespace = self.metadata.namespace.clone().unwrap_or_default();
        let mut set = stateful_set(&name, template);
        if let Some(present) = watched.stateful_sets.get(&Key::new(namespace, format!("{name}-shard")))
            && let Some((replicas, until)) = leaving(&present, template.replicas, settings, now)
        {
            set["spec"]["replicas"] = replicas.into();
            set["metadata"]["annotations"][LEAVE] = until.to_string().into();
            let count = replicas - template.replicas;
            let message = format!("{count} shards that left the ring go when everybody has learnt of it");
            *waits = Some(Waits { message, until: Some(until) });
        }
        vec![headless(&name, template, usual), set]
    }
}

fn shards(
    object: &ShardedService,
    usual: i32,
    watched: &Watched,
    settings: &Settings,
    missing: &mut Vec<String>,
    waits: &mut Option<Waits>,
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
    let held = object.status.as_ref().and_then(|status| status.backends);
    let mut joined = |set: Option<&StatefulSet>, wanted: i32| {
        let joined = on_ring(wanted, held, set);
        if joined < wanted {
            let message = format!("{} shards join when all {wanted} are ready", wanted - joined);
            *waits = Some(Waits { message, until: None });
        }
        joined
    };
    if let Some(template) = &shards.template {
        let name = format!("{}-shard", object.metadata.name.as_deref().unwrap_or_default());
        let set = watched.stateful_sets.get(&Key::new(namespace, &name));
        let replicas = joined(set.as_deref(), template.replicas);
        return of_set(&name, &name, replicas, template.port.unwrap_or(usual));
    }
    let Some(wanted) = &shards.stateful_set else { return Vec::new() };
    let Some(set) = watched.stateful_sets.get(&Key::new(namespace, &wanted.name)) else {
        missing.push(format!("StatefulSet {:?} not found", wanted.name));
        return Vec::new();
    };
    let spec = set.spec.as_ref();
    let service = spec.and_then(|s| s.service_name.clone()).unwrap_or_default();
    let replicas = joined(Some(&*set), spec.and_then(|s| s.replicas).unwrap_or(1));
    let start = spec.and_then(|s| s.ordinals.as_ref()?.start).unwrap_or(0);
    if service.is_empty() {
        missing.push(format!("StatefulSet {:?} has no serviceName, so its pods have no names", wanted.name));
        return Vec::new();
    }
    let mut all = of_set(&wanted.name, &service, start + replicas, wanted.port.unwrap_or(usual));
    all.drain(..usize::try_from(start).unwrap_or(0).min(all.len()));
    all
}

/// How many shards of a set are on the ring. Those that are there stay, ready or not; new ones join when all are ready, since
/// the keys that move to them would be asked for in vain until then.
fn on_ring(wanted: i32, held: Option<i32>, set: Option<&StatefulSet>) -> i32 {
    let Some(held) = held.filter(|held| (1..wanted).contains(held)) else { return wanted };
    let status = set.and_then(|set| set.status.as_ref());
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let told = set.is_some_and(|set| status.and_then(|s| s.observed_generation) >= set.metadata.generation);
    if told && ready >= wanted { wanted } else { held }
}

/// On a StatefulSet whose last shards are on the ring no more: when they go.
const LEAVE: &str = "patterns.hythe.dev/shards-leave";

/// How many shards stay and until when, while there are more than wanted: routers learn first that some leave.
fn leaving(present: &StatefulSet, wanted: i32, settings: &Settings, now: Timestamp) -> Option<(i32, Timestamp)> {
    let replicas = present.spec.as_ref()?.replicas.filter(|replicas| *replicas > wanted)?;
    let told = present.metadata.annotations.as_ref().and_then(|all| all.get(LEAVE)?.parse::<Timestamp>().ok());
    // What a ConfigMap says reaches Hythe's pods at once; elsewhere a kubelet may look again after a minute and a half.
    let until = told.unwrap_or(now + SignedDuration::from_secs(if settings.list_endpoints { 5 } else { 90 }));
    (until > now).then_some((replicas, until))
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
    let mut config = http::Config {
        listeners: vec![listener(HTTP, None)],
        pools: vec![pool],
        access_log: true,
        ..Default::default()
    };
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

    #[test]
    fn new_shards_join_when_all_are_ready_and_those_there_stay() {
        let set = |ready: i32, told: i64| -> StatefulSet {
            let status = json!({"replicas": 3, "readyReplicas": ready, "observedGeneration": told});
            serde_json::from_value(
                json!({"metadata": {"generation": 2}, "spec": {"selector": {}, "template": {}}, "status": status}),
            )
            .expect("a StatefulSet")
        };
        for (wanted, held, set, joined) in [
            (3, None, None, 3),
            (3, Some(2), None, 2),
            (3, Some(2), Some(set(2, 2)), 2),
            (3, Some(2), Some(set(3, 2)), 3),
            (3, Some(2), Some(set(3, 1)), 2),
            (3, Some(3), Some(set(1, 2)), 3),
            (1, Some(3), Some(set(3, 2)), 1),
            (3, Some(0), Some(set(0, 2)), 3),
        ] {
            assert_eq!(on_ring(wanted, held, set.as_ref()), joined, "{wanted} wanted, {held:?} held");
        }
    }

    #[test]
    fn shards_that_leave_go_after_everybody_has_learnt_of_it() {
        let set = |replicas: i32, leaves: Option<Timestamp>| -> StatefulSet {
            let annotations: std::collections::BTreeMap<_, _> =
                leaves.iter().map(|at| (LEAVE, at.to_string())).collect();
            serde_json::from_value(json!({
                "metadata": {"annotations": annotations}, "spec": {"replicas": replicas, "selector": {}, "template": {}},
            }))
            .expect("a StatefulSet")
        };
        let mut settings = Settings::new("x");
        settings.list_endpoints = true;
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).expect("a time of our age");
        assert_eq!(leaving(&set(2, None), 3, &settings, at(0)), None, "more are wanted than there are");
        assert_eq!(leaving(&set(3, None), 1, &settings, at(0)), Some((3, at(5))));
        assert_eq!(leaving(&set(3, Some(at(5))), 1, &settings, at(4)), Some((3, at(5))));
        assert_eq!(leaving(&set(3, Some(at(5))), 1, &settings, at(5)), None, "now they go");
        settings.list_endpoints = false;
        assert_eq!(leaving(&set(3, None), 1, &settings, at(0)), Some((3, at(90))));
    }
}
