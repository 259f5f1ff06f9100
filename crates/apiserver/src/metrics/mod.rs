//! Counters of the server, in Prometheus' text format.

mod requests;

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;

pub(crate) use requests::Labels;
use requests::Requests;

use crate::server::ApiServer;

/// What is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    pub requests: Requests,
    /// Requests under way that change nothing, and those that may; of watches there is a count of its own.
    pub reading: Arc<AtomicI64>,
    pub changing: Arc<AtomicI64>,
    checks: Mutex<BTreeMap<(&'static str, &'static str), Checked>>,
    watches: Arc<AtomicI64>,
    pub connections: Arc<AtomicI64>,
}

/// How one health check has gone.
#[derive(Clone, Copy, Default)]
struct Checked {
    last: bool,
    passed: u64,
    failed: u64,
}

/// Something that is counted as long as it is open.
pub(crate) struct Open(Arc<AtomicI64>);

impl Open {
    pub fn count(gauge: &Arc<AtomicI64>) -> Open {
        gauge.fetch_add(1, Ordering::Relaxed);
        Open(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A request with this verb is being answered, until the value is dropped; watches are counted apart.
    pub fn under_way(&self, verb: &str) -> Option<Open> {
        match verb {
            "watch" => None,
            "get" | "list" => Some(Open::count(&self.reading)),
            _ => Some(Open::count(&self.changing)),
        }
    }

    /// A health check of `endpoint` was made.
    pub fn checked(&self, name: &'static str, endpoint: &'static str, passed: bool) {
        let mut checks = self.checks.lock();
        let checked = checks.entry((name, endpoint)).or_default();
        checked.last = passed;
        *(if passed { &mut checked.passed } else { &mut checked.failed }) += 1;
    }

    /// The text of `/metrics/slis`: of each health check its last result and how often it passed and failed.
    pub fn slis(&self) -> String {
        let mut out =
            "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n\
                       # TYPE kubernetes_healthcheck gauge\n"
                .to_owned();
        let checks = self.checks.lock();
        for ((name, endpoint), checked) in checks.iter() {
            let last = u8::from(checked.last);
            let _ = writeln!(out, "kubernetes_healthcheck{{name=\"{name}\",type=\"{endpoint}\"}} {last}");
        }
        out.push_str(
            "# HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n\
             # TYPE kubernetes_healthchecks_total counter\n",
        );
        for ((name, endpoint), checked) in checks.iter() {
            let results = [("error", checked.failed), ("success", checked.passed)];
            for (status, count) in results.into_iter().filter(|(_, count)| *count > 0) {
                let labels = format!("name=\"{name}\",status=\"{status}\",type=\"{endpoint}\"");
                let _ = writeln!(out, "kubernetes_healthchecks_total{{{labels}}} {count}");
            }
        }
        out
    }

    /// A watch began; it ends when the value is dropped.
    pub fn watch_opened(&self) -> Open {
        Open::count(&self.watches)
    }
}

fn help(out: &mut String, name: &str, kind: &str, text: &str) {
    let _ = writeln!(out, "# HELP {name} {text}\n# TYPE {name} {kind}");
}

/// The text of `/metrics`.
pub(crate) fn text(server: &ApiServer) -> String {
    let mut out = String::new();
    let metrics = &server.metrics;
    metrics.requests.write(&mut out);
    help(
        &mut out,
        "apiserver_current_inflight_requests",
        "gauge",
        "Requests that are being answered, but for watches.",
    );
    for (kind, count) in [("mutating", &metrics.changing), ("readOnly", &metrics.reading)] {
        let count = count.load(Ordering::Relaxed);
        let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}");
    }
    help(&mut out, "apiserver_longrunning_requests", "gauge", "Watches that are open.");
    let watches = metrics.watches.load(Ordering::Relaxed);
    let _ = writeln!(out, "apiserver_longrunning_requests{{verb=\"WATCH\"}} {watches}");
    help(&mut out, "apiserver_open_connections", "gauge", "TCP connections that are open.");
    let _ = writeln!(out, "apiserver_open_connections {}", metrics.connections.load(Ordering::Relaxed));
    help(&mut out, "apiserver_storage_objects", "gauge", "Objects stored, by resource.");
    for resource in api::catalogue::all().iter().filter(|r| crate::version::is_stored(r) && r.allows("list")) {
        let count = server.cache.kind(resource.storage.prefix).len();
        let (group, plural) = (resource.group, resource.plural);
        let name = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{name}\"}} {count}");
    }
    help(&mut out, "hythe_store_revision", "gauge", "Revision of the last change.");
    let _ = writeln!(out, "hythe_store_revision {}", server.store.revision());
    out
}
