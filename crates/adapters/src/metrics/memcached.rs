//! memcached, named as memcached_exporter names it. Pure.

use super::exposition::{Kind, Metrics};

type Stats = [(String, String)];

const FIELDS: &[(&str, &str, &str, Kind)] = &[
    ("uptime", "uptime_seconds", "Seconds since the server began", Kind::Counter),
    ("time", "time_seconds", "The server's clock", Kind::Gauge),
    ("bytes", "current_bytes", "Bytes of items", Kind::Gauge),
    ("limit_maxbytes", "limit_bytes", "Bytes that items may take", Kind::Gauge),
    ("curr_items", "current_items", "Items", Kind::Gauge),
    ("total_items", "items_total", "Items ever stored", Kind::Counter),
    ("evictions", "items_evicted_total", "Items evicted for memory", Kind::Counter),
    ("reclaimed", "items_reclaimed_total", "Items stored in the place of expired ones", Kind::Counter),
    ("curr_connections", "current_connections", "Connections", Kind::Gauge),
    ("total_connections", "connections_total", "Connections ever opened", Kind::Counter),
    ("rejected_connections", "connections_rejected_total", "Connections refused", Kind::Counter),
    ("conn_yields", "connections_yielded_total", "Times a connection gave way to others", Kind::Counter),
    (
        "listen_disabled_num",
        "connections_listener_disabled_total",
        "Times the limit of connections was hit",
        Kind::Counter,
    ),
    ("bytes_read", "read_bytes_total", "Bytes received", Kind::Counter),
    ("bytes_written", "written_bytes_total", "Bytes sent", Kind::Counter),
    ("rusage_user", "process_user_cpu_seconds_total", "Processor time", Kind::Counter),
    ("rusage_system", "process_system_cpu_seconds_total", "Processor time in the kernel", Kind::Counter),
    ("threads", "threads", "Worker threads", Kind::Gauge),
];

/// The metrics of a server that answered `stats`, `stats settings` and `stats slabs`.
#[must_use]
pub fn metrics(general: &Stats, settings: &Stats, slabs: &Stats) -> Metrics {
    let mut metrics = Metrics::default();
    metrics.gauge("memcached_up", "Whether the server answered", &[], 1.0);
    let text = |name: &str| general.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let number = |name: &str| text(name).and_then(|value| value.parse::<f64>().ok());
    metrics.gauge("memcached_version", "The server", &[("version", text("version").unwrap_or_default())], 1.0);
    for (name, metric, help, kind) in FIELDS {
        if let Some(value) = number(name) {
            metrics.add(&format!("memcached_{metric}"), help, *kind, &[], value);
        }
    }
    for command in ["get", "delete", "incr", "decr", "cas", "touch"] {
        for (status, suffix) in [("hit", "hits"), ("miss", "misses"), ("badval", "badval")] {
            if let Some(value) = number(&format!("{command}_{suffix}")) {
                command_metric(&mut metrics, command, status, value);
            }
        }
    }
    for command in ["set", "flush"] {
        if let Some(value) = number(&format!("cmd_{command}")) {
            command_metric(&mut metrics, command, "hit", value);
        }
    }
    if let Some(most) = settings.iter().find(|(name, _)| name == "maxconns").and_then(|(_, value)| value.parse().ok()) {
        metrics.gauge("memcached_max_connections", "Connections that may be open", &[], most);
    }
    for (name, value) in slabs {
        let (Some((slab, field)), Ok(value)) = (name.split_once(':'), value.parse::<f64>()) else { continue };
        let (metric, help, kind) = match field {
            "chunk_size" => ("chunk_size_bytes", "Bytes of each chunk", Kind::Gauge),
            "total_pages" => ("current_pages", "Pages", Kind::Gauge),
            "total_chunks" => ("current_chunks", "Chunks", Kind::Gauge),
            "used_chunks" => ("chunks_used", "Chunks in use", Kind::Gauge),
            "free_chunks" => ("chunks_free", "Chunks that are free", Kind::Gauge),
            "mem_requested" => ("mem_requested_bytes", "Bytes that items asked for", Kind::Gauge),
            _ => continue,
        };
        metrics.add(&format!("memcached_slab_{metric}"), help, kind, &[("slab", slab)], value);
    }
    metrics
}

fn command_metric(metrics: &mut Metrics, command: &str, status: &str, value: f64) {
    let labels = [("command", command), ("status", status)];
    metrics.counter("memcached_commands_total", "Commands by what became of them", &labels, value);
}
