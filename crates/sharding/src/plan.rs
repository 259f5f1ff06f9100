//! A configuration made ready for the event loops: members of each ring, their health, shared between all loops.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hash_ring::{Member, Placement, Ring};
use tokio::sync::Notify;

use crate::config::{Address, Config, Pool, Server};

/// All pools.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The pools, in the order of their names.
    pub pools: Vec<Arc<PoolPlan>>,
}

/// One pool with the servers it has now.
#[derive(Debug)]
pub struct PoolPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its configuration.
    pub pool: Pool,
    /// The shards: the configured ones, then the discovered ones.
    pub shards: Vec<ShardPlan>,
    members: Vec<Member>,
    /// What all loops share of it, across reloads.
    pub shared: Arc<Shared>,
}

/// One shard.
#[derive(Debug)]
pub struct ShardPlan {
    /// Its name on the ring.
    pub name: String,
    /// Where it is reached.
    pub primary: Address,
    /// Its replicas.
    pub replicas: Vec<Address>,
    /// How it is doing.
    pub health: Arc<Health>,
}

/// A pool's state that all loops share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Counts ejections, so that loops learn of each other's.
    pub ejections: AtomicU64,
    /// Connected clients.
    pub clients: AtomicUsize,
    /// What DNS said of the pool's shards is old: the next request has it asked again.
    pub due: AtomicBool,
    /// Woken by that request.
    pub asked: Notify,
}

/// How a shard is doing, as twemproxy sees it.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    /// When it may be tried again, in milliseconds of the process's clock.
    retry_at: AtomicU64,
}

impl Plan {
    /// Makes a plan of a configuration, with what is known of shards by discovery. Health is taken over from `before`.
    #[must_use]
    pub fn new(config: &Config, discovered: &HashMap<String, Vec<Server>>, before: &Plan) -> Plan {
        let pools = config.pools.iter().map(|(name, pool)| {
            let of_name = |old: &&Arc<PoolPlan>| &*old.name == name;
            let renamed =
                |old: &&Arc<PoolPlan>| old.pool.listen == pool.listen && !config.pools.contains_key(&*old.name);
            let old = before.pools.iter().find(of_name).or_else(|| before.pools.iter().find(renamed));
            let found = discovered.get(name).map(Vec::as_slice).unwrap_or_default();
            Arc::new(PoolPlan::new(name, pool, found, old.map(|old| &**old)))
        });
        Plan { pools: pools.collect() }
    }
}

impl PoolPlan {
    fn new(name: &str, pool: &Pool, discovered: &[Server], before: Option<&PoolPlan>) -> PoolPlan {
        let mut shards: Vec<ShardPlan> = Vec::new();
        let mut members = Vec::new();
        for server in pool.servers.iter().chain(discovered) {
            let name = server.ring_name();
            if shards.iter().any(|shard| shard.name == name) {
                continue;
            }
            let old = before.and_then(|before| before.shards.iter().find(|shard| shard.name == name));
            members.push(server.member());
            shards.push(ShardPlan {
                primary: server.address.clone(),
                replicas: pool.replicas.get(&name).cloned().unwrap_or_default(),
                health: old.map(|old| old.health.clone()).unwrap_or_default(),
                name,
            });
        }
        let shared = before.map(|before| before.shared.clone()).unwrap_or_default();
        PoolPlan { name: name.into(), pool: pool.clone(), shards, members, shared }
    }

    /// Whether `other` is what this pool is called from now on, when `names` are the pools there are.
    #[must_use]
    pub fn becomes(&self, other: &PoolPlan, names: &[Arc<str>]) -> bool {
        self.pool.listen == other.pool.listen && !names.contains(&self.name)
    }

    /// The ring of the shards that are live at `now`, and when the next ejected one may be tried again.
    #[must_use]
    pub fn ring(&self, now: u64) -> (Ring, Option<u64>) {
        if !self.pool.auto_eject_hosts {
            return (Ring::new(self.pool.distribution, &self.members), None);
        }
        let retry_at = |index: usize| self.shards[index].health.retry_at.load(Ordering::Acquire);
        let ring = Ring::of_live(self.pool.distribution, &self.members, |index| retry_at(index) <= now);
        let next = (0..self.shards.len()).map(retry_at).filter(|&at| at > now).min();
        (ring, next)
    }

    /// The shard that a key belongs to when all are well; none for a distribution by chance.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<&ShardPlan> {
        let part = self.pool.hash_tag.map_or(key, |tag| tag.part(key));
        let hash = (self.pool.distribution != Placement::Random).then(|| self.pool.hash.of(part))?;
        let index =
            if self.shards.len() == 1 { 0 } else { Ring::new(self.pool.distribution, &self.members).lookup(hash)? };
        self.shards.get(index)
    }

    /// Counts a failure of a shard; true when that ejects it.
    pub fn failed(&self, shard: &Health, now: u64) -> bool {
        if !self.pool.auto_eject_hosts {
            return false;
        }
        let failures = shard.failures.fetch_add(1, Ordering::AcqRel) + 1;
        if failures < self.pool.server_failure_limit {
            return false;
        }
        shard.failures.store(0, Ordering::Release);
        shard.retry_at.store(now + self.pool.server_retry_timeout, Ordering::Release);
        self.shared.ejections.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// How long a replica that failed is left alone.
    #[must_use]
    pub fn replica_rest(&self) -> Duration {
        Duration::from_millis(self.pool.server_retry_timeout)
    }
}

impl Health {
    /// Whether the shard is not ejected, or may be tried again.
    pub fn is_live(&self, now: u64) -> bool {
        self.retry_at.load(Ordering::Acquire) <= now
    }

    /// Forgets failures: the shard has answered.
    pub fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Arc<PoolPlan> {
        let text = "a:\n  listen: 127.0.0.1:1\n  auto_eject_hosts: true\n  server_failure_limit: 2\n  \
                    server_retry_timeout: 1000\n  servers: [a:1:1, b:1:1, c:1:1]\n";
        Plan::new(&Config::parse(text).unwrap(), &HashMap::new(), &Plan::default()).pools[0].clone()
    }

    #[test]
    fn failures_in_a_row_eject_a_shard_until_its_time_is_over() {
        let plan = plan();
        let health = plan.shards[1].health.clone();
        assert!(!plan.failed(&health, 100));
        health.answered();
        assert!(!plan.failed(&health, 200), "an answer in between begins the count anew");
        assert!(plan.failed(&health, 300));
        let (ring, next) = plan.ring(301);
        assert_eq!((ring.members(), next), (2, Some(1300)));
        assert!((0..1000u32).all(|key| ring.lookup(key.wrapping_mul(0x9e37_79b9)) != Some(1)));
        let (ring, next) = plan.ring(1300);
        assert_eq!((ring.members(), next), (3, None));
    }

    #[test]
    fn health_is_kept_over_a_reload() {
        let before = plan();
        before.failed(&before.shards[0].health, 0);
        before.failed(&before.shards[0].health, 0);
        let after = PoolPlan::new("a", &before.pool, &[], Some(&before));
        assert_eq!(after.ring(10).0.members(), 2);
    }
}
