//! nginx's `stub_status`, named as nginx-prometheus-exporter names it. Pure.

use super::exposition::{Kind, Metrics};

/// The metrics of a status page; nothing if it is none.
#[must_use]
pub fn metrics(page: &str) -> Option<Metrics> {
    let mut lines = page.lines();
    let active = lines.next()?.strip_prefix("Active connections:")?.trim().parse().ok()?;
    lines.next().filter(|line| line.contains("accepts"))?;
    let numbers = |line: &str| line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<f64>>();
    let [accepted, handled, requests] = numbers(lines.next()?)[..] else { return None };
    let [reading, writing, waiting] = numbers(lines.next()?)[..] else { return None };
    let mut metrics = Metrics::default();
    metrics.gauge("nginx_up", "Whether the server answered", &[], 1.0);
    for (name, help, kind, value) in [
        ("nginx_connections_accepted", "Connections accepted", Kind::Counter, accepted),
        ("nginx_connections_active", "Connections", Kind::Gauge, active),
        ("nginx_connections_handled", "Connections served", Kind::Counter, handled),
        ("nginx_connections_reading", "Connections whose request is being read", Kind::Gauge, reading),
        ("nginx_connections_waiting", "Connections that are idle", Kind::Gauge, waiting),
        ("nginx_connections_writing", "Connections whose answer is being written", Kind::Gauge, writing),
        ("nginx_http_requests_total", "Requests", Kind::Counter, requests),
    ] {
        metrics.add(name, help, kind, &[], value);
    }
    Some(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_page_is_read_and_another_is_not() {
        let page =
            "Active connections: 2 \nserver accepts handled requests\n 10 9 33 \nReading: 0 Writing: 1 Waiting: 1 \n";
        let metrics = metrics(page).unwrap();
        assert_eq!(metrics.value("nginx_http_requests_total", &[]), Some(33.0));
        assert_eq!(metrics.value("nginx_connections_writing", &[]), Some(1.0));
        for page in ["", "<html>", "Active connections: x\n", "Active connections: 1\nserver accepts\n1 2\n"] {
            assert_eq!(super::metrics(page), None, "{page}");
        }
    }
}
