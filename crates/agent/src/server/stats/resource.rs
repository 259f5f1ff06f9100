//! `/metrics/resource`: CPU and memory of the node, its pods and containers, with the moment they were read at.

use metrics::Exposition;

use super::measure::Measured;
use crate::node;

pub(super) fn render(measured: &Measured) -> String {
    let mut out = Exposition::default();
    let now = Some(measured.at.as_millisecond());
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let mut cpu = out.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    for_containers(measured, |labels, container| {
        cpu.at(labels, seconds(container.usage.cpu_nanoseconds), now);
    });
    let mut memory = out.family(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
    );
    for_containers(measured, |labels, container| {
        memory.at(labels, container.usage.working_set as f64, now);
    });
    let mut started = out.family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    for_containers(measured, |labels, container| {
        if let Some(at) = container.started() {
            started.at(labels, at.as_millisecond() as f64 / 1e3, None);
        }
    });
    let mut swap = out.family(
        "container_swap_usage_bytes",
        "gauge",
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
    );
    for_containers(measured, |labels, container| {
        swap.at(labels, container.usage.swap as f64, now);
    });
    if let Some(used) = node::cpu_nanoseconds() {
        out.family(
            "node_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        )
        .at(&[], seconds(used), now);
    }
    if let Some((all, available)) = node::memory_total().zip(node::memory_available()) {
        out.family("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes").at(
            &[],
            (all - available) as f64,
            now,
        );
    }
    if let Some((all, free)) = node::swap() {
        let help = "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems";
        out.family("node_swap_usage_bytes", "gauge", help).at(&[], (all - free) as f64, now);
    }
    let mut cpu = out.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    for pod in &measured.pods {
        cpu.at(&[("namespace", &pod.namespace()), ("pod", &pod.name())], seconds(pod.usage.cpu_nanoseconds), now);
    }
    let mut memory =
        out.family("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes");
    for pod in &measured.pods {
        memory.at(&[("namespace", &pod.namespace()), ("pod", &pod.name())], pod.usage.working_set as f64, now);
    }
    let help = "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems";
    let mut swap = out.family("pod_swap_usage_bytes", "gauge", help);
    for pod in &measured.pods {
        swap.at(&[("namespace", &pod.namespace()), ("pod", &pod.name())], pod.usage.swap as f64, now);
    }
    out.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    )
    .sample(&[], 0.0);
    out.into_text()
}

fn for_containers(measured: &Measured, mut each: impl FnMut(&[(&str, &str)], &super::measure::MeasuredContainer)) {
    for pod in &measured.pods {
        let (namespace, name) = (pod.namespace(), pod.name());
        for container in &pod.containers {
            each(&[("container", &container.record.name), ("namespace", &namespace), ("pod", &name)], container);
        }
    }
}
