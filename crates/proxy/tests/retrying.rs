//! Endpoints that fail, in every way they do.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::stage::*;

/// An endpoint that reads a request and then does something unheard of.
fn hostile(what: &'static str) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let address = server(move |mut stream| {
        let mut input = Vec::new();
        if read_message(&mut stream, &mut input, false).is_none() {
            return;
        }
        counter.fetch_add(1, Ordering::SeqCst);
        match what {
            "stall" => drop(stream.read(&mut [0])),
            "reset" => {}
            answer => drop(stream.write_all(answer.as_bytes())),
        }
    });
    (address, count)
}

const HOSTILE: &[&str] = &[
    "reset",
    "HTTP/1.1 200 OK\r\ncontent-le",
    "garbage\r\n\r\n",
    "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nx: y\r\n folded\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 99 Low\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
    "ICY 200 OK\r\n\r\n",
];

#[test]
fn an_answer_that_is_none_becomes_502_and_another_endpoint_is_asked_where_that_is_safe() {
    let (good, _) = named("good");
    for what in HOSTILE {
        let (bad, count) = hostile(what);
        let alone = Stage::simple(&[bad], "retry: {attempts: 0}", "", "");
        assert_eq!(get(alone.address(), "/").status, 502, "{what:?}");
        let both = Stage::simple(&[bad, good], "", "outlier: {failures: 0}", "");
        for _ in 0..4 {
            assert_eq!(get(both.address(), "/").text(), "good", "{what:?}");
        }
        let before = count.load(Ordering::SeqCst);
        let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
        let statuses: Vec<u16> = (0..2).map(|_| ask(both.address(), post).status).collect();
        assert!(
            statuses.contains(&502) && statuses.contains(&200),
            "a POST that was sent is not sent again: {what:?} {statuses:?}"
        );
        assert_eq!(count.load(Ordering::SeqCst), before + 1, "{what:?}");
    }
}

#[test]
fn where_nothing_was_sent_even_a_post_goes_elsewhere() {
    let (good, _) = named("good");
    let stage = Stage::simple(&[nobody(), good], "", "outlier: {failures: 0}", "");
    for _ in 0..4 {
        assert_eq!(ask(stage.address(), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").text(), "good");
    }
    let alone = Stage::simple(&[nobody()], "", "", "");
    assert_eq!(get(alone.address(), "/").status, 502);
}

#[test]
fn a_body_that_breaks_off_breaks_off_for_the_client_too() {
    for what in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    ] {
        let (bad, _) = hostile(what);
        let stage = Stage::simple(&[bad], "", "", "");
        let mut client = Client::new(stage.address());
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let all = String::from_utf8(client.rest()).unwrap();
        assert!(!all.ends_with("0\r\n\r\n") && !all.contains("helloworld"), "{what:?} {all:?}");
    }
}

#[test]
fn a_stalled_endpoint_is_given_up_in_time() {
    let (bad, _) = hostile("stall");
    let stage = Stage::simple(&[bad], "timeout: 200ms, retry: {attempts: 0}", "", "");
    assert_eq!(get(stage.address(), "/").status, 504);
    let (good, _) = named("good");
    let stage =
        Stage::simple(&[bad, good], "retry: {attempts: 1, attempt_timeout: 100ms}", "outlier: {failures: 0}", "");
    for _ in 0..4 {
        assert_eq!(get(stage.address(), "/").text(), "good");
    }
}

#[test]
fn an_endpoint_that_keeps_failing_is_left_out_for_a_while() {
    let ((bad, count), (good, _)) = (hostile("reset"), named("good"));
    let stage = Stage::simple(&[bad, good], "", "outlier: {failures: 3, ejection: 1h}", "");
    for _ in 0..20 {
        assert_eq!(get(stage.address(), "/").text(), "good");
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn statuses_that_count_as_failure_are_tried_elsewhere() {
    let (bad, good) = (app(|_, _| "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".into()), named("good").0);
    let stage = Stage::simple(&[bad, good], "retry: {attempts: 1, statuses: [503]}", "outlier: {failures: 0}", "");
    for _ in 0..4 {
        assert_eq!(get(stage.address(), "/").text(), "good");
    }
}

#[test]
fn checks_take_the_unwell_out_and_bring_them_back() {
    let well = Arc::new(AtomicUsize::new(1));
    let state = Arc::clone(&well);
    let flapping = app(move |head, _| {
        if head.starts_with("GET /health") && state.load(Ordering::SeqCst) == 0 {
            return "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".into();
        }
        ok("flapping")
    });
    let (steady, _) = named("steady");
    let stage =
        Stage::simple(&[flapping, steady], "", "health: {path: /health, interval: 20ms, healthy: 2, unhealthy: 2}", "");
    let seen = |name: &str| (0..4).any(|_| get(stage.address(), "/").text() == name);
    until("it serves", || seen("flapping"));
    well.store(0, Ordering::SeqCst);
    until("it is left out", || !seen("flapping"));
    well.store(1, Ordering::SeqCst);
    until("it is back", || seen("flapping"));
}

#[test]
fn a_full_pool_refuses_at_once() {
    let (slow, count) = hostile("stall");
    let stage = Stage::simple(&[slow], "timeout: 10s", "max_requests: 1, max_pending: 0", "");
    let mut first = Client::new(stage.address());
    first.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let started = std::time::Instant::now();
    until("the pool is full", || count.load(Ordering::SeqCst) == 1);
    assert_eq!(get(stage.address(), "/").status, 503);
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn endpoints_where_nobody_listens_are_passed_over_whatever_the_method() {
    let (good, _) = named("good");
    // Bound and dropped: nobody listens there.
    let dead = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = |route: &str| Stage::simple(&[dead(), dead(), dead(), good], route, "outlier: {failures: 0}", "");
    let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx";
    let usual = stage("");
    for _ in 0..8 {
        assert_eq!(get(usual.address(), "/").text(), "good");
        assert_eq!(ask(usual.address(), post).status, 200);
    }
    let one = stage("retry: {connects: 0}");
    let statuses: Vec<u16> = (0..8).map(|_| get(one.address(), "/").status).collect();
    assert!(statuses.contains(&502) && statuses.contains(&200), "one more attempt is not always enough: {statuses:?}");
    let none = stage("retry: {attempts: 0}");
    assert!((0..8).map(|_| get(none.address(), "/").status).filter(|status| *status == 502).count() >= 5);
}
