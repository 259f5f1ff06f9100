//! What is counted: for each shard its load, latencies and failures, for each pool its clients and hot keys.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::hot_keys::SpaceSaving;

/// Upper bounds of the latency buckets, in microseconds.
const BUCKETS: [u64; 12] = [100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds to it; by its one writer only.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Takes from it; by its one writer only.
    pub fn subtract(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(amount), Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One event loop's counts of one shard.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Requests sent to it, parts of split ones each.
    pub requests: Number,
    /// Replies it gave.
    pub responses: Number,
    /// Bytes sent to it.
    pub request_bytes: Number,
    /// Bytes it sent.
    pub response_bytes: Number,
    /// Connections that failed or could not be made.
    pub errors: Number,
    /// Of these, the ones for want of an answer in time.
    pub timeouts: Number,
    /// Times it was ejected.
    pub ejections: Number,
    /// Open connections.
    pub connections: Number,
    /// Requests that wait for its answer.
    pub waiting: Number,
    latencies: [Number; BUCKETS.len() + 1],
    latency_micros: Number,
}

impl ShardStats {
    /// Counts how long an answer took.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS.len());
        self.latencies[bucket].add(1);
        self.latency_micros.add(micros);
    }
}

/// One event loop's counts of one pool.
#[derive(Debug, Default)]
pub struct PoolStats {
    /// Connected clients.
    pub clients: Number,
    /// Clients that have ever connected.
    pub accepted: Number,
    /// Requests refused here: unknown, malformed, without a shard.
    pub refused: Number,
    /// The most used keys; empty when none are counted.
    pub hot_keys: Mutex<SpaceSaving>,
}

/// What each event loop counts, by its number.
type ByLoop<T> = BTreeMap<usize, Arc<T>>;

/// The names of a pool and of one of its shards.
type PoolAndShard = (Arc<str>, Arc<str>);

/// All counts of the process. They outlive reloads of the configuration.
#[derive(Debug, Default)]
pub struct Stats {
    shards: Mutex<BTreeMap<PoolAndShard, ByLoop<ShardStats>>>,
    pools: Mutex<BTreeMap<Arc<str>, ByLoop<PoolStats>>>,
}

impl Stats {
    /// The counts that loop `worker` keeps of a shard.
    pub fn shard(&self, worker: usize, pool: &Arc<str>, shard: &str) -> Arc<ShardStats> {
        let key = (pool.clone(), Arc::from(shard));
        self.shards.lock().entry(key).or_default().entry(worker).or_default().clone()
    }

    /// The counts that loop `worker` keeps of a pool.
    pub fn pool(&self, worker: usize, pool: &Arc<str>, hot_keys: usize) -> Arc<PoolStats> {
        let stats = self.pools.lock().entry(pool.clone()).or_default().entry(worker).or_default().clone();
        *stats.hot_keys.lock() = SpaceSaving::new(hot_keys);
        stats
    }

    /// The most used keys of each pool.
    #[must_use]
    pub fn hot_keys(&self) -> Vec<(Arc<str>, SpaceSaving)> {
        let merged = |loops: &ByLoop<PoolStats>| {
            let mut all = SpaceSaving::default();
            loops.values().for_each(|stats| all.merge(&stats.hot_keys.lock()));
            all
        };
        self.pools.lock().iter().map(|(pool, loops)| (pool.clone(), merged(loops))).collect()
    }

    /// Counts of each shard: the names of its pool and its own, and the sums over all loops of what is asked for.
    #[must_use]
    pub fn of_shards(&self, asked: &[fn(&ShardStats) -> &Number]) -> Vec<(Arc<str>, Arc<str>, Vec<u64>)> {
        let shards = self.shards.lock();
        shards.iter().map(|((pool, shard), loops)| (pool.clone(), shard.clone(), sums(loops, asked))).collect()
    }

    /// The same of each pool.
    #[must_use]
    pub fn of_pools(&self, asked: &[fn(&PoolStats) -> &Number]) -> Vec<(Arc<str>, Vec<u64>)> {
        self.pools.lock().iter().map(|(pool, loops)| (pool.clone(), sums(loops, asked))).collect()
    }
}

fn sums<T>(loops: &ByLoop<T>, asked: &[fn(&T) -> &Number]) -> Vec<u64> {
    asked.iter().map(|of| loops.values().map(|stats| of(stats).value()).sum()).collect()
}

/// Hands the counts to the admin port.
#[derive(Debug)]
pub struct StatsCollector(pub Arc<Stats>);

/// A metric of a shard: its name, its help, whether it only grows, and where it is counted.
type ShardMetric = (&'static str, &'static str, bool, fn(&ShardStats) -> &Number);
/// The same of a pool.
type PoolMetric = (&'static str, &'static str, bool, fn(&PoolStats) -> &Number);

const SHARD_METRICS: [ShardMetric; 9] = [
    ("hythe_shard_requests", "Requests sent to a shard", true, |stats| &stats.requests),
    ("hythe_shard_responses", "Replies of a shard", true, |stats| &stats.responses),
    ("hythe_shard_request_bytes", "Bytes sent to a shard", true, |stats| &stats.request_bytes),
    ("hythe_shard_response_bytes", "Bytes a shard sent", true, |stats| &stats.response_bytes),
    ("hythe_shard_errors", "Connections to a shard that failed or could not be made", true, |stats| &stats.errors),
    ("hythe_shard_timeouts", "Connections to a shard given up for want of an answer", true, |stats| &stats.timeouts),
    ("hythe_shard_ejections", "Times a shard was ejected", true, |stats| &stats.ejections),
    ("hythe_shard_connections", "Open connections to a shard", false, |stats| &stats.connections),
    ("hythe_shard_waiting", "Requests that wait for a shard's answer", false, |stats| &stats.waiting),
];

const POOL_METRICS: [PoolMetric; 3] = [
    ("hythe_shard_pool_clients", "Connected clients of a pool", false, |stats| &stats.clients),
    ("hythe_shard_pool_accepted", "Clients that have connected to a pool", true, |stats| &stats.accepted),
    ("hythe_shard_pool_refused", "Requests refused without asking a shard", true, |stats| &stats.refused),
];

impl Collector for StatsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let shards = self.0.shards.lock();
        for (name, help, grows, number) in SHARD_METRICS {
            let kind = if grows { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for ((pool, shard), loops) in shards.iter() {
                let value = loops.values().map(|stats| number(stats).value()).sum();
                let labels = [("pool", &**pool), ("shard", &**shard)];
                encode(value, grows, family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "hythe_shard_latency_seconds",
            "From a request's arrival to its shard's whole reply",
            None,
            MetricType::Histogram,
        )?;
        for ((pool, shard), loops) in shards.iter() {
            let labels = [("pool", &**pool), ("shard", &**shard)];
            let mut buckets = Vec::with_capacity(BUCKETS.len() + 1);
            for index in 0..=BUCKETS.len() {
                let bound = BUCKETS.get(index).map_or(f64::MAX, |&micros| micros as f64 / 1e6);
                buckets.push((bound, loops.values().map(|stats| stats.latencies[index].value()).sum()));
            }
            let count = buckets.iter().map(|(_, count)| count).sum();
            let micros: u64 = loops.values().map(|stats| stats.latency_micros.value()).sum();
            family.encode_family(&labels)?.encode_histogram::<[(&str, &str); 0]>(
                micros as f64 / 1e6,
                count,
                &buckets,
                None,
            )?;
        }
        drop(shards);
        let pools = self.0.pools.lock();
        for (name, help, grows, number) in POOL_METRICS {
            let kind = if grows { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (pool, loops) in pools.iter() {
                let value = loops.values().map(|stats| number(stats).value()).sum();
                encode(value, grows, family.encode_family(&[("pool", &**pool)])?)?;
            }
        }
        drop(pools);
        let mut family = encoder.encode_descriptor(
            "hythe_shard_hot_key_requests",
            "Estimated requests for the most used keys of a pool, by sampling",
            None,
            MetricType::Gauge,
        )?;
        for (pool, sketch) in self.0.hot_keys() {
            for (key, count) in sketch.top(10) {
                let key = String::from_utf8_lossy(key);
                encode(count.count, false, family.encode_family(&[("pool", &*pool), ("key", &*key)])?)?;
            }
        }
        Ok(())
    }
}

fn encode(value: u64, grows: bool, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> Result<(), fmt::Error> {
    if grows {
        ConstCounter::new(value).encode(encoder)
    } else {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
    }
}
