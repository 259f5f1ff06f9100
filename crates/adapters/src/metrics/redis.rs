//! Redis, named as redis_exporter names it. Pure: from what `INFO` and a few more commands answered.

use super::exposition::{Kind, Metrics};

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// `INFO ALL`.
    pub info: String,
    /// `CONFIG GET maxclients`; empty where that is not allowed.
    pub max_clients: Option<f64>,
    /// `SLOWLOG LEN`.
    pub slow_log: Option<f64>,
}

/// Fields of `INFO`, the metric's name behind `redis_`, what it tells, and whether it only grows.
const FIELDS: &[(&str, &str, &str, Kind)] = &[
    ("uptime_in_seconds", "uptime_in_seconds", "Seconds since the server began", Kind::Gauge),
    ("process_id", "process_id", "The server's process", Kind::Gauge),
    ("connected_clients", "connected_clients", "Clients that are connected", Kind::Gauge),
    ("blocked_clients", "blocked_clients", "Clients that wait in a blocking call", Kind::Gauge),
    ("tracking_clients", "tracking_clients", "Clients that track keys", Kind::Gauge),
    ("maxclients", "max_clients", "Clients that may be connected", Kind::Gauge),
    ("used_memory", "memory_used_bytes", "Memory in use", Kind::Gauge),
    ("used_memory_rss", "memory_used_rss_bytes", "Resident memory", Kind::Gauge),
    ("used_memory_peak", "memory_used_peak_bytes", "Most memory ever in use", Kind::Gauge),
    ("used_memory_lua", "memory_used_lua_bytes", "Memory of Lua scripts", Kind::Gauge),
    ("used_memory_overhead", "memory_used_overhead_bytes", "Memory of the server's own structures", Kind::Gauge),
    ("used_memory_startup", "memory_used_startup_bytes", "Memory after the start", Kind::Gauge),
    ("used_memory_dataset", "memory_used_dataset_bytes", "Memory of the data", Kind::Gauge),
    ("maxmemory", "memory_max_bytes", "Memory that may be used; 0 for any", Kind::Gauge),
    ("mem_fragmentation_ratio", "mem_fragmentation_ratio", "Resident memory by memory in use", Kind::Gauge),
    ("mem_fragmentation_bytes", "mem_fragmentation_bytes", "Resident memory less memory in use", Kind::Gauge),
    ("mem_clients_normal", "mem_clients_normal", "Memory of clients", Kind::Gauge),
    ("mem_clients_slaves", "mem_clients_slaves", "Memory of replicas", Kind::Gauge),
    ("active_defrag_running", "active_defrag_running", "Whether memory is being defragmented", Kind::Gauge),
    ("lazyfree_pending_objects", "lazyfree_pending_objects", "Objects waiting to be freed", Kind::Gauge),
    ("loading", "loading_dump_file", "Whether a dump is being loaded", Kind::Gauge),
    ("rdb_changes_since_last_save", "rdb_changes_since_last_save", "Changes since the last dump", Kind::Gauge),
    ("rdb_bgsave_in_progress", "rdb_bgsave_in_progress", "Whether a dump is being written", Kind::Gauge),
    ("rdb_last_save_time", "rdb_last_save_timestamp_seconds", "When the last dump was written", Kind::Gauge),
    ("rdb_last_bgsave_status", "rdb_last_bgsave_status", "Whether the last dump succeeded", Kind::Gauge),
    ("rdb_last_bgsave_time_sec", "rdb_last_bgsave_duration_sec", "What the last dump took", Kind::Gauge),
    ("rdb_last_cow_size", "rdb_last_cow_size_bytes", "Memory copied during the last dump", Kind::Gauge),
    ("aof_enabled", "aof_enabled", "Whether there is an append-only file", Kind::Gauge),
    ("aof_rewrite_in_progress", "aof_rewrite_in_progress", "Whether it is being rewritten", Kind::Gauge),
    ("aof_last_bgrewrite_status", "aof_last_bgrewrite_status", "Whether the last rewrite succeeded", Kind::Gauge),
    ("aof_last_write_status", "aof_last_write_status", "Whether the last write succeeded", Kind::Gauge),
    ("aof_current_size", "aof_current_size_bytes", "Its size", Kind::Gauge),
    ("total_connections_received", "connections_received_total", "Connections accepted", Kind::Counter),
    ("total_commands_processed", "commands_processed_total", "Commands", Kind::Counter),
    ("instantaneous_ops_per_sec", "instantaneous_ops_per_sec", "Commands a second now", Kind::Gauge),
    ("total_net_input_bytes", "net_input_bytes_total", "Bytes received", Kind::Counter),
    ("total_net_output_bytes", "net_output_bytes_total", "Bytes sent", Kind::Counter),
    ("rejected_connections", "rejected_connections_total", "Connections refused", Kind::Counter),
    ("sync_full", "replica_resyncs_full", "Full synchronizations of replicas", Kind::Gauge),
    ("sync_partial_ok", "replica_partial_resync_accepted", "Partial synchronizations", Kind::Gauge),
    ("sync_partial_err", "replica_partial_resync_denied", "Partial synchronizations refused", Kind::Gauge),
    ("expired_keys", "expired_keys_total", "Keys that expired", Kind::Counter),
    ("expired_stale_perc", "expired_stale_percentage", "Keys that have expired and are still there", Kind::Gauge),
    ("evicted_keys", "evicted_keys_total", "Keys evicted for memory", Kind::Counter),
    ("keyspace_hits", "keyspace_hits_total", "Keys found", Kind::Counter),
    ("keyspace_misses", "keyspace_misses_total", "Keys not found", Kind::Counter),
    ("pubsub_channels", "pubsub_channels", "Channels with subscribers", Kind::Gauge),
    ("pubsub_patterns", "pubsub_patterns", "Patterns with subscribers", Kind::Gauge),
    ("latest_fork_usec", "latest_fork_usec", "What the last fork took", Kind::Gauge),
    ("total_error_replies", "total_error_replies", "Commands that failed", Kind::Counter),
    ("total_reads_processed", "total_reads_processed", "Reads from clients", Kind::Counter),
    ("total_writes_processed", "total_writes_processed", "Writes to clients", Kind::Counter),
    ("acl_access_denied_auth", "acl_access_denied_auth_total", "Logins refused", Kind::Counter),
    ("connected_slaves", "connected_slaves", "Replicas that are connected", Kind::Gauge),
    ("master_repl_offset", "master_repl_offset", "How far the replication is", Kind::Gauge),
    ("second_repl_offset", "second_repl_offset", "How far the one before it was", Kind::Gauge),
    ("repl_backlog_active", "repl_backlog_is_active", "Whether there is a backlog", Kind::Gauge),
    ("repl_backlog_size", "replication_backlog_bytes", "The backlog's size", Kind::Gauge),
    ("repl_backlog_histlen", "repl_backlog_history_bytes", "The backlog's content", Kind::Gauge),
    ("used_cpu_sys", "cpu_sys_seconds_total", "Processor time in the kernel", Kind::Counter),
    ("used_cpu_user", "cpu_user_seconds_total", "Processor time", Kind::Counter),
    ("used_cpu_sys_children", "cpu_sys_children_seconds_total", "Of its children in the kernel", Kind::Counter),
    ("used_cpu_user_children", "cpu_user_children_seconds_total", "Of its children", Kind::Counter),
    ("cluster_enabled", "cluster_enabled", "Whether it is part of a cluster", Kind::Gauge),
    ("slave_read_only", "slave_info_read_only", "Whether a replica takes no writes", Kind::Gauge),
];

/// The metrics of a server that answered.
#[must_use]
pub fn metrics(answers: &Answers) -> Metrics {
    let mut metrics = Metrics::default();
    metrics.gauge("redis_up", "Whether the server answered", &[], 1.0);
    let fields: Vec<(&str, &str)> = answers
        .info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .filter(|(name, _)| !name.starts_with('#'))
        .collect();
    let field = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let info = ["redis_version", "redis_mode", "os", "role", "tcp_port", "run_id", "maxmemory_policy", "process_id"];
    let labels: Vec<(&str, &str)> = info.iter().map(|name| (*name, field(name).unwrap_or_default())).collect();
    metrics.gauge("redis_instance_info", "The server", &labels, 1.0);
    for (name, metric, help, kind) in FIELDS {
        if let Some(value) = field(name).and_then(number) {
            metrics.add(&format!("redis_{metric}"), help, *kind, &[], value);
        }
    }
    if let Some(micros) = field("latest_fork_usec").and_then(number) {
        metrics.gauge("redis_latest_fork_seconds", "What the last fork took", &[], micros / 1e6);
    }
    if let (Some(host), Some(port)) = (field("master_host"), field("master_port")) {
        let labels = [("master_host", host), ("master_port", port)];
        let up = f64::from(u8::from(field("master_link_status") == Some("up")));
        metrics.gauge("redis_master_link_up", "Whether a replica is connected to its master", &labels, up);
        for (name, metric) in [
            ("master_last_io_seconds_ago", "redis_master_last_io_seconds_ago"),
            ("master_sync_in_progress", "redis_master_sync_in_progress"),
            ("slave_repl_offset", "redis_slave_repl_offset"),
        ] {
            if let Some(value) = field(name).and_then(number) {
                metrics.gauge(metric, "Of a replica", &labels, value);
            }
        }
    }
    for (name, value) in &fields {
        let part =
            |key: &str| value.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).and_then(number);
        if let Some(command) = name.strip_prefix("cmdstat_") {
            let labels = [("cmd", command)];
            for (key, metric, help, scale) in [
                ("calls", "redis_commands_total", "Calls of each command", 1.0),
                ("usec", "redis_commands_duration_seconds_total", "Time of each command", 1e-6),
                ("rejected_calls", "redis_commands_rejected_calls_total", "Calls refused before they began", 1.0),
                ("failed_calls", "redis_commands_failed_calls_total", "Calls that failed", 1.0),
            ] {
                if let Some(value) = part(key) {
                    metrics.counter(metric, help, &labels, value * scale);
                }
            }
        } else if let Some(error) = name.strip_prefix("errorstat_") {
            metrics.counter(
                "redis_errors_total",
                "Errors by their prefix",
                &[("err", error)],
                part("count").unwrap_or(0.0),
            );
        } else if name
            .strip_prefix("db")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let labels = [("db", *name)];
            metrics.gauge("redis_db_keys", "Keys", &labels, part("keys").unwrap_or(0.0));
            metrics.gauge("redis_db_keys_expiring", "Keys that will expire", &labels, part("expires").unwrap_or(0.0));
            metrics.gauge(
                "redis_db_avg_ttl_seconds",
                "Their time on average",
                &labels,
                part("avg_ttl").unwrap_or(0.0) / 1000.0,
            );
        } else if name.strip_prefix("slave").is_some_and(|rest| rest.parse::<u32>().is_ok()) {
            let text = |key: &str| {
                value.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
            };
            let labels = [("slave_ip", text("ip")), ("slave_port", text("port")), ("slave_state", text("state"))];
            metrics.gauge(
                "redis_connected_slave_offset_bytes",
                "How far a replica is",
                &labels,
                part("offset").unwrap_or(0.0),
            );
            metrics.gauge(
                "redis_connected_slave_lag_seconds",
                "How far it lies back",
                &labels,
                part("lag").unwrap_or(0.0),
            );
        }
    }
    if let Some(clients) = answers.max_clients {
        metrics.gauge("redis_config_maxclients", "Clients that may be connected", &[], clients);
    }
    if let Some(length) = answers.slow_log {
        metrics.gauge("redis_slowlog_length", "Entries of the slow log", &[], length);
    }
    metrics
}

fn number(text: &str) -> Option<f64> {
    match text {
        "ok" => Some(1.0),
        "err" | "fail" => Some(0.0),
        text => text.trim_end_matches('%').parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_becomes_the_metrics_that_dashboards_know() {
        let info = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:12\r\n# Memory\r\nused_memory:1000\r\n\
            rdb_last_bgsave_status:ok\r\nkeyspace_hits:5\r\nrole:slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:down\r\n\
            slave0:ip=127.0.0.1,port=6380,state=online,offset=42,lag=1\r\n\
            cmdstat_config|get:calls=3,usec=1500,usec_per_call=500.00,rejected_calls=0,failed_calls=1\r\n\
            errorstat_ERR:count=2\r\n# Keyspace\r\ndb0:keys=7,expires=2,avg_ttl=1500\r\nnonsense\r\nx:y\r\n";
        let metrics = metrics(&Answers { info: info.into(), max_clients: Some(100.0), slow_log: Some(3.0) });
        for (name, labels, value) in [
            ("redis_up", &[][..], 1.0),
            ("redis_memory_used_bytes", &[], 1000.0),
            ("redis_keyspace_hits_total", &[], 5.0),
            ("redis_rdb_last_bgsave_status", &[], 1.0),
            ("redis_db_keys", &[("db", "db0")], 7.0),
            ("redis_db_avg_ttl_seconds", &[("db", "db0")], 1.5),
            ("redis_commands_total", &[("cmd", "config|get")], 3.0),
            ("redis_commands_duration_seconds_total", &[("cmd", "config|get")], 0.0015),
            ("redis_errors_total", &[("err", "ERR")], 2.0),
            ("redis_master_link_up", &[("master_host", "h"), ("master_port", "1")], 0.0),
            ("redis_config_maxclients", &[], 100.0),
            ("redis_slowlog_length", &[], 3.0),
        ] {
            let told = metrics.value(name, labels).unwrap_or_else(|| panic!("{name}"));
            assert!((told - value).abs() < 1e-9, "{name}: {told}");
        }
    }
}
