//! Requests answered and how long they took, with upstream's names, labels and bounds
//! (`k8s.io/apiserver/pkg/endpoints/metrics`), for which dashboards and alerts exist.

use std::{collections::HashMap, time::Duration};

use ::metrics::{Exposition, Spread};
use parking_lot::Mutex;

use crate::{call::Call, negotiate, verbs::patch};

/// Upper bounds of the histograms, in seconds.
const BOUNDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// What tells requests apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Labels {
    pub(super) verb: &'static str,
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) resource: &'static str,
    pub(super) subresource: &'static str,
    pub(super) scope: &'static str,
    dry_run: &'static str,
}

impl Labels {
    /// Those of a call; `verb` is its verb in a rule of authorization, or `connect`.
    pub fn of(call: &Call<'_>, verb: &str) -> Labels {
        let (resource, path) = (call.resource, &call.path);
        Labels {
            verb: match verb {
                "get" => "GET",
                "list" => "LIST",
                "watch" => "WATCH",
                "create" => "POST",
                "update" => "PUT",
                "patch" if negotiate::media_type(call.headers) == patch::APPLY => "APPLY",
                "patch" => "PATCH",
                "delete" => "DELETE",
                "deletecollection" => "DELETECOLLECTION",
                "connect" => "CONNECT",
                _ => "other",
            },
            group: resource.group,
            version: resource.version,
            resource: resource.plural,
            subresource: resource.subresource(&path.subresource).map_or("", |subresource| subresource.name),
            scope: match (path.name.is_empty(), path.namespace.is_empty()) {
                (false, _) => "resource",
                (true, _) if verb == "create" => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            },
            dry_run: if call.query.text("dryRun") == "All" { "All" } else { "" },
        }
    }

    fn all(&self) -> [(&'static str, &'static str); 8] {
        let Labels { verb, group, version, resource, subresource, scope, dry_run } = *self;
        [
            ("component", "apiserver"),
            ("dry_run", dry_run),
            ("group", group),
            ("resource", resource),
            ("scope", scope),
            ("subresource", subresource),
            ("verb", verb),
            ("version", version),
        ]
    }
}

/// Requests of the same labels.
#[derive(Default)]
struct Answered {
    codes: Vec<(u16, u64)>,
    /// Seconds of those that end.
    took: Option<Spread>,
}

/// All requests so far.
#[derive(Default)]
pub(crate) struct Requests(Mutex<HashMap<Labels, Answered>>);

impl Requests {
    /// A request was answered with `code`, after `took` unless it goes on.
    pub fn answered(&self, labels: Labels, code: u16, took: Option<Duration>) {
        let mut all = self.0.lock();
        let answered = all.entry(labels).or_default();
        match answered.codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => answered.codes.push((code, 1)),
        }
        if let Some(took) = took {
            answered.took.get_or_insert_default().observe(&BOUNDS, took.as_secs_f64());
        }
    }

    /// Adds the text of `/metrics`.
    pub fn write(&self, out: &mut Exposition) {
        let all = self.0.lock();
        let mut all: Vec<_> = all.iter().collect();
        all.sort_unstable_by_key(|(labels, _)| **labels);
        let mut total = out.family(
            "apiserver_request_total",
            "counter",
            "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        );
        for (labels, answered) in &all {
            for (code, count) in &answered.codes {
                let code = code.to_string();
                let with_code: Vec<(&str, &str)> = [("code", code.as_str())].into_iter().chain(labels.all()).collect();
                total.sample(&with_code, *count as f64);
            }
        }
        // The second one leaves out what webhooks and queues take, of which there is nothing here.
        for (name, help) in [
            (
                "apiserver_request_duration_seconds",
                "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
            ),
            (
                "apiserver_request_sli_duration_seconds",
                "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
            ),
        ] {
            let mut family = out.family(name, "histogram", help);
            for (labels, answered) in &all {
                if let Some(took) = &answered.took {
                    family.spread(&labels.all(), &BOUNDS, took);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_took_no_longer_than_its_bounds() {
        let labels = Labels {
            verb: "GET",
            group: "apps",
            version: "v1",
            resource: "deployments",
            subresource: "scale",
            scope: "resource",
            dry_run: "",
        };
        let requests = Requests::default();
        for millis in [1, 5, 6, 70_000] {
            requests.answered(labels, 200, Some(Duration::from_millis(millis)));
        }
        requests.answered(Labels { verb: "CONNECT", ..labels }, 101, None);
        requests.answered(labels, 404, None);
        let mut out = Exposition::default();
        requests.write(&mut out);
        let out = out.into_text();
        let of = "component=\"apiserver\",dry_run=\"\",group=\"apps\",resource=\"deployments\",scope=\"resource\",subresource=\"scale\",verb=\"GET\",version=\"v1\"";
        let name = "apiserver_request_duration_seconds";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{of}}} 4\n"),
            format!("apiserver_request_total{{code=\"404\",{of}}} 1\n"),
            format!("{name}_bucket{{{of},le=\"0.005\"}} 2\n"),
            format!("{name}_bucket{{{of},le=\"0.025\"}} 3\n"),
            format!("{name}_bucket{{{of},le=\"60\"}} 3\n"),
            format!("{name}_bucket{{{of},le=\"+Inf\"}} 4\n"),
            format!("{name}_sum{{{of}}} 70.012\n"),
            format!("{name}_count{{{of}}} 4\n"),
        ] {
            assert!(out.contains(&line), "{line} is not in {out}");
        }
        assert!(!out.contains(&format!("{name}_count{{{}}}", of.replace("GET", "CONNECT"))));
    }
}
