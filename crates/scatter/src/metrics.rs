//! What the root counts.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::leaf::{Course, Failure};

/// Counters of a root. Cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    requests: Family<ByStatus, Counter>,
    partial: Counter,
    seconds: Histogram,
    calls: Family<ByLeaf, Counter>,
    second: Family<BySecond, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLeaf {
    leaf: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySecond {
    leaf: String,
    kind: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Inner {
            requests: Family::default(),
            partial: Counter::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            calls: Family::default(),
            second: Family::default(),
        }))
    }
}

impl Metrics {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let Inner { requests, partial, seconds, calls, second } = &*self.0;
        registry.register("hythe_scatter_requests", "Requests by status", requests.clone());
        registry.register("hythe_scatter_partial_results", "Answers from which a leaf is missing", partial.clone());
        registry.register("hythe_scatter_request_seconds", "From request to answer", seconds.clone());
        registry.register("hythe_scatter_leaf_calls", "Questions to leaves by result", calls.clone());
        registry.register(
            "hythe_scatter_second_requests",
            "Second requests: hedge, retry, won (the second answered first), unpaid (the budget was used up)",
            second.clone(),
        );
    }

    /// A request has been answered.
    pub fn request(&self, status: u16, partial: bool, took: Duration) {
        self.0.requests.get_or_create(&ByStatus { status }).inc();
        self.0.seconds.observe(took.as_secs_f64());
        if partial {
            self.0.partial.inc();
        }
    }

    /// A leaf has been asked.
    pub fn call(&self, leaf: &str, failure: Option<&Failure>, course: Course) {
        let result = failure.map_or("Ok", Failure::reason);
        self.0.calls.get_or_create(&ByLeaf { leaf: leaf.to_owned(), result }).inc();
        let kinds = [
            ("hedge", course.hedged),
            ("retry", course.retried),
            ("won", course.second_won),
            ("unpaid", course.unpaid),
        ];
        for (kind, happened) in kinds {
            if happened {
                self.0.second.get_or_create(&BySecond { leaf: leaf.to_owned(), kind }).inc();
            }
        }
    }
}
