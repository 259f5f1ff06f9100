//! `/metrics/probes`: how often containers' probes passed and failed. `/metrics/slis`: how often the agent itself did.

use std::sync::atomic::Ordering;

use metrics::{Exposition, Spread};

use crate::agent::Agent;

/// What `/healthz` of the agent is asked for.
const CHECKS: &[&str] = &["log", "ping", "syncloop"];

pub(super) fn render(agent: &Agent) -> String {
    let mut out = Exposition::default();
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let pods: Vec<_> = agent.pods.all().into_iter().map(|view| view.pod.metadata.clone()).collect();
    let probes: Vec<_> = pods
        .iter()
        .flat_map(|meta| agent.context.probes.of(&text(&meta.uid)).into_iter().map(move |probe| (meta, probe)))
        .collect();
    let mut took =
        out.family("prober_probe_duration_seconds", "histogram", "[ALPHA] Duration in seconds for a probe response.");
    for (meta, ((container, kind), tries)) in &probes {
        let labels = [
            ("container", container.as_str()),
            ("namespace", &text(&meta.namespace)),
            ("pod", &text(&meta.name)),
            ("probe_type", kind.name()),
        ];
        if tries.took != Spread::default() {
            took.spread(&labels, metrics::USUAL, &tries.took);
        }
    }
    let mut family = out.family(
        "prober_probe_total",
        "counter",
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
    );
    for (meta, ((container, kind), tries)) in &probes {
        let results = [("failed", tries.failed), ("successful", tries.successful), ("unknown", tries.unknown)];
        for (result, count) in results.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [
                ("container", container.as_str()),
                ("namespace", &text(&meta.namespace)),
                ("pod", &text(&meta.name)),
                ("pod_uid", &text(&meta.uid)),
                ("probe_type", kind.name()),
                ("result", result),
            ];
            family.sample(&labels, count as f64);
        }
    }
    out.into_text()
}

/// Whoever asks for this has an answer, which is what the checks are about.
pub(super) fn slis(agent: &Agent) -> String {
    let asked = agent.context.health_checks.fetch_add(1, Ordering::Relaxed) + 1;
    let mut out = Exposition::default();
    let mut last = out.family(
        "kubernetes_healthcheck",
        "gauge",
        "[STABLE] This metric records the result of a single healthcheck.",
    );
    for name in CHECKS {
        last.sample(&[("name", name), ("type", "healthz")], 1.0);
    }
    let mut all = out.family(
        "kubernetes_healthchecks_total",
        "counter",
        "[STABLE] This metric records the results of all healthcheck.",
    );
    for name in CHECKS {
        all.sample(&[("name", name), ("status", "success"), ("type", "healthz")], asked as f64);
    }
    out.into_text()
}
