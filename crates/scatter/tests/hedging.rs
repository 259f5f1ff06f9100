//! What second requests bring, in time that the test itself turns: no clock decides.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::future::join_all;
use parking_lot::Mutex;
use scatter::{
    budget::Budget,
    config::{self, Hedge},
    leaf::{Ask, Failure, Leaf, Rules},
};
use serde_json::Value;
use tokio::time::Instant;

/// A leaf that answers within 8 to 12 ms, and one time in a hundred after a second.
struct OneInHundred {
    asked: AtomicU64,
}

impl Ask for OneInHundred {
    type Call = ();

    async fn ask(&self, _: SocketAddr, (): &(), _: Duration) -> Result<Value, Failure> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        // A fixed sequence that looks like chance (SplitMix64).
        let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 27;
        let time = if mixed.is_multiple_of(100) { 1000 } else { 8 + mixed / 100 % 5 };
        tokio::time::sleep(Duration::from_millis(time)).await;
        Ok(Value::Null)
    }
}

fn leaf(name: &str, replicas: u16) -> Leaf {
    let leaf = Leaf::new(&config::Leaf { name: name.into(), replicas: vec!["127.0.0.1:1".into()], tls: None });
    let addresses: Vec<SocketAddr> = (1..=replicas).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    leaf.set_replicas(&addresses, None);
    leaf
}

fn rules(enabled: bool, per_leaf: usize) -> Rules {
    let hedge = Hedge { enabled, ..Hedge::default() };
    let budget = Mutex::new(Budget::percent(hedge.budget_percent));
    Rules { hedge, budget, per_leaf }
}

/// The 99th percentile of requests over nine leaves, and how many questions were put.
async fn run(enabled: bool, requests: usize) -> (Duration, u64) {
    let asker = OneInHundred { asked: AtomicU64::new(0) };
    let rules = rules(enabled, 10);
    let leaves: Vec<Leaf> = (0..9).map(|number| leaf(&format!("shard-{number}"), 2)).collect();
    let mut took = Vec::new();
    for _ in 0..requests {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(5);
        let answers = join_all(leaves.iter().map(|leaf| leaf.ask(&asker, &(), true, deadline, &rules))).await;
        assert!(answers.iter().all(|(answer, _)| answer.is_ok()));
        took.push(began.elapsed());
    }
    took.sort_unstable();
    (took[requests * 99 / 100], asker.asked.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn hedging_brings_the_p99_down_fivefold_for_at_most_five_percent_more_requests() {
    let (without, asked) = run(false, 2000).await;
    assert_eq!(asked, 9 * 2000);
    let (with, asked) = run(true, 2000).await;
    assert!(without >= Duration::from_secs(1), "{without:?}");
    assert!(with * 5 <= without, "{with:?} with, {without:?} without");
    assert!(asked <= 9 * 2000 * 105 / 100, "{asked} questions for {}", 9 * 2000);
}

/// The first replica never answers, the second at once.
struct OneDead;

impl Ask for OneDead {
    type Call = ();

    async fn ask(&self, replica: SocketAddr, (): &(), time: Duration) -> Result<Value, Failure> {
        if replica.port() == 1 {
            tokio::time::sleep(time).await;
            return Err(Failure::Deadline(time));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Value::Null)
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hangs_is_left_alone_after_the_first_time() {
    let leaf = leaf("shard-0", 2);
    let rules = rules(true, 10);
    let mut failures = 0;
    for _ in 0..200 {
        let deadline = Instant::now() + Duration::from_secs(1);
        failures += usize::from(leaf.ask(&OneDead, &(), true, deadline, &rules).await.0.is_err());
    }
    assert!(failures <= 1, "{failures} of 200");
}

/// Answers after 10 ms, and refuses the connection on the first port.
struct OneRefuses;

impl Ask for OneRefuses {
    type Call = ();

    async fn ask(&self, replica: SocketAddr, (): &(), _: Duration) -> Result<Value, Failure> {
        if replica.port() == 1 { Err(Failure::Connect("refused".into())) } else { Ok(Value::Null) }
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_was_sent_even_an_unsafe_request_goes_to_another_replica() {
    let leaf = leaf("shard-0", 2);
    let rules = rules(false, 10);
    for _ in 0..50 {
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(leaf.ask(&OneRefuses, &(), false, deadline, &rules).await.0, Ok(Value::Null));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_is_full_is_missing_at_once_and_has_room_again_later() {
    let (leaf, rules) = (leaf("shard-0", 1), rules(false, 1));
    let deadline = Instant::now() + Duration::from_secs(1);
    let asker = OneInHundred { asked: AtomicU64::new(0) };
    let (first, second) =
        tokio::join!(leaf.ask(&asker, &(), true, deadline, &rules), leaf.ask(&asker, &(), true, deadline, &rules),);
    assert_eq!((first.0, second.0), (Ok(Value::Null), Err(Failure::Limit(1))));
    assert!(leaf.ask(&asker, &(), true, deadline, &rules).await.0.is_ok());
    assert_eq!(leaf.in_hand(), 0);
}

/// Answers after 10 ms, but for one replica of one leaf, which takes a second.
struct OneSlowReplica;

impl Ask for OneSlowReplica {
    /// The leaf's number.
    type Call = usize;

    async fn ask(&self, replica: SocketAddr, leaf: &usize, _: Duration) -> Result<Value, Failure> {
        let time = if *leaf == 4 && replica.port() == 2 { 1000 } else { 10 };
        tokio::time::sleep(Duration::from_millis(time)).await;
        Ok(Value::Null)
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_over_nine_leaves_does_not_wait_for_one_slow_replica() {
    let rules = rules(true, 10);
    let leaves: Vec<Leaf> = (0..9).map(|number| leaf(&format!("shard-{number}"), 2)).collect();
    let mut took = Vec::new();
    for _ in 0..2000 {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(5);
        let asked = leaves.iter().enumerate().map(|(number, leaf)| async move { (number, leaf) });
        let answers = join_all(asked.map(|one| async {
            let (number, leaf) = one.await;
            leaf.ask(&OneSlowReplica, &number, true, deadline, &rules).await.0
        }));
        assert!(answers.await.iter().all(Result::is_ok));
        took.push(began.elapsed());
    }
    took.sort_unstable();
    assert!(took[2000 * 99 / 100] <= Duration::from_millis(50), "{:?}", took[2000 * 99 / 100]);
}
