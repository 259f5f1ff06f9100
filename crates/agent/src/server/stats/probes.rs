//! `/metrics/probes`: how often containers' probes passed and failed. `/metrics/slis`: how often the agent itself did.

use std::sync::atomic::Ordering;

use super::exposition::Exposition;
use crate::agent::Agent;

/// What `/healthz` of the agent is asked for.
const CHECKS: &[&str] = &["log", "ping", "syncloop"];

pub(super) fn render(agent: &Agent) -> String {
    let mut out = Exposition::default();
    let mut family = out.family(
        "prober_probe_total",
        "counter",
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
    );
    for view in agent.pods.all() {
        let meta = &view.pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (uid, namespace, pod) = (text(&meta.uid), text(&meta.namespace), text(&meta.name));
        for ((container, kind), tries) in agent.context.probes.of(&uid) {
            let results = [("failed", tries.failed), ("successful", tries.successful), ("unknown", tries.unknown)];
            for (result, count) in results.into_iter().filter(|(_, count)| *count > 0) {
                let labels = [
                    ("container", container.as_str()),
                    ("namespace", &namespace),
                    ("pod", &pod),
                    ("pod_uid", &uid),
                    ("probe_type", kind.name()),
                    ("result", result),
                ];
                family.sample(&labels, count as f64);
            }
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
