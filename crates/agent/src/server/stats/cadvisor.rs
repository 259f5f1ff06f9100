//! `/metrics/cadvisor`: what dashboards and adapters read of containers, pods and the machine.

use super::{
    exposition::Exposition,
    measure::{Measured, MeasuredContainer, MeasuredPod},
};
use crate::{agent::Agent, node, pods::Current, runtime::Traffic};

/// A metric of a container: name, type, help, value.
type OfContainer = (&'static str, &'static str, &'static str, fn(&MeasuredContainer) -> Option<f64>);

const OF_CONTAINERS: &[OfContainer] = &[
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", |c| {
        Some(c.usage.cpu_periods.0 as f64).filter(|n| *n > 0.0)
    }),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", |c| {
        Some(c.usage.cpu_periods).filter(|(all, _)| *all > 0).map(|(_, throttled)| throttled as f64)
    }),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        |c| Some(c.root.0 as f64),
    ),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |c| Some(c.usage.rss as f64)),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |c| Some(c.usage.memory as f64),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |c| {
        Some(c.usage.working_set as f64)
    }),
    ("container_processes", "gauge", "Number of processes running inside the container.", |c| {
        Some(c.usage.pids as f64)
    }),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |c| {
        Some(c.usage.memory_limit.unwrap_or(0) as f64)
    }),
    ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.", |c| {
        c.started().map(|at| at.as_second() as f64)
    }),
];

/// A metric of a pod's network: name, help, value.
type OfNetwork = (&'static str, &'static str, fn(&Traffic) -> u64);

const OF_NETWORKS: &[OfNetwork] = &[
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |t| t.received),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |t| {
        t.receive_errors
    }),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |t| t.sent),
    ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |t| {
        t.send_errors
    }),
];

pub(super) fn render(agent: &Agent, measured: &Measured) -> String {
    let mut out = Exposition::default();
    let machine = &agent.context.machine;
    let now = Some(measured.at.as_millisecond());
    out.family("cadvisor_version_info", "gauge", "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.")
        .sample(&[("cadvisorRevision", ""), ("cadvisorVersion", &agent.context.config.version), ("dockerVersion", ""),
            ("kernelVersion", &machine.kernel), ("osVersion", &machine.os_image)], 1.0);
    let mut cpu =
        out.family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.");
    if let Some(used) = node::cpu_nanoseconds() {
        let labels = [
            ("container", ""),
            ("cpu", "total"),
            ("id", "/"),
            ("image", ""),
            ("name", ""),
            ("namespace", ""),
            ("pod", ""),
        ];
        cpu.at(&labels, used as f64 / 1e9, now);
    }
    for_containers(measured, |labels, container| {
        let mut labels = labels.to_vec();
        labels.insert(1, ("cpu", "total"));
        cpu.at(&labels, container.usage.cpu_nanoseconds as f64 / 1e9, now);
    });
    let mut seen = out.family("container_last_seen", "gauge", "Last time a container was seen by the exporter");
    for_containers(measured, |labels, _| {
        seen.at(labels, measured.at.as_second() as f64, now);
    });
    for (name, kind, help, value) in OF_CONTAINERS {
        let mut family = out.family(name, kind, help);
        for_containers(measured, |labels, container| {
            if let Some(value) = value(container) {
                family.at(labels, value, now);
            }
        });
    }
    for (name, help, value) in OF_NETWORKS {
        let mut family = out.family(name, "counter", help);
        for pod in &measured.pods {
            let (namespace, pod_name, id) = (pod.namespace(), pod.name(), id_of(pod));
            for traffic in &pod.traffic {
                let labels = [
                    ("container", ""),
                    ("id", &*id),
                    ("image", ""),
                    ("interface", &*traffic.interface),
                    ("name", ""),
                    ("namespace", &*namespace),
                    ("pod", &*pod_name),
                ];
                family.at(&labels, value(traffic) as f64, now);
            }
        }
    }
    out.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.")
        .sample(&of_machine(agent), machine.cpus.into());
    out.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.")
        .sample(&of_machine(agent), machine.memory_bytes as f64);
    out.family("machine_scrape_error", "gauge", "1 if there was an error while getting machine metrics, 0 otherwise.")
        .sample(&[], 0.0);
    out.into_text()
}

fn of_machine(agent: &Agent) -> [(&str, &str); 3] {
    let machine = &agent.context.machine;
    [("boot_id", &machine.boot_id), ("machine_id", &machine.machine_id), ("system_uuid", &machine.system_uuid)]
}

fn id_of(pod: &MeasuredPod) -> String {
    format!("/kubepods/pod{}", pod.view.pod.metadata.uid.as_deref().unwrap_or_default())
}

fn for_containers(measured: &Measured, mut each: impl FnMut(&[(&str, &str)], &MeasuredContainer)) {
    for pod in &measured.pods {
        let (namespace, pod_name, of_pod) = (pod.namespace(), pod.name(), id_of(pod));
        for container in &pod.containers {
            let name = match &container.record.current {
                Current::Running { id, .. } => format!("{}/{id}", pod.sandbox),
                _ => pod.sandbox.clone(),
            };
            let id = format!("{of_pod}/{}", container.usage.container);
            each(
                &[
                    ("container", &container.record.name),
                    ("id", &id),
                    ("image", &container.record.image),
                    ("name", &name),
                    ("namespace", &namespace),
                    ("pod", &pod_name),
                ],
                container,
            );
        }
    }
}
