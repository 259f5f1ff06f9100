//! Nine leaves, of which each is slow one time in a hundred: the root's p99 with and without second requests, over HTTP on
//! loopback. `cargo bench -p scatter`; `REQUESTS` sets how many (default 2000).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_ends::{Client, Names, Trust};
use scatter::{Incoming, Metrics, Root, config::Config};
use tokio::net::TcpListener;

const SLOW: Duration = Duration::from_millis(500);
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() {
    let requests: usize = std::env::var("REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    println!("9 leaves x 2 replicas, 2 ms, one answer in 100 after {SLOW:?}; {requests} requests, {AT_ONCE} at once");
    let without = run(false, requests).await;
    let with = run(true, requests).await;
    println!(
        "p99 {:.1} x lower for {:.2} % more requests",
        without.p99 / with.p99,
        100.0 * (with.asked / without.asked - 1.0)
    );
}

struct Figures {
    p99: f64,
    asked: f64,
}

async fn run(hedge: bool, requests: usize) -> Figures {
    let asked = Arc::new(AtomicU64::new(0));
    let mut text = format!("deadline: 5s\nhedge: {{enabled: {hedge}}}\nleaves:\n");
    for number in 0..9 {
        let (first, second) = (leaf(asked.clone()).await, leaf(asked.clone()).await);
        text += &format!("- {{name: shard-{number}, replicas: [\"{first}\", \"{second}\"]}}\n");
    }
    let names = Names::default();
    let client = Client::new(names.clone(), Trust::System);
    let config = Config::parse(&text).expect("the configuration is legal");
    let root = Arc::new(Root::new(config, None, client, names, Metrics::default()));
    let workers = (0..AT_ONCE).map(|_| {
        let root = root.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            for _ in 0..requests / AT_ONCE {
                let incoming = Incoming {
                    method: Method::GET,
                    uri: "/api/v1/search?q=x".parse().expect("a legal address"),
                    headers: Default::default(),
                    body: Bytes::new(),
                    trace: None,
                };
                let began = Instant::now();
                let answer = root.answer(incoming).await;
                assert!(answer.status == StatusCode::OK && answer.missing.is_empty(), "{:?}", answer.body);
                took.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            took
        })
    });
    let mut took: Vec<f64> = Vec::new();
    for worker in futures::future::join_all(workers).await {
        took.extend(worker.expect("the worker ends"));
    }
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took[((took.len() as f64 * part) as usize).min(took.len() - 1)];
    let asked = asked.load(Ordering::Relaxed) as f64;
    let name = if hedge { "hedged" } else { "plain" };
    println!("{name:>7}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, {asked} questions", at(0.5), at(0.95), at(0.99));
    Figures { p99: at(0.99), asked }
}

async fn leaf(asked: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a socket has an address");
    tokio::spawn(http_ends::serve(listener, Default::default(), move |_, _| {
        let asked = asked.clone();
        async move {
            asked.fetch_add(1, Ordering::Relaxed);
            let time = if rand::random::<u32>().is_multiple_of(100) { SLOW } else { Duration::from_millis(2) };
            tokio::time::sleep(time).await;
            http_ends::json(StatusCode::OK, "[1]")
        }
    }));
    address
}
