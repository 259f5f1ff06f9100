//! `/metrics`: the agent itself, what it runs, and how full claims are.

use std::{collections::BTreeMap, fs};

use metrics::Exposition;

use super::{fill::Fill, measure::Measured, process};
use crate::{
    activity::Deed,
    agent::Agent,
    node::LastShutdown,
    pods::{Current, Role},
    static_pods,
};

/// How full a claim is: name, help, value.
type OfVolume = (&'static str, &'static str, fn(&Fill) -> Option<u64>);

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
    let of_files = views.iter().filter(|view| static_pods::is_static(&view.pod)).count();
    out.family("kubelet_desired_pods", "gauge", "[ALPHA] The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.")
        .sample(&[("static", "false")], (views.len() - of_files) as f64)
        .sample(&[("static", "true")], of_files as f64);
    let count = |wanted: fn(&Current) -> bool| {
        views.iter().flat_map(|view| &view.containers).filter(|record| wanted(&record.current)).count() as f64
    };
    out.family("kubelet_running_containers", "gauge", "[ALPHA] Number of containers currently running")
        .sample(&[("container_state", "created")], count(|c| matches!(c, Current::Waiting { .. })))
        .sample(&[("container_state", "exited")], count(|c| matches!(c, Current::Ended(_))))
        .sample(&[("container_state", "running")], count(|c| matches!(c, Current::Running { .. })));
    activity(&mut out, agent);
    agent.context.activity.evicted_after.write(&mut out);
    let last = LastShutdown::read(&agent.context);
    for (name, help, at) in [
        (
            "kubelet_graceful_shutdown_start_time_seconds",
            "[ALPHA] Last graceful shutdown start time since unix epoch in seconds",
            last.start_time,
        ),
        (
            "kubelet_graceful_shutdown_end_time_seconds",
            "[ALPHA] Last graceful shutdown end time since unix epoch in seconds",
            last.end_time,
        ),
    ] {
        let seconds = at.map_or(0.0, |at| at.as_second() as f64);
        out.family(name, "gauge", help).sample(&[], seconds);
    }
    for (name, help, value) in OF_VOLUMES {
        let mut family = out.family(name, "gauge", help);
        for pod in &measured.pods {
            let namespace = pod.namespace();
            for (volume, fill) in &pod.volumes {
                if let (Some(claim), Some(value)) = (&volume.claim, value(fill)) {
                    family.sample(&[("namespace", &namespace), ("persistentvolumeclaim", claim)], value as f64);
                }
            }
        }
    }
    of_process(&mut out);
    out.into_text()
}

/// A counter of deeds: name, help, and the labels of those that it counts.
type OfDeeds = (&'static str, &'static str, fn(&Deed) -> Option<Labels>);

type Labels = Vec<(&'static str, &'static str)>;

const OF_DEEDS: &[OfDeeds] = &[
    (
        "kubelet_admission_rejections_total",
        "[ALPHA] Cumulative number pod admission rejections by the Kubelet.",
        |deed| match deed {
            Deed::Refuse(reason) => Some(vec![("reason", *reason)]),
            _ => None,
        },
    ),
    ("kubelet_evictions", "[ALPHA] Cumulative number of pod evictions by eviction signal", |deed| match deed {
        Deed::Evict(signal) => Some(vec![("eviction_signal", *signal)]),
        _ => None,
    }),
    (
        "kubelet_image_garbage_collected_total",
        "[ALPHA] Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
        |deed| match deed {
            Deed::RemoveImage(reason) => Some(vec![("reason", *reason)]),
            _ => None,
        },
    ),
    (
        "kubelet_started_containers_errors_total",
        "[ALPHA] Cumulative number of errors when starting containers",
        |deed| match deed {
            Deed::FailContainer(role, reason) => Some(vec![("code", *reason), ("container_type", kind_of(*role))]),
            _ => None,
        },
    ),
    ("kubelet_started_containers_total", "[ALPHA] Cumulative number of containers started", |deed| match deed {
        Deed::StartContainer(role) => Some(vec![("container_type", kind_of(*role))]),
        _ => None,
    }),
    ("kubelet_started_pods_errors_total", "[ALPHA] Cumulative number of errors when starting pods", |deed| {
        (*deed == Deed::FailPod).then(Vec::new)
    }),
    ("kubelet_started_pods_total", "[ALPHA] Cumulative number of pods started", |deed| {
        (*deed == Deed::StartPod).then(Vec::new)
    }),
];

fn kind_of(role: Role) -> &'static str {
    match role {
        Role::App => "container",
        Role::Init | Role::Sidecar => "init_container",
        Role::Ephemeral => "ephemeral_container",
    }
}

fn activity(out: &mut Exposition, agent: &Agent) {
    let counted = agent.context.activity.counted();
    for (name, help, labels) in OF_DEEDS {
        // Init containers and sidecars count as one.
        let mut sums: BTreeMap<Labels, u64> = BTreeMap::new();
        for (deed, count) in &counted {
            if let Some(labels) = labels(deed) {
                *sums.entry(labels).or_default() += count;
            }
        }
        let mut family = out.family(name, "counter", help);
        for (labels, sum) in sums {
            family.sample(&labels, sum as f64);
        }
    }
}

/// What Prometheus' clients tell of their process.
fn of_process(out: &mut Exposition) {
    let Some(own) = process::read() else { return };
    out.family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
        .sample(&[], own.cpu_nanoseconds as f64 / 1e9);
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.family("process_open_fds", "gauge", "Number of open file descriptors.").sample(&[], open.count() as f64);
    }
    out.family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
        .sample(&[], own.resident as f64);
    if let Some(started) = own.started {
        out.family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
            .sample(&[], started.as_millisecond() as f64 / 1e3);
    }
    out.family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.")
        .sample(&[], own.virtual_size as f64);
}
