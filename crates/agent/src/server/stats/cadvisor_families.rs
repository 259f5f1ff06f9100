//! The metrics that cAdvisor has of containers and networks: names, types and help are its own.

use super::measure::MeasuredContainer;
use crate::{
    runtime::{Detail, Traffic},
    spec::resources::PERIOD,
};

/// A metric of a container: name, type, help, value.
type OfContainer = (&'static str, &'static str, &'static str, fn(&MeasuredContainer) -> Option<f64>);

/// One that has several samples for a container, each with labels of its own.
type Split = (&'static str, &'static str, &'static str, fn(&MeasuredContainer) -> Vec<Sample>);

/// Labels beside the container's, and the value.
type Sample = (Vec<(&'static str, String)>, f64);

/// A metric of a pod's network: name, help, value.
type OfNetwork = (&'static str, &'static str, fn(&Traffic) -> u64);

fn detail(c: &MeasuredContainer, number: impl Fn(&Detail) -> u64) -> Option<f64> {
    c.detail.as_ref().map(|detail| number(detail) as f64)
}

fn seconds(c: &MeasuredContainer, nanoseconds: impl Fn(&Detail) -> u64) -> Option<f64> {
    detail(c, nanoseconds).map(|n| n / 1e9)
}

/// Of containers with a CPU quota alone.
fn quota(c: &MeasuredContainer, number: impl Fn(&Detail) -> f64) -> Option<f64> {
    c.detail.as_ref().filter(|detail| detail.cpu.periods > 0).map(number)
}

pub(super) const OF_CONTAINERS: &[OfContainer] = &[
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", |c| {
        quota(c, |d| d.cpu.periods as f64)
    }),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", |c| {
        quota(c, |d| d.cpu.throttled_periods as f64)
    }),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        |c| quota(c, |d| d.cpu.throttled as f64 / 1e9),
    ),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", |c| {
        seconds(c, |d| d.cpu.system)
    }),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", |c| {
        seconds(c, |d| d.cpu.user)
    }),
    ("container_file_descriptors", "gauge", "Number of open file descriptors for the container.", |c| {
        detail(c, |d| d.processes.files)
    }),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        |c| Some(c.root.0 as f64),
    ),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", |c| detail(c, |d| d.memory.cache)),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits", |c| {
        detail(c, |d| d.memory.limit_hits)
    }),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", |c| {
        detail(c, |d| d.memory.mapped_file)
    }),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", |c| {
        detail(c, |d| d.memory.peak)
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |c| Some(c.usage.rss as f64)),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", |c| detail(c, |d| d.memory.swap)),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |c| Some(c.usage.memory as f64),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |c| {
        Some(c.usage.working_set as f64)
    }),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container", |c| {
        detail(c, |d| d.memory.oom_kills)
    }),
    ("container_processes", "gauge", "Number of processes running inside the container.", |c| {
        detail(c, |d| d.processes.count)
    }),
    ("container_sockets", "gauge", "Number of open sockets for the container.", |c| detail(c, |d| d.processes.sockets)),
    ("container_spec_cpu_period", "gauge", "CPU period of the container.", |_| Some(PERIOD as f64)),
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container.", |c| c.granted.cpu_quota.map(|n| n as f64)),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container.", |c| Some(c.granted.cpu_shares as f64)),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |c| {
        Some(c.usage.memory_limit.unwrap_or(0) as f64)
    }),
    ("container_spec_memory_reservation_limit_bytes", "gauge", "Memory reservation limit for the container.", |_| {
        Some(0.0)
    }),
    ("container_spec_memory_swap_limit_bytes", "gauge", "Memory swap limit for the container.", |_| Some(0.0)),
    ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.", |c| {
        c.started().map(|at| at.as_second() as f64)
    }),
    ("container_threads", "gauge", "Number of threads running inside the container", |c| detail(c, |d| d.threads.0)),
    (
        "container_threads_max",
        "gauge",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        |c| detail(c, |d| d.threads.1.unwrap_or(0)),
    ),
];

pub(super) const SPLIT: &[Split] = &[
    ("container_blkio_device_usage_total", "counter", "Blkio Device bytes usage", |c| {
        by_disk(c, |disk| vec![("Read", disk.read_bytes), ("Write", disk.written_bytes)])
    }),
    ("container_fs_reads_bytes_total", "counter", "Cumulative count of bytes read", |c| {
        by_disk(c, |disk| vec![("", disk.read_bytes)])
    }),
    ("container_fs_reads_total", "counter", "Cumulative count of reads completed", |c| {
        by_disk(c, |disk| vec![("", disk.reads)])
    }),
    ("container_fs_writes_bytes_total", "counter", "Cumulative count of bytes written", |c| {
        by_disk(c, |disk| vec![("", disk.written_bytes)])
    }),
    ("container_fs_writes_total", "counter", "Cumulative count of writes completed", |c| {
        by_disk(c, |disk| vec![("", disk.writes)])
    }),
    ("container_memory_failures_total", "counter", "Cumulative count of memory allocation failures.", |c| {
        let (all, major) = c.usage.page_faults;
        let kinds = [("pgfault", all), ("pgmajfault", major)].into_iter();
        let both = kinds.flat_map(|kind| [("container", kind), ("hierarchy", kind)]);
        let labels = |scope: &str, kind: &str| vec![("failure_type", kind.to_owned()), ("scope", scope.to_owned())];
        both.map(|(scope, (kind, count))| (labels(scope, kind), count as f64)).collect()
    }),
    (
        "container_ulimits_soft",
        "gauge",
        "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
        |c| {
            let most = c.detail.as_ref().map(|d| d.processes.most_files.map_or(-1.0, |most| most as f64));
            most.map(|most| (vec![("ulimit", "max_open_files".to_owned())], most)).into_iter().collect()
        },
    ),
];

/// Samples of each disk; of none in particular where nobody counts. What has a name is an operation.
fn by_disk(
    c: &MeasuredContainer,
    numbers: impl Fn(&engine::cgroup::DiskUse) -> Vec<(&'static str, u64)>,
) -> Vec<Sample> {
    let Some(detail) = &c.detail else { return Vec::new() };
    let nothing = [Default::default()];
    let disks = if detail.disks.is_empty() { &nothing[..] } else { &detail.disks };
    let of = |(device, disk): &(String, engine::cgroup::DiskUse)| {
        let sample = |(operation, number): (&'static str, u64)| {
            let mut labels = vec![("device", device.clone())];
            if !operation.is_empty() {
                labels.push(("major", disk.major.to_string()));
                labels.push(("minor", disk.minor.to_string()));
                labels.push(("operation", operation.to_owned()));
            }
            (labels, number as f64)
        };
        numbers(disk).into_iter().map(sample).collect::<Vec<_>>()
    };
    disks.iter().flat_map(of).collect()
}

pub(super) const OF_NETWORKS: &[OfNetwork] = &[
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |t| t.received),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |t| {
        t.receive_errors
    }),
    ("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", |t| {
        t.receive_drops
    }),
    ("container_network_receive_packets_total", "Cumulative count of packets received", |t| t.packets_in),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |t| t.sent),
    ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |t| {
        t.send_errors
    }),
    (
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        |t| t.send_drops,
    ),
    ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |t| t.packets_out),
];
