//! `GET /containers/NAME/stats`: once, or every second.

use std::sync::Arc;
use std::time::Duration;

use engine::cgroup::{DiskUse, Stats};
use futures::StreamExt;
use serde_json::{Map, Value, json};

use super::record::Record;
use super::table::Container;
use super::{MAIN, life};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, json as json_answer, json_stream};
use crate::system;
use crate::time;

/// Measures a container.
pub(crate) async fn stats(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let streamed = call.flag_or("stream", true);
    if streamed && call.flag("one-shot") {
        return Err(ApiError::bad("cannot have stream=true and one-shot=true"));
    }
    if !streamed {
        if !container.status().is_live() {
            let record = container.snapshot();
            return Ok(json_answer(&describe(&record, None, &Sample::nothing())));
        }
        let first = if call.flag("one-shot") { None } else { Some(sample(&daemon, &container).await) };
        if first.is_some() {
            // Rates need two looks; this is as far apart as the stream's.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let second = sample(&daemon, &container).await;
        return Ok(json_answer(&describe(&container.snapshot(), first.as_ref(), &second)));
    }
    let stream = futures::stream::unfold(
        (daemon, container, None::<Sample>, true),
        |(daemon, container, last, first)| async move {
            if !first {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if container.moments.borrow().removed {
                return None;
            }
            let now = sample(&daemon, &container).await;
            let value = describe(&container.snapshot(), last.as_ref(), &now);
            Some((value, (daemon, container, Some(now), false)))
        },
    );
    Ok(json_stream(stream.boxed()))
}

struct Sample {
    at: String,
    group: Option<Stats>,
    disks: Vec<DiskUse>,
    /// Nanoseconds of processor time of the whole machine.
    system: u64,
    networks: Map<String, Value>,
}

impl Sample {
    /// Of a container that does not run.
    fn nothing() -> Self {
        Self { at: time::NEVER.into(), group: None, disks: Vec::new(), system: 0, networks: Map::new() }
    }
}

async fn sample(daemon: &Daemon, container: &Arc<Container>) -> Sample {
    let (group, disks) = match life::sandbox(daemon, container) {
        Ok(sandbox) => (sandbox.stats(MAIN).await.ok(), sandbox.disk_use(MAIN).await.unwrap_or_default()),
        Err(_) => (None, Vec::new()),
    };
    let pid = container.record().state.pid;
    let networks = if group.is_some() { networks(pid) } else { Map::new() };
    Sample { at: time::now(), group, disks, system: system_time(), networks }
}

fn system_time() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal: in hundredths of a second.
    line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

/// The links of a process's network namespace but for loopback.
fn networks(pid: i32) -> Map<String, Value> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let link =
        |line: &str| {
            let (name, counters) = line.split_once(':')?;
            let numbers: Vec<u64> = counters.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
            (name.trim() != "lo").then(|| (name.trim().to_owned(), json!({
            "rx_bytes": number(0), "rx_packets": number(1), "rx_errors": number(2), "rx_dropped": number(3),
            "tx_bytes": number(8), "tx_packets": number(9), "tx_errors": number(10), "tx_dropped": number(11),
        })))
        };
    text.lines().skip(2).filter_map(link).collect()
}

fn describe(record: &Record, last: Option<&Sample>, now: &Sample) -> Value {
    let mut value = json!({
        "name": format!("/{}", record.name),
        "id": record.id,
        "read": now.at,
        "preread": last.map_or(time::NEVER, |last| last.at.as_str()),
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": {},
        "blkio_stats": {
            "io_service_bytes_recursive": disks(&now.disks, |disk| (disk.read_bytes, disk.written_bytes)),
            "io_serviced_recursive": disks(&now.disks, |disk| (disk.reads, disk.writes)),
            "io_queue_recursive": null,
            "io_service_time_recursive": null, "io_wait_time_recursive": null, "io_merged_recursive": null,
            "io_time_recursive": null, "sectors_recursive": null,
        },
        "cpu_stats": cpu(now),
        "precpu_stats": last.map_or_else(cpu_of_nothing, cpu),
        "memory_stats": {},
    });
    if let Some(group) = &now.group {
        let limit = group.memory.limit.unwrap_or_else(system::memory_total);
        let cache = group.memory.usage.saturating_sub(group.memory.working_set);
        value["memory_stats"] = json!({
            "usage": group.memory.usage,
            "stats": {
                "inactive_file": cache, "total_inactive_file": cache, "anon": group.memory.rss, "rss": group.memory.rss,
                "pgfault": group.memory.page_faults, "pgmajfault": group.memory.major_page_faults,
            },
            "limit": limit,
        });
        value["pids_stats"] = json!({"current": group.pids, "limit": group.pids_limit.unwrap_or(u64::MAX)});
    }
    if !now.networks.is_empty() {
        value["networks"] = now.networks.clone().into();
    }
    value
}

/// What a pair of counts comes to for each disk; nothing without disks.
fn disks(disks: &[DiskUse], counts: impl Fn(&DiskUse) -> (u64, u64)) -> Value {
    let entries = disks.iter().flat_map(|disk| {
        let (reads, writes) = counts(disk);
        [("read", reads), ("write", writes)]
            .map(|(op, value)| json!({"major": disk.major, "minor": disk.minor, "op": op, "value": value}))
    });
    if disks.is_empty() { Value::Null } else { entries.collect() }
}

fn cpu(sample: &Sample) -> Value {
    let Some(group) = &sample.group else { return cpu_of_nothing() };
    let cpu = &group.cpu;
    json!({
        "cpu_usage": {"total_usage": cpu.usage, "usage_in_kernelmode": cpu.system, "usage_in_usermode": cpu.user},
        "system_cpu_usage": sample.system,
        "online_cpus": system::processors(),
        "throttling_data": {"periods": cpu.periods, "throttled_periods": cpu.throttled_periods, "throttled_time": cpu.throttled},
    })
}

fn cpu_of_nothing() -> Value {
    json!({
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    })
}
