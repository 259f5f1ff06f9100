//! twemproxy's statistics port: whoever connects gets one JSON object, and the connection is closed. What monitors twemproxy
//! reads it (`nutcracker -s`, its `notes/recommendation.md`). Numbers that have no meaning here are left out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::plan::Plan;
use crate::stats::{Number, PoolStats, ShardStats, Stats};

/// How long somebody who does not read is written to.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long accepting rests when there are no descriptors left.
const REST: Duration = Duration::from_millis(100);

/// Listens at `address`, and answers until the process ends.
///
/// # Errors
/// When nothing can listen there.
pub async fn serve(address: SocketAddr, stats: Arc<Stats>, plan: Arc<RwLock<Plan>>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let began = Instant::now();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(REST).await;
                continue;
            };
            let text = format!("{}\n", object(&stats, &plan.read(), began.elapsed()));
            tokio::spawn(async move {
                let told = async {
                    stream.write_all(text.as_bytes()).await?;
                    stream.shutdown().await
                };
                // Who does not read what was asked for has lost no more than that.
                let _ = tokio::time::timeout(PATIENCE, told).await;
            });
        }
    });
    Ok(())
}

/// twemproxy's name of a number, and where it is counted here.
type Named<T> = (&'static str, fn(&T) -> &Number);

const OF_SHARDS: [Named<ShardStats>; 8] = [
    ("server_err", |stats| &stats.errors),
    ("server_timedout", |stats| &stats.timeouts),
    ("server_connections", |stats| &stats.connections),
    ("requests", |stats| &stats.requests),
    ("request_bytes", |stats| &stats.request_bytes),
    ("responses", |stats| &stats.responses),
    ("response_bytes", |stats| &stats.response_bytes),
    ("out_queue", |stats| &stats.waiting),
];

const OF_POOLS: [Named<PoolStats>; 3] = [
    ("client_connections", |stats| &stats.clients),
    ("total_client_connections", |stats| &stats.accepted),
    ("client_err", |stats| &stats.refused),
];

fn object(stats: &Stats, plan: &Plan, up: Duration) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let source = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let shards = stats.of_shards(&OF_SHARDS.map(|(_, of)| of));
    let ejections = stats.of_shards(&[|stats: &ShardStats| &stats.ejections]);
    let pools = stats.of_pools(&OF_POOLS.map(|(_, of)| of));
    let (mut open, mut ever) = (0, 0);
    let mut all = Map::new();
    for pool in &plan.pools {
        let mut one = Map::new();
        if let Some((_, numbers)) = pools.iter().find(|(name, _)| *name == pool.name) {
            one.extend(OF_POOLS.iter().zip(numbers).map(|((name, _), number)| ((*name).to_owned(), (*number).into())));
            (open, ever) = (open + numbers[0], ever + numbers[1]);
        }
        let ejects: u64 =
            ejections.iter().filter(|(name, ..)| *name == pool.name).map(|(_, _, number)| number[0]).sum();
        one.insert("server_ejects".to_owned(), ejects.into());
        for shard in &pool.shards {
            let counts = shards.iter().find(|(of, name, _)| *of == pool.name && **name == *shard.name);
            let number = |at: usize| counts.map_or(0, |(_, _, numbers)| numbers[at]);
            let named = OF_SHARDS.iter().enumerate().map(|(at, (name, _))| ((*name).to_owned(), number(at).into()));
            one.insert(shard.name.to_string(), Value::Object(named.collect()));
        }
        all.insert(pool.name.to_string(), Value::Object(one));
    }
    let mut whole = json!({
        "service": "nutcracker",
        "source": source.trim_end(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": up.as_secs(),
        "timestamp": now.as_secs(),
        "total_connections": ever,
        "curr_connections": open,
    });
    if let Value::Object(whole) = &mut whole {
        whole.append(&mut all);
    }
    whole
}
