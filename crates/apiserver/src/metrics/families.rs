//! What else the server counts of its requests (`k8s.io/apiserver/pkg/endpoints/metrics`, `…/pkg/admission/metrics`).

use ::metrics::{Exposition, Family};

use super::Labels;

/// Upper bounds of admission, in seconds.
const ADMISSION: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// Upper bounds of sizes, in bytes.
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const OF_REQUESTS: &[&str] = &["component", "group", "resource", "scope", "subresource", "verb", "version"];

/// The families of one server.
pub(crate) struct Families {
    /// By plugin, operation, whether it refused, and `admit` or `validate`.
    pub plugins: Family,
    /// All plugins together: operation, whether one refused, and `admit` or `validate`.
    pub admission: Family,
    deprecated: Family,
    sizes: Family,
    long: Family,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            plugins: Family::histogram(
                "apiserver_admission_controller_admission_duration_seconds",
                "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
                &["name", "operation", "rejected", "type"],
                ADMISSION,
            ),
            admission: Family::histogram(
                "apiserver_admission_step_admission_duration_seconds",
                "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
                &["operation", "rejected", "type"],
                ADMISSION,
            ),
            deprecated: Family::gauge(
                "apiserver_requested_deprecated_apis",
                "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
                &["group", "removed_release", "resource", "subresource", "version"],
            ),
            sizes: Family::histogram(
                "apiserver_response_sizes",
                "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
                OF_REQUESTS,
                SIZES,
            ),
            long: Family::gauge(
                "apiserver_longrunning_requests",
                "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
                OF_REQUESTS,
            ),
        }
    }
}

impl Families {
    /// A deprecated resource was asked for, which no release is known to remove.
    pub fn asked_for_deprecated(&self, labels: Labels) {
        self.deprecated.set(&[labels.group, "", labels.resource, labels.subresource, labels.version], 1.0);
    }

    /// What is read has so many bytes.
    pub fn answered(&self, labels: Labels, bytes: u64) {
        if matches!(labels.verb, "GET" | "LIST") {
            self.sizes.observe(&of(labels), bytes as f64);
        }
    }

    /// One more, or (`-1`) one less, of the requests that go on.
    pub fn going_on(&self, labels: Labels, by: f64) {
        self.long.add(&of(labels), by);
    }

    pub fn write(&self, out: &mut Exposition) {
        for family in [&self.plugins, &self.admission, &self.long, &self.deprecated, &self.sizes] {
            family.write(out);
        }
    }
}

fn of(labels: Labels) -> [&'static str; 7] {
    let Labels { verb, group, version, resource, subresource, scope, .. } = labels;
    ["apiserver", group, resource, scope, subresource, verb, version]
}
