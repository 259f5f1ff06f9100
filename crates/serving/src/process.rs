//! What the kernel knows of this process, as the metrics that Prometheus' own clients export.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Reads `/proc/self` when it is asked.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(process) = Process::read() else { return Ok(()) };
        let mut gauge = |name, help, unit: Option<&Unit>, value: f64| {
            let metric = ConstGauge::new(value);
            let encoder = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
            metric.encode(encoder)
        };
        gauge("process_resident_memory", "Resident memory", Some(&Unit::Bytes), process.resident)?;
        gauge("process_start_time", "When the process began, since the epoch", Some(&Unit::Seconds), process.start)?;
        gauge("process_open_fds", "Open file descriptors", None, process.descriptors)?;
        let cpu = ConstCounter::new(process.cpu);
        let encoder =
            encoder.encode_descriptor("process_cpu", "CPU time used", Some(&Unit::Seconds), cpu.metric_type())?;
        cpu.encode(encoder)
    }
}

struct Process {
    resident: f64,
    cpu: f64,
    start: f64,
    descriptors: f64,
}

impl Process {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold anything; the fields of proc(5) from the third on follow it.
        let fields: Vec<f64> =
            stat.rsplit_once(") ")?.1.split(' ').skip(1).filter_map(|field| field.trim().parse().ok()).collect();
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten()? as f64;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()? as f64;
        let uptime: f64 = std::fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        // Numbered as in proc(5): utime 14, stime 15, starttime 22, rss 24; the list begins with field 4.
        let field = |number: usize| fields.get(number - 4).copied();
        Some(Self {
            resident: field(24)? * page,
            cpu: (field(14)? + field(15)?) / ticks,
            start: now - uptime + field(22)? / ticks,
            descriptors: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn a_process_is_told_of_by_the_names_that_prometheus_clients_use() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for (name, kind) in [
            ("process_cpu_seconds", "counter"),
            ("process_resident_memory_bytes", "gauge"),
            ("process_start_time_seconds", "gauge"),
            ("process_open_fds", "gauge"),
        ] {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{text}");
        }
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    }
}
