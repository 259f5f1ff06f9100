//! Counters of the server, in Prometheus' text format.

mod families;
mod requests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use ::metrics::Exposition;
use parking_lot::Mutex;

use families::Families;
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
    pub families: Families,
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
        let mut out = Exposition::default();
        let checks = self.checks.lock();
        let mut last = out.family(
            "kubernetes_healthcheck",
            "gauge",
            "[STABLE] This metric records the result of a single healthcheck.",
        );
        for ((name, endpoint), checked) in checks.iter() {
            last.sample(&[("name", name), ("type", endpoint)], f64::from(u8::from(checked.last)));
        }
        let mut all = out.family(
            "kubernetes_healthchecks_total",
            "counter",
            "[STABLE] This metric records the results of all healthcheck.",
        );
        for ((name, endpoint), checked) in checks.iter() {
            let results = [("error", checked.failed), ("success", checked.passed)];
            for (status, count) in results.into_iter().filter(|(_, count)| *count > 0) {
                all.sample(&[("name", name), ("status", status), ("type", endpoint)], count as f64);
            }
        }
        out.into_text()
    }
}

/// A request that goes on, until the value is dropped.
pub(crate) struct GoingOn {
    server: Arc<ApiServer>,
    labels: Labels,
}

impl GoingOn {
    pub fn count(server: &Arc<ApiServer>, labels: Labels) -> GoingOn {
        server.metrics.families.going_on(labels, 1.0);
        GoingOn { server: server.clone(), labels }
    }
}

impl Drop for GoingOn {
    fn drop(&mut self) {
        self.server.metrics.families.going_on(self.labels, -1.0);
    }
}

/// The text of `/metrics`: of the server, and of the roles that share its process.
pub(crate) fn text(server: &ApiServer) -> String {
    let mut out = Exposition::default();
    let metrics = &server.metrics;
    metrics.requests.write(&mut out);
    metrics.families.write(&mut out);
    let mut under_way = out.family(
        "apiserver_current_inflight_requests",
        "gauge",
        "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
    );
    for (kind, count) in [("mutating", &metrics.changing), ("readOnly", &metrics.reading)] {
        under_way.sample(&[("request_kind", kind)], count.load(Ordering::Relaxed) as f64);
    }
    out.family("apiserver_open_connections", "gauge", "TCP connections that are open.")
        .sample(&[], metrics.connections.load(Ordering::Relaxed) as f64);
    let mut objects: Vec<(String, usize)> = api::catalogue::all()
        .iter()
        .filter(|r| crate::version::is_stored(r) && r.allows("list"))
        .map(|resource| {
            let (group, plural) = (resource.group, resource.plural);
            let name = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
            (name, server.cache.kind(resource.storage.prefix).len())
        })
        .collect();
    objects.sort();
    for (name, help) in [
        (
            "apiserver_resource_objects",
            "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        ),
        (
            "apiserver_storage_objects",
            "[STABLE] [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        ),
    ] {
        let mut family = out.family(name, "gauge", help);
        for (resource, count) in &objects {
            match (name, resource.split_once('.')) {
                ("apiserver_storage_objects", _) => family.sample(&[("resource", resource)], *count as f64),
                (_, Some((plural, group))) => family.sample(&[("group", group), ("resource", plural)], *count as f64),
                (_, None) => family.sample(&[("group", ""), ("resource", resource)], *count as f64),
            };
        }
    }
    if let Some(bytes) = server.store.bytes_on_disk() {
        let help = "[STABLE] Size of the storage database file physically allocated in bytes.";
        out.family("apiserver_storage_size_bytes", "gauge", help)
            .sample(&[("storage_cluster_id", "etcd-0")], bytes as f64);
    }
    out.family("hythe_store_revision", "gauge", "Revision of the last change.")
        .sample(&[], server.store.revision() as f64);
    ::metrics::write(&mut out);
    out.into_text()
}
