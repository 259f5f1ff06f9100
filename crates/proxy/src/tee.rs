//! What is kept of requests that went to two places, and the report of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

/// Upper bounds in microseconds, a quarter more each: good to a tenth or so from 50 µs to two minutes.
const BUCKETS: usize = 66;

/// Statuses and latencies of both sides of one mirror.
#[derive(Debug)]
pub struct Comparison {
    route: String,
    pool: String,
    /// Requests copied.
    pub copied: AtomicU64,
    /// Requests not copied, because their body was too large or too many copies were under way.
    pub skipped: AtomicU64,
    /// Copies under way.
    pub active: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    production: Side,
    experiment: Side,
    same: u64,
    different: u64,
    /// The latest differences: target, statuses.
    examples: std::collections::VecDeque<Example>,
}

#[derive(Debug, Default, Clone)]
struct Side {
    statuses: std::collections::BTreeMap<u16, u64>,
    buckets: Vec<u64>,
    count: u64,
    micros: u64,
    slowest: u64,
}

/// A request that the two sides answered differently.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// Method and target.
    pub request: String,
    /// Production's status.
    pub production: u16,
    /// The experiment's; 0 if it gave no answer.
    pub experiment: u16,
}

/// The report of one mirror.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The route.
    pub route: String,
    /// The pool that gets copies.
    pub experiment_pool: String,
    /// Requests copied.
    pub copied: u64,
    /// Requests not copied: body over 1 MiB, or too many copies under way.
    pub skipped: u64,
    /// Both sides gave the same status.
    pub same_status: u64,
    /// They did not.
    pub different_status: u64,
    /// Production's side.
    pub production: SideReport,
    /// The experiment's.
    pub experiment: SideReport,
    /// The latest differences.
    pub differences: Vec<Example>,
}

/// One side.
#[derive(Debug, Serialize)]
pub struct SideReport {
    /// Answers.
    pub answers: u64,
    /// By status; 0: no answer.
    pub statuses: std::collections::BTreeMap<u16, u64>,
    /// Milliseconds.
    pub mean_ms: f64,
    /// Half are faster.
    pub p50_ms: f64,
    /// One in a hundred is slower.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Comparison {
    /// Nothing compared yet.
    pub fn new(route: &str, pool: &str) -> Self {
        Self {
            route: route.to_owned(),
            pool: pool.to_owned(),
            copied: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            active: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Both sides have answered (0: or not).
    pub fn record(&self, request: impl FnOnce() -> String, production: (u16, Duration), experiment: (u16, Duration)) {
        let mut state = self.state.lock();
        state.production.add(production);
        state.experiment.add(experiment);
        if production.0 == experiment.0 {
            state.same += 1;
        } else {
            state.different += 1;
            if state.examples.len() == 20 {
                state.examples.pop_front();
            }
            state.examples.push_back(Example {
                request: request(),
                production: production.0,
                experiment: experiment.0,
            });
        }
    }

    /// The pool that gets copies.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// How many copies were answered with production's status, and how many with another one.
    pub fn statuses(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.same, state.different)
    }

    /// What is known by now.
    pub fn report(&self) -> Report {
        let state = self.state.lock();
        Report {
            route: self.route.clone(),
            experiment_pool: self.pool.clone(),
            copied: self.copied.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            same_status: state.same,
            different_status: state.different,
            production: state.production.report(),
            experiment: state.experiment.report(),
            differences: state.examples.iter().cloned().collect(),
        }
    }
}

impl Side {
    fn add(&mut self, (status, took): (u16, Duration)) {
        *self.statuses.entry(status).or_default() += 1;
        let micros = took.as_micros() as u64;
        self.buckets.resize(BUCKETS, 0);
        let bucket = (0..BUCKETS - 1).find(|i| micros as f64 <= bound(*i)).unwrap_or(BUCKETS - 1);
        self.buckets[bucket] += 1;
        self.count += 1;
        self.micros += micros;
        self.slowest = self.slowest.max(micros);
    }

    fn report(&self) -> SideReport {
        let quantile = |q: f64| {
            let wanted = (self.count as f64 * q).ceil() as u64;
            let mut seen = 0;
            let at = self.buckets.iter().position(|n| {
                seen += n;
                seen >= wanted.max(1)
            });
            at.map_or(0.0, |i| bound(i).min(self.slowest as f64) / 1000.0)
        };
        SideReport {
            answers: self.count,
            statuses: self.statuses.clone(),
            mean_ms: if self.count == 0 { 0.0 } else { self.micros as f64 / self.count as f64 / 1000.0 },
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: self.slowest as f64 / 1000.0,
        }
    }
}

fn bound(bucket: usize) -> f64 {
    50.0 * 1.25f64.powi(bucket as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_tells_statuses_and_latencies_of_both_sides() {
        let comparison = Comparison::new("r", "beta");
        for i in 0..100u64 {
            let experiment = if i == 0 { 500 } else { 200 };
            comparison.record(
                || format!("GET /{i}"),
                (200, Duration::from_millis(10)),
                (experiment, Duration::from_millis(20 + 1000 * (i / 98))),
            );
        }
        let report = comparison.report();
        assert_eq!((report.same_status, report.different_status), (99, 1));
        assert_eq!(report.experiment.statuses.get(&500), Some(&1));
        assert_eq!(report.differences[0].request, "GET /0");
        assert!(
            (9.0..13.0).contains(&report.production.p50_ms) && (18.0..25.0).contains(&report.experiment.p50_ms),
            "{report:?}"
        );
        assert!(report.experiment.p99_ms > 900.0, "{report:?}");
    }
}
