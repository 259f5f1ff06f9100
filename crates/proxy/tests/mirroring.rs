//! Copies of requests: production never notices them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::stage::*;

fn tee(production: std::net::SocketAddr, experiment: std::net::SocketAddr) -> Stage {
    Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', routes: [{{to: [{{pool: p}}], filters: {{mirrors: [{{pool: e, compare: true}}]}}}}]}}]
pools: [{{name: p, endpoints: [{{address: '{production}'}}]}}, {{name: e, endpoints: [{{address: '{experiment}'}}]}}]"
    ))
}

#[test]
fn the_experiment_sees_what_production_sees_and_production_answers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let experiment = app(move |head, body| {
        sink.lock().unwrap().push((head.lines().next().unwrap().to_owned(), body.to_vec()));
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".into()
    });
    let (production, _) = named("production");
    let stage = tee(production, experiment);
    let large = "x".repeat(200_000);
    for body in ["", "hello", &large] {
        let answer = ask(
            stage.address(),
            &format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        );
        assert_eq!(answer.text(), "production");
    }
    until("all copies arrive", || seen.lock().unwrap().len() == 3);
    let mut lengths: Vec<usize> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(line, body)| {
            assert_eq!(line, "POST /a HTTP/1.1");
            body.len()
        })
        .collect();
    lengths.sort();
    assert_eq!(lengths, [0, 5, 200_000]);
    let site = stage.proxy.shared().site();
    let comparison = Arc::clone(&site.listeners[0].routes().next().unwrap().mirrors[0].comparison);
    until("all are compared", || comparison.report().different_status == 3);
    assert_eq!(comparison.report().experiment.statuses.get(&500), Some(&3));
    assert_eq!(comparison.copied.load(Ordering::Relaxed), 3);
    let collector = proxy::metrics::SiteCollector(stage.proxy.shared().clone());
    stage.serving.admin().metrics(|registry| registry.register_collector(Box::new(collector)));
    let told = stage.serving.admin().encode();
    for (metric, result, count) in
        [("requests", "copied", 3), ("requests", "skipped", 0), ("answers", "same", 0), ("answers", "different", 3)]
    {
        let line = format!(
            "hythe_proxy_mirror_{metric}_total{{listener=\"127.0.0.1:0\",route=\"0\",pool=\"e\",result=\"{result}\"}} {count}\n"
        );
        assert!(told.contains(&line), "{line} in\n{told}");
    }
}

#[test]
fn an_experiment_that_stalls_or_is_gone_costs_production_nothing() {
    let stalled = server(|stream| {
        use std::io::Read;
        let mut stream = stream;
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for experiment in [stalled, nobody()] {
        let (production, _) = named("production");
        let stage = tee(production, experiment);
        let mut client = Client::new(stage.address());
        let started = Instant::now();
        for _ in 0..50 {
            assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").text(), "production");
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_copy_has_the_path_that_the_request_is_passed_on_with() {
    let (seen, copies) = std::sync::mpsc::channel();
    let seen = std::sync::Mutex::new(seen);
    let production = mirror_of_heads();
    let experiment = app(move |head, _| {
        seen.lock().unwrap().send(head.lines().next().unwrap_or_default().to_owned()).unwrap();
        ok("")
    });
    let stage = Stage::new(&format!(
        "
listeners:
- address: 127.0.0.1:0
  routes:
  - matches: [{{path: {{prefix: /old}}}}]
    filters: {{rewrite: {{path: {{prefix: /new}}}}, mirrors: [{{pool: experiment}}]}}
    to: [{{pool: production}}]
pools: [{{name: production, endpoints: [{{address: '{production}'}}]}}, {{name: experiment, endpoints: [{{address: '{experiment}'}}]}}]"
    ));
    let text = ask(stage.address(), "GET /old/a HTTP/1.1\r\nhost: a\r\n\r\n").text();
    assert!(text.starts_with("GET /new/a HTTP/1.1\r\n"), "{text}");
    assert_eq!(copies.recv_timeout(Duration::from_secs(20)).unwrap(), "GET /new/a HTTP/1.1");
}
