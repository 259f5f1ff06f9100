//! PostgreSQL and MySQL, named as postgres_exporter and mysqld_exporter name them. Pure: from rows.

use super::exposition::{Kind, Metrics, legal_name};
use crate::wire::Rows;

/// What PostgreSQL is asked: the metrics' prefix, the columns that are labels, the query. Further columns are metrics; one
/// named `…_total`, or one of `COUNTERS`, only grows.
pub const POSTGRES: &[(&str, &[&str], &str)] = &[
    (
        "pg_static",
        &["version", "short_version"],
        "SELECT version() AS version, current_setting('server_version') AS short_version, 1",
    ),
    ("pg_postmaster", &[], "SELECT extract(epoch FROM pg_postmaster_start_time()) AS start_time_seconds"),
    (
        "pg_stat_database",
        &["datid", "datname"],
        "SELECT datid, coalesce(datname, '') AS datname, numbackends, xact_commit, xact_rollback, blks_read, blks_hit, \
      tup_returned, tup_fetched, tup_inserted, tup_updated, tup_deleted, conflicts, temp_files, temp_bytes, deadlocks, \
      blk_read_time, blk_write_time FROM pg_stat_database",
    ),
    (
        "pg_database",
        &["datname"],
        "SELECT datname, pg_database_size(datname) AS size_bytes, datconnlimit AS connection_limit FROM pg_database WHERE datallowconn",
    ),
    (
        "pg_locks",
        &["datname", "mode"],
        "SELECT d.datname, l.mode, count(*) AS count FROM pg_locks l JOIN pg_database d ON d.oid = l.database GROUP BY 1, 2",
    ),
    (
        "pg_stat_activity",
        &["datname", "state", "usename"],
        "SELECT coalesce(datname, '') AS datname, coalesce(state, '') AS state, coalesce(usename, '') AS usename, \
      count(*) AS count, coalesce(max(extract(epoch FROM now() - xact_start)), 0) AS max_tx_duration \
      FROM pg_stat_activity GROUP BY 1, 2, 3",
    ),
    (
        "pg_stat_bgwriter",
        &[],
        "SELECT buffers_clean AS buffers_clean_total, maxwritten_clean AS maxwritten_clean_total, buffers_alloc AS buffers_alloc_total FROM pg_stat_bgwriter",
    ),
    ("pg_settings", &[], "SELECT setting::float AS max_connections FROM pg_settings WHERE name = 'max_connections'"),
    (
        "pg_replication",
        &[],
        "SELECT CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END AS is_replica, \
      CASE WHEN NOT pg_is_in_recovery() THEN 0 ELSE greatest(0, coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0)) END AS lag_seconds",
    ),
    (
        "pg_stat_user_tables",
        &["schemaname", "relname"],
        "SELECT schemaname, relname, seq_scan, idx_scan, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup, n_dead_tup FROM pg_stat_user_tables",
    ),
];

const COUNTERS: &[&str] = &[
    "xact_commit",
    "xact_rollback",
    "blks_read",
    "blks_hit",
    "tup_returned",
    "tup_fetched",
    "tup_inserted",
    "tup_updated",
    "tup_deleted",
    "conflicts",
    "temp_files",
    "temp_bytes",
    "deadlocks",
    "blk_read_time",
    "blk_write_time",
    "seq_scan",
    "idx_scan",
    "n_tup_ins",
    "n_tup_upd",
    "n_tup_del",
];

/// Adds the metrics of one query's rows.
pub fn postgres(metrics: &mut Metrics, prefix: &str, labels: &[&str], rows: &Rows) {
    for row in &rows.rows {
        let text = |name: &str| rows.column(name).and_then(|at| row[at].as_deref()).unwrap_or_default();
        let named: Vec<(&str, &str)> = labels.iter().map(|name| (*name, text(name))).collect();
        for (column, value) in rows.columns.iter().zip(row) {
            if labels.contains(&column.as_str()) {
                continue;
            }
            // What is NULL is not told.
            let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) else { continue };
            let grows = COUNTERS.contains(&column.as_str()) || column.ends_with("_total");
            let kind = if grows { Kind::Counter } else { Kind::Gauge };
            // PostgreSQL calls a column without a name so.
            let name = if column.is_empty() || column == "?column?" {
                prefix.to_owned()
            } else {
                format!("{prefix}_{column}")
            };
            metrics.add(&name, "As PostgreSQL tells it", kind, &named, value);
        }
    }
}

/// What MySQL is asked: of each the first form that the server knows. MySQL 8.4 has forgotten the older of the last.
pub const MYSQL: [&[&str]; 3] =
    [&["SHOW GLOBAL STATUS"], &["SHOW GLOBAL VARIABLES"], &["SHOW SLAVE STATUS", "SHOW REPLICA STATUS"]];

/// Adds the metrics of `SHOW GLOBAL STATUS`.
pub fn mysql_status(metrics: &mut Metrics, rows: &Rows) {
    for (name, value) in pairs(rows) {
        let Some(value) = number(value) else { continue };
        let name = name.to_ascii_lowercase();
        let group = [
            ("com_", "commands_total", "command"),
            ("handler_", "handlers_total", "handler"),
            ("connection_errors_", "connection_errors_total", "error"),
            ("innodb_rows_", "innodb_row_ops_total", "operation"),
        ];
        let grouped =
            group.iter().find_map(|(prefix, metric, label)| Some((metric, label, name.strip_prefix(prefix)?)));
        match grouped {
            Some((metric, label, what)) => {
                metrics.counter(&format!("mysql_global_status_{metric}"), "As MySQL tells it", &[(label, what)], value);
            }
            None => match name.strip_prefix("innodb_buffer_pool_pages_") {
                Some("total") => {}
                Some(state @ ("data" | "free" | "misc" | "old" | "dirty")) => {
                    let metric = "mysql_global_status_buffer_pool_pages";
                    metrics.gauge(metric, "Pages of the buffer pool", &[("state", state)], value);
                }
                _ => {
                    let metric = legal_name(&format!("mysql_global_status_{name}"));
                    metrics.add(&metric, "As MySQL tells it", Kind::Unknown, &[], value);
                }
            },
        }
    }
}

/// Adds the metrics of `SHOW GLOBAL VARIABLES`.
pub fn mysql_variables(metrics: &mut Metrics, rows: &Rows) {
    let text = |wanted: &str| pairs(rows).find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
    let labels = [
        ("innodb_version", text("innodb_version")),
        ("version", text("version")),
        ("version_comment", text("version_comment")),
    ];
    metrics.gauge("mysql_version_info", "The server", &labels, 1.0);
    for (name, value) in pairs(rows) {
        if let Some(value) = number(value) {
            let metric = legal_name(&format!("mysql_global_variables_{}", name.to_ascii_lowercase()));
            metrics.gauge(&metric, "As it is set", &[], value);
        }
    }
}

/// Adds the metrics of `SHOW SLAVE STATUS`, or of `SHOW REPLICA STATUS`.
pub fn mysql_replica(metrics: &mut Metrics, rows: &Rows) {
    for row in &rows.rows {
        let text = |name: &str| rows.column(name).and_then(|at| row[at].as_deref());
        let host = text("Master_Host").or_else(|| text("Source_Host")).unwrap_or_default();
        let labels = [("master_host", host), ("channel_name", text("Channel_Name").unwrap_or_default())];
        for (column, value) in rows.columns.iter().zip(row) {
            if let Some(value) = value.as_deref().and_then(number) {
                let metric = legal_name(&format!("mysql_slave_status_{}", column.to_ascii_lowercase()));
                metrics.add(&metric, "Of a replica", Kind::Unknown, &labels, value);
            }
        }
    }
}

fn pairs(rows: &Rows) -> impl Iterator<Item = (&str, &str)> {
    rows.rows.iter().filter_map(|row| match row.as_slice() {
        [Some(name), Some(value)] => Some((name.as_str(), value.as_str())),
        _ => None,
    })
}

fn number(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" => Some(1.0),
        "no" | "off" | "disabled" | "connecting" => Some(0.0),
        text => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(columns: &[&str], values: &[&[Option<&str>]]) -> Rows {
        Rows {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows: values.iter().map(|row| row.iter().map(|value| value.map(str::to_owned)).collect()).collect(),
        }
    }

    #[test]
    fn rows_become_metrics_with_their_labels() {
        let mut metrics = Metrics::default();
        let found = rows(
            &["datid", "datname", "numbackends", "xact_commit", "blk_read_time"],
            &[&[Some("5"), Some("app"), Some("2"), Some("77"), None]],
        );
        postgres(&mut metrics, "pg_stat_database", &["datid", "datname"], &found);
        let labels = [("datid", "5"), ("datname", "app")];
        assert_eq!(metrics.value("pg_stat_database_xact_commit", &labels), Some(77.0));
        assert_eq!(metrics.families().len(), 2, "what is NULL is not told");

        let mut metrics = Metrics::default();
        mysql_status(
            &mut metrics,
            &rows(
                &["Variable_name", "Value"],
                &[
                    &[Some("Com_select"), Some("3")],
                    &[Some("Uptime"), Some("9")],
                    &[Some("Ssl_cipher"), Some("")],
                    &[Some("Innodb_buffer_pool_pages_free"), Some("8")],
                ],
            ),
        );
        mysql_variables(
            &mut metrics,
            &rows(&["Variable_name", "Value"], &[&[Some("version"), Some("10.11")], &[Some("log_bin"), Some("OFF")]]),
        );
        assert_eq!(metrics.value("mysql_global_status_commands_total", &[("command", "select")]), Some(3.0));
        assert_eq!(metrics.value("mysql_global_status_uptime", &[]), Some(9.0));
        assert_eq!(metrics.value("mysql_global_status_buffer_pool_pages", &[("state", "free")]), Some(8.0));
        assert_eq!(metrics.value("mysql_global_variables_log_bin", &[]), Some(0.0));
        mysql_replica(
            &mut metrics,
            &rows(
                &["Source_Host", "Channel_Name", "Seconds_Behind_Source", "Replica_IO_Running"],
                &[&[Some("db-0"), Some(""), Some("4"), Some("Yes")]],
            ),
        );
        let labels = [("master_host", "db-0"), ("channel_name", "")];
        assert_eq!(metrics.value("mysql_slave_status_seconds_behind_source", &labels), Some(4.0));
        assert_eq!(metrics.value("mysql_slave_status_replica_io_running", &labels), Some(1.0));
    }
}
