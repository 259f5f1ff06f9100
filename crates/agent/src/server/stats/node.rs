//! `/metrics`: the agent itself, what it runs, and how full claims are.

use std::fs;

use super::{exposition::Exposition, fill::Fill, measure::Measured};
use crate::{agent::Agent, pods::Current};

/// How full a claim is: name, help, value.
type OfVolume = (&'static str, &'static str, fn(&Fill) -> u64);

const OF_VOLUMES: &[OfVolume] = &[
    ("kubelet_volume_stats_available_bytes", "[ALPHA] Number of available bytes in the volume", |f| f.available),
    ("kubelet_volume_stats_capacity_bytes", "[ALPHA] Capacity in bytes of the volume", |f| f.capacity),
    ("kubelet_volume_stats_inodes", "[ALPHA] Maximum number of inodes in the volume", |f| f.inodes),
    ("kubelet_volume_stats_inodes_free", "[ALPHA] Number of free inodes in the volume", |f| f.inodes_free),
    ("kubelet_volume_stats_inodes_used", "[ALPHA] Number of used inodes in the volume", |f| f.inodes_used),
    ("kubelet_volume_stats_used_bytes", "[ALPHA] Number of used bytes in the volume", |f| f.used),
];

pub(super) fn render(agent: &Agent, measured: &Measured) -> String {
    let mut out = Exposition::default();
    let config = &agent.context.config;
    out.family("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.")
        .sample(&[("node", &config.node_name)], 1.0);
    out.family("kubernetes_build_info", "gauge", "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.")
        .sample(&[("git_version", &config.version)], 1.0);
    let views = agent.pods.all();
    let running = views.iter().filter(|view| view.sandbox.is_some()).count();
    out.family("kubelet_running_pods", "gauge", "[ALPHA] Number of pods that have a running pod sandbox")
        .sample(&[], running as f64);
    out.family("kubelet_desired_pods", "gauge", "[ALPHA] The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.")
        .sample(&[("static", "false")], views.len() as f64);
    let count = |wanted: fn(&Current) -> bool| {
        views.iter().flat_map(|view| &view.containers).filter(|record| wanted(&record.current)).count() as f64
    };
    out.family("kubelet_running_containers", "gauge", "[ALPHA] Number of containers currently running")
        .sample(&[("container_state", "created")], count(|c| matches!(c, Current::Waiting { .. })))
        .sample(&[("container_state", "exited")], count(|c| matches!(c, Current::Ended(_))))
        .sample(&[("container_state", "running")], count(|c| matches!(c, Current::Running { .. })));
    for (name, help, value) in OF_VOLUMES {
        let mut family = out.family(name, "gauge", help);
        for pod in &measured.pods {
            let namespace = pod.namespace();
            for (volume, fill) in &pod.volumes {
                if let Some(claim) = &volume.claim {
                    family.sample(&[("namespace", &namespace), ("persistentvolumeclaim", claim)], value(fill) as f64);
                }
            }
        }
    }
    process(&mut out);
    out.into_text()
}

/// What Prometheus' clients tell of their process.
fn process(out: &mut Exposition) {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
    // Fields are counted behind the name, which may hold anything; the first of them is the third.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    const TICKS: f64 = 100.0;
    const PAGE: f64 = 4096.0;
    out.family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
        .sample(&[], (number(14) + number(15)) / TICKS);
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.family("process_open_fds", "gauge", "Number of open file descriptors.").sample(&[], open.count() as f64);
    }
    out.family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
        .sample(&[], number(24) * PAGE);
    if let Some(booted) = crate::node::booted_at() {
        out.family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
            .sample(&[], booted.as_second() as f64 + number(22) / TICKS);
    }
    out.family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.").sample(&[], number(23));
}
