//! `/metrics/cadvisor`: what dashboards and adapters read of containers, pods and the machine.

use metrics::Exposition;

use super::{
    cadvisor_families::{OF_CONTAINERS, OF_NETWORKS, SPLIT},
    measure::{Measured, MeasuredContainer, MeasuredPod},
};
use crate::{agent::Agent, node, pods::Current};

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
    for (name, kind, help, parts) in SPLIT {
        let mut family = out.family(name, kind, help);
        for_containers(measured, |labels, container| {
            for (more, value) in parts(container) {
                let mut labels = labels.to_vec();
                labels.extend(more.iter().map(|(name, text)| (*name, text.as_str())));
                labels.sort_unstable();
                family.at(&labels, value, now);
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
