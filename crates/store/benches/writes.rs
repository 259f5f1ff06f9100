//! Durable writes through the whole store: 32 concurrent writers, each waiting for its answer, 700-byte
//! values; then reads, and a watch of it all.
//!
//! `cargo bench -p store --bench writes [-- WRITES]`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use store::{Change, Compare, Embedded, EmbeddedConfig, Outcome, Store, Txn, Value};

const WRITERS: usize = 32;

fn main() {
    let writes: usize = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(200_000);
    let root = std::env::var("HYTHE_BENCH_DIR").unwrap_or_else(|_| "target".into());
    let dir = tempfile::tempdir_in(root).expect("HYTHE_BENCH_DIR is writable");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts");
    runtime.block_on(async {
        let store = Embedded::open(EmbeddedConfig::new(dir.path())).expect("opens");
        for watchers in [0, 1, 1000] {
            let writes = if watchers == 1000 { writes / 10 } else { writes };
            creates(&store, writes, watchers).await;
        }
        gets(&store).await;
        lists(&store).await;
        println!("resident                      {:>9} MiB", rss_mib());
        store.close();
        let start = Instant::now();
        let store = Embedded::open(EmbeddedConfig::new(dir.path())).expect("opens");
        println!("reopen of {:>8} revisions  {:>9} ms", store.revision(), start.elapsed().as_millis());
        let start = Instant::now();
        store.compact(store.revision()).await.expect("compacts");
        println!("compaction (nothing to free)  {:>9} ms", start.elapsed().as_millis());
    });
}

async fn creates(store: &Arc<Embedded>, writes: usize, watchers: usize) {
    let value = Bytes::from(vec![b'v'; 700]);
    let from = store.revision() + 1;
    let each = writes / WRITERS;
    let mut watching = Vec::new();
    for _ in 0..watchers {
        let mut watch = store.watch("/registry/configmaps/", from).await.expect("starts");
        watching.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < each * WRITERS {
                seen += watch.next().await.expect("goes on").expect("no error").len();
            }
        }));
    }
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (store, value) = (store.clone(), value.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::with_capacity(each);
            for n in 0..each {
                let key: Arc<str> = format!("/registry/configmaps/default/bench-{watchers}-{writer}-{n}").into();
                let begun = Instant::now();
                let txn = Txn {
                    compares: vec![Compare { key: key.clone(), mod_revision: 0 }],
                    changes: vec![Change::Put(key, Value { bytes: value.clone(), stamp_at: Some(100) })],
                };
                assert!(matches!(store.txn(txn).await, Ok(Outcome::Committed(_))));
                latencies.push(begun.elapsed());
            }
            latencies
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("no panic"));
    }
    let wall = start.elapsed().as_secs_f64();
    for task in watching {
        task.await.expect("no panic");
    }
    let cpu = (cpu_time() - cpu).as_micros() as f64 / latencies.len() as f64;
    latencies.sort();
    let (p50, p99) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
    let rate = latencies.len() as f64 / wall;
    println!("creates, {watchers:>4} watchers       {rate:>9.0} /s   {cpu:.1} us CPU each, p50 {p50:?}, p99 {p99:?}");
}

async fn gets(store: &Arc<Embedded>) {
    let start = Instant::now();
    for n in 0..200_000 {
        let key = format!("/registry/configmaps/default/bench-1000-{}-{}", n % WRITERS, n / WRITERS % 500);
        assert!(store.get(&key, None).await.expect("reads").is_some(), "{key}");
    }
    println!("gets, one task                {:>9.0} /s", 200_000.0 / start.elapsed().as_secs_f64());
}

async fn lists(store: &Arc<Embedded>) {
    let start = Instant::now();
    for _ in 0..500 {
        let page = store.range("/registry/configmaps/default/bench-1000-7-", "/registry/configmaps0", None, 500).await;
        assert_eq!(page.expect("reads").entries.len(), 500);
    }
    println!("lists of 500, one task        {:>9.0} /s", 500.0 / start.elapsed().as_secs_f64());
}

fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("getrusage works");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()) as u64))
        .sum()
}

fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|l| l.starts_with("VmRSS")).expect("the kernel reports VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}
