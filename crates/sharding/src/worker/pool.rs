//! A pool as one event loop sees it: its ring, and the endpoints behind each shard.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hash_ring::{Placement, Ring};

use super::io::Listener;
use crate::config::{Address, Reads, Writes};
use crate::plan::PoolPlan;
use crate::protocol::redis::Access;
use crate::stats::{PoolStats, ShardStats, Stats};

/// One request in so many is looked at for hot keys.
const SAMPLING: u64 = 16;

/// A pool.
#[derive(Debug)]
pub struct PoolState {
    pub plan: Arc<PoolPlan>,
    pub stats: Arc<PoolStats>,
    pub listener: Option<Listener>,
    ring: Ring,
    /// How many ejections the ring takes account of, and when the next ejected shard may be tried again.
    ejections: u64,
    next_retry: Option<u64>,
    pub endpoints: Vec<Endpoint>,
    pub shards: Vec<ShardState>,
    chance: u64,
}

/// A server of a shard.
#[derive(Debug)]
pub struct Endpoint {
    pub address: Address,
    /// The shard it belongs to.
    pub shard: usize,
    /// Whether it is a replica.
    pub replica: bool,
    /// The connections to it: RESP2's (or memcached's), then RESP3's; a lane each.
    pub connections: [Vec<Option<usize>>; 2],
    /// A replica that failed is left alone until then, in milliseconds of the process's clock.
    pub rests_until: u64,
}

/// A shard.
#[derive(Debug)]
pub struct ShardState {
    /// Its endpoints: the primary, then its replicas.
    pub endpoints: Vec<usize>,
    turn: usize,
    pub stats: Arc<ShardStats>,
}

impl PoolState {
    /// A pool without connections.
    pub fn new(plan: Arc<PoolPlan>, worker: usize, stats: &Stats, now: u64) -> PoolState {
        let mut endpoints = Vec::new();
        let mut shards = Vec::new();
        let lanes = plan.pool.server_connections as usize;
        for (index, shard) in plan.shards.iter().enumerate() {
            let first = endpoints.len();
            for (at, address) in std::iter::once(&shard.primary).chain(&shard.replicas).enumerate() {
                endpoints.push(Endpoint {
                    address: address.clone(),
                    shard: index,
                    replica: at > 0,
                    connections: [vec![None; lanes], vec![None; lanes]],
                    rests_until: 0,
                });
            }
            shards.push(ShardState {
                endpoints: (first..endpoints.len()).collect(),
                turn: worker,
                stats: stats.shard(worker, &plan.name, &shard.name),
            });
        }
        let ejections = plan.shared.ejections.load(Ordering::Acquire);
        let (ring, next_retry) = plan.ring(now);
        PoolState {
            stats: stats.pool(worker, &plan.name, plan.pool.hot_keys * 4),
            plan,
            listener: None,
            ring,
            ejections,
            next_retry,
            endpoints,
            shards,
            chance: 0x9e37_79b9_7f4a_7c15 ^ (worker as u64) << 32 ^ now,
        }
    }

    /// The shard a key belongs to; `None` while all are ejected.
    pub fn shard_of(&mut self, key: &[u8], now: u64) -> Option<usize> {
        let chance = self.chance();
        if self.plan.pool.hot_keys > 0 && chance.is_multiple_of(SAMPLING) {
            self.stats.hot_keys.lock().add(key, SAMPLING);
        }
        let pool = &self.plan.pool;
        if pool.auto_eject_hosts {
            let ejections = self.plan.shared.ejections.load(Ordering::Acquire);
            if ejections != self.ejections || self.next_retry.is_some_and(|at| now >= at) {
                self.ejections = ejections;
                (self.ring, self.next_retry) = self.plan.ring(now);
            }
        } else if self.shards.len() == 1 {
            return Some(0);
        }
        let hash = match pool.distribution {
            Placement::Random => (chance >> 32) as u32,
            _ => pool.hash.of(pool.hash_tag.map_or(key, |tag| tag.part(key))),
        };
        self.ring.lookup(hash)
    }

    /// The endpoint that gets a request to a shard.
    pub fn endpoint_for(&mut self, shard: usize, access: Access, now: u64) -> usize {
        let ShardState { endpoints, turn, .. } = &mut self.shards[shard];
        let primary = endpoints[0];
        let candidates = match (access, self.plan.pool.reads) {
            (Access::Write, _) | (_, Reads::Primary) => return primary,
            (Access::Read, Reads::Replicas) => &endpoints[1..],
            (Access::Read, Reads::All) => &endpoints[..],
        };
        for _ in 0..candidates.len() {
            *turn = turn.wrapping_add(1);
            let endpoint = candidates[*turn % candidates.len()];
            if self.endpoints[endpoint].rests_until <= now {
                return endpoint;
            }
        }
        primary
    }

    /// The shards that are not ejected.
    pub fn live_shards(&self, now: u64) -> Vec<usize> {
        (0..self.plan.shards.len()).filter(|&shard| self.plan.shards[shard].health.is_live(now)).collect()
    }

    /// The replicas that get a copy of each write to a shard.
    pub fn copies_to(&self, shard: usize) -> &[usize] {
        match self.plan.pool.writes {
            Writes::Primary => &[],
            Writes::All => &self.shards[shard].endpoints[1..],
        }
    }

    /// A number nobody can foresee well enough to matter (xorshift64).
    fn chance(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }
}
