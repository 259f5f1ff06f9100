//! HAProxy's statistics in CSV, named as haproxy_exporter names them. Pure.

use super::exposition::{Kind, Metrics};

/// Column, metric behind `haproxy_frontend_` and so on, what it tells, its kind, and what it is multiplied by.
type Column = (&'static str, &'static str, &'static str, Kind, f64);

const COMMON: &[Column] = &[
    ("scur", "current_sessions", "Sessions", Kind::Gauge, 1.0),
    ("smax", "max_sessions", "Most sessions ever", Kind::Gauge, 1.0),
    ("slim", "limit_sessions", "Sessions that may be", Kind::Gauge, 1.0),
    ("stot", "sessions_total", "Sessions ever", Kind::Counter, 1.0),
    ("bin", "bytes_in_total", "Bytes received", Kind::Counter, 1.0),
    ("bout", "bytes_out_total", "Bytes sent", Kind::Counter, 1.0),
    ("rate", "current_session_rate", "Sessions in the last second", Kind::Gauge, 1.0),
    ("rate_max", "max_session_rate", "Most sessions in a second", Kind::Gauge, 1.0),
];
const FRONTEND: &[Column] = &[
    ("rate_lim", "limit_session_rate", "Sessions a second that may be", Kind::Gauge, 1.0),
    ("dreq", "requests_denied_total", "Requests denied", Kind::Counter, 1.0),
    ("ereq", "request_errors_total", "Requests that were broken", Kind::Counter, 1.0),
    ("req_tot", "http_requests_total", "Requests", Kind::Counter, 1.0),
    ("req_rate", "http_requests_rate_current", "Requests in the last second", Kind::Gauge, 1.0),
    ("conn_tot", "connections_total", "Connections", Kind::Counter, 1.0),
];
const BACKEND: &[Column] = &[
    ("qcur", "current_queue", "Requests that wait", Kind::Gauge, 1.0),
    ("qmax", "max_queue", "Most requests that waited", Kind::Gauge, 1.0),
    ("econ", "connection_errors_total", "Connections that failed", Kind::Counter, 1.0),
    ("eresp", "response_errors_total", "Answers that were broken", Kind::Counter, 1.0),
    ("wretr", "retry_warnings_total", "Connections that were tried again", Kind::Counter, 1.0),
    ("wredis", "redispatch_warnings_total", "Requests that went to another server", Kind::Counter, 1.0),
    ("weight", "weight", "Weight", Kind::Gauge, 1.0),
    ("lbtot", "server_selected_total", "Times it was chosen", Kind::Counter, 1.0),
    ("qtime", "http_queue_time_average_seconds", "Waiting, of the last 1024 requests", Kind::Gauge, 1e-3),
    ("ctime", "http_connect_time_average_seconds", "Connecting, of the last 1024 requests", Kind::Gauge, 1e-3),
    ("rtime", "http_response_time_average_seconds", "Answering, of the last 1024 requests", Kind::Gauge, 1e-3),
    ("ttime", "http_total_time_average_seconds", "In all, of the last 1024 requests", Kind::Gauge, 1e-3),
];
const GROUP: &[Column] = &[("act", "current_server", "Servers that are active", Kind::Gauge, 1.0)];
const SERVER: &[Column] = &[
    ("chkfail", "check_failures_total", "Checks that failed", Kind::Counter, 1.0),
    ("chkdown", "status_changes_total", "Times it went down", Kind::Counter, 1.0),
    ("downtime", "downtime_seconds_total", "Time it was down", Kind::Counter, 1.0),
    ("check_duration", "check_duration_seconds", "What the last check took", Kind::Gauge, 1e-3),
];

/// The metrics of a table; nothing if it is none.
#[must_use]
pub fn metrics(csv: &str) -> Option<Metrics> {
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next()?.strip_prefix("# ")?.split(',').collect();
    let mut metrics = Metrics::default();
    metrics.gauge("haproxy_up", "Whether the balancer answered", &[], 1.0);
    for line in lines.filter(|line| !line.is_empty()) {
        let values = split(line);
        let field = |name: &str| {
            let at = columns.iter().position(|column| *column == name)?;
            values.get(at).map(String::as_str).filter(|value| !value.is_empty())
        };
        let (Some(proxy), Some(server)) = (field("pxname"), field("svname")) else { continue };
        let (kind, labels, tables): (_, Vec<(&str, &str)>, &[&[Column]]) = match field("type") {
            Some("0") => ("frontend", vec![("frontend", proxy)], &[COMMON, FRONTEND]),
            Some("1") => ("backend", vec![("backend", proxy)], &[COMMON, BACKEND, GROUP]),
            Some("2") => ("server", vec![("backend", proxy), ("server", server)], &[COMMON, BACKEND, SERVER]),
            _ => continue,
        };
        for (column, metric, help, what, scale) in tables.iter().copied().flatten() {
            if let Some(value) = field(column).and_then(|value| value.parse::<f64>().ok()) {
                metrics.add(&format!("haproxy_{kind}_{metric}"), help, *what, &labels, value * scale);
            }
        }
        for code in ["1xx", "2xx", "3xx", "4xx", "5xx", "other"] {
            if let Some(value) = field(&format!("hrsp_{code}")).and_then(|value| value.parse().ok()) {
                let labels = [labels.as_slice(), &[("code", code)]].concat();
                let name = format!("haproxy_{kind}_http_responses_total");
                metrics.counter(&name, "Answers by their status", &labels, value);
            }
        }
        if kind != "frontend"
            && let Some(status) = field("status")
        {
            let up = ["UP", "OPEN", "no check", "DRAIN"].iter().any(|up| status.starts_with(up));
            metrics.gauge(&format!("haproxy_{kind}_up"), "Whether it is up", &labels, f64::from(u8::from(up)));
        }
    }
    Some(metrics)
}

/// Fields with commas stand in quotes (RFC 4180).
fn split(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontends_backends_and_servers_are_told_apart() {
        let csv = "# pxname,svname,scur,stot,status,type,hrsp_2xx,qtime,last_chk\n\
            web,FRONTEND,1,10,OPEN,0,9,,\n\
            app,one,0,4,UP 1/3,2,4,250,\"a, \"\"b\"\"\"\n\
            app,two,0,0,DOWN,2,0,,\n\
            app,BACKEND,0,4,UP,1,4,,\n";
        let metrics = metrics(csv).unwrap();
        let one = [("backend", "app"), ("server", "one")];
        assert_eq!(metrics.value("haproxy_frontend_sessions_total", &[("frontend", "web")]), Some(10.0));
        assert_eq!(metrics.value("haproxy_server_up", &one), Some(1.0));
        assert_eq!(metrics.value("haproxy_server_http_queue_time_average_seconds", &one), Some(0.25));
        assert_eq!(metrics.value("haproxy_server_up", &[("backend", "app"), ("server", "two")]), Some(0.0));
        assert_eq!(
            metrics.value("haproxy_backend_http_responses_total", &[("backend", "app"), ("code", "2xx")]),
            Some(4.0)
        );
        assert_eq!(super::metrics("<html>"), None);
        assert_eq!(split("a,\"b, \"\"c\"\"\",").len(), 3);
    }
}
