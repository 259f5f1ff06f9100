//! The cache between clients and a server that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::stage::*;

const CACHE: &str = "caches: [{name: c, purge_from: [127.0.0.0/8]}]";

fn counted(answer: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> (Stage, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let app = app(move |head, _| answer(head, counter.fetch_add(1, Ordering::SeqCst) + 1));
    (Stage::simple(&[app], "cache: c", "", CACHE), count)
}

fn with(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{fields}\r\n\r\n{body}", body.len())
}

#[test]
fn a_fresh_response_answers_without_the_server_and_tells_its_age() {
    let (stage, count) = counted(|_, n| with("cache-control: max-age=60\r\nage: 5", &format!("answer {n}")));
    let first = get(stage.address(), "/");
    assert_eq!((first.text().as_str(), first.header("cache-status")), ("answer 1", Some("c; fwd=uri-miss; stored")));
    let second = get(stage.address(), "/");
    assert_eq!((second.text().as_str(), second.header("cache-status")), ("answer 1", Some("c; hit")));
    let age: u64 = second.header("age").unwrap().parse().unwrap();
    assert!((5..30).contains(&age));
    assert_eq!(get(stage.address(), "/?other").text(), "answer 2");
    let head = {
        let mut client = Client::new(stage.address());
        client.send("HEAD / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        String::from_utf8(client.rest()).unwrap()
    };
    assert!(head.contains("content-length: 8") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn answers_without_a_date_tell_when_they_came() {
    let seconds = |answer: &Answer| {
        assert_eq!(answer.head.to_ascii_lowercase().matches("\ndate:").count(), 1, "{}", answer.head);
        let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
        date.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (stage, count) = counted(|head, _| match head {
        head if head.starts_with("GET /dated ") => with("date: Sun, 06 Nov 1994 08:49:37 GMT", "x"),
        _ => with("cache-control: max-age=60", "x"),
    });
    let first = get(stage.address(), "/");
    assert!(seconds(&first) >= begun);
    // What is stored came when it came, however old it is.
    let (date, came) = (seconds(&get(stage.address(), "/")), seconds(&first));
    assert!(date >= begun && date <= came + 1, "{date}, and it came at {came}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(get(stage.address(), "/dated").header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    // The proxy's own answers, too.
    assert!(seconds(&ask(stage.address(), "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")) >= begun);
}

#[test]
fn what_must_not_be_stored_is_not() {
    for fields in [
        "cache-control: no-store",
        "cache-control: private, max-age=9",
        "x: y",
        "cache-control: max-age=9\r\nvary: *",
        "cache-control: max-age=9\r\nset-cookie: a=b",
    ] {
        let (stage, count) = counted(move |_, _| with(fields, "x"));
        for _ in 0..3 {
            assert_eq!(get(stage.address(), "/").text(), "x");
        }
        assert_eq!(count.load(Ordering::SeqCst), 3, "{fields}");
    }
}

#[test]
fn variants_are_kept_apart() {
    let (stage, count) = counted(|head, _| {
        let language = head.lines().find_map(|l| l.strip_prefix("accept-language: ")).unwrap_or("none").to_owned();
        with("cache-control: max-age=60\r\nvary: Accept-Language", &language)
    });
    for _ in 0..2 {
        for language in ["de", "fr"] {
            assert_eq!(
                ask(stage.address(), &format!("GET / HTTP/1.1\r\nhost: a\r\naccept-language: {language}\r\n\r\n"))
                    .text(),
                language
            );
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn what_is_old_is_renewed_by_its_tag_and_clients_that_have_it_are_told_so() {
    let (stage, count) = counted(|head, _| {
        if head.contains("if-none-match: \"v1\"") {
            return "HTTP/1.1 304 Not Modified\r\ncache-control: max-age=60\r\nx-renewed: yes\r\n\r\n".into();
        }
        with("cache-control: max-age=0\r\netag: \"v1\"", "body")
    });
    assert_eq!(get(stage.address(), "/").text(), "body");
    let renewed = get(stage.address(), "/");
    assert_eq!(
        (renewed.text().as_str(), renewed.header("x-renewed"), renewed.header("cache-status")),
        ("body", Some("yes"), Some("c; hit; fwd=stale; fwd-status=304"))
    );
    assert_eq!(get(stage.address(), "/").header("cache-status"), Some("c; hit"));
    let known = ask(stage.address(), "GET / HTTP/1.1\r\nhost: test\r\nif-none-match: \"v1\"\r\n\r\n");
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn many_who_ask_for_the_same_at_once_cost_one_request() {
    let (stage, count) = counted(|_, _| {
        std::thread::sleep(Duration::from_millis(100));
        with("cache-control: max-age=60", "x")
    });
    let address = stage.address();
    let clients: Vec<_> = (0..20).map(|_| std::thread::spawn(move || get(address, "/").text())).collect();
    assert!(clients.into_iter().all(|c| c.join().unwrap() == "x"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn what_is_stale_serves_while_it_is_renewed_and_when_the_server_fails() {
    let broken = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&broken);
    let (stage, count) = counted(move |head, n| {
        if state.load(Ordering::SeqCst) {
            return "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n".into();
        }
        if head.starts_with("GET /swr") {
            return with("cache-control: max-age=0, stale-while-revalidate=60", &format!("answer {n}"));
        }
        with("cache-control: max-age=0, stale-if-error=60", &format!("answer {n}"))
    });
    assert_eq!(get(stage.address(), "/swr").text(), "answer 1");
    assert_eq!(get(stage.address(), "/swr").text(), "answer 1");
    until("it is renewed beside", || count.load(Ordering::SeqCst) >= 2);
    until("what was renewed serves", || get(stage.address(), "/swr").text() != "answer 1");
    let first = get(stage.address(), "/sie").text();
    broken.store(true, Ordering::SeqCst);
    let stale = get(stage.address(), "/sie");
    assert_eq!((stale.status, stale.text()), (200, first));
    assert_eq!(get(stage.address(), "/other").status, 500);
}

#[test]
fn urls_and_tags_are_purged_by_those_who_may() {
    let (stage, _) = counted(|head, n| {
        let tag = if head.starts_with("GET /a") { "red blue" } else { "green" };
        with(&format!("cache-control: max-age=60\r\nsurrogate-key: {tag}"), &n.to_string())
    });
    let purge = |path: &str, more: &str| {
        ask(stage.address(), &format!("PURGE {path} HTTP/1.1\r\nhost: test\r\n{more}\r\n")).status
    };
    let (a, b) = (get(stage.address(), "/a").text(), get(stage.address(), "/b").text());
    assert_eq!(purge("/a", ""), 200);
    let again = get(stage.address(), "/a").text();
    assert!(again != a && get(stage.address(), "/b").text() == b);
    assert_eq!(purge("/", "surrogate-key: blue\r\n"), 200);
    assert!(get(stage.address(), "/a").text() != again && get(stage.address(), "/b").text() == b);
    assert_eq!(ask(stage.address(), "POST /b HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").status, 200);
    assert_ne!(get(stage.address(), "/b").text(), b, "a POST makes what is stored old");
    let app = named("x").0;
    let closed = Stage::simple(&[app], "cache: c", "", "caches: [{name: c}]");
    assert_eq!(ask(closed.address(), "PURGE / HTTP/1.1\r\nhost: test\r\n\r\n").status, 403);
}

#[test]
fn a_field_for_caches_like_this_counts_in_place_of_the_one_for_all() {
    for (fields, asked) in [
        ("cdn-cache-control: max-age=60\r\ncache-control: no-store", 1),
        ("cdn-cache-control: max-age=60\r\nexpires: Thu, 01 Jan 1970 00:00:00 GMT", 1),
        ("cdn-cache-control: no-store\r\ncache-control: max-age=60", 2),
        ("cdn-cache-control: max-age=60, &&\r\ncache-control: no-store", 2),
    ] {
        let (stage, count) = counted(move |_, _| with(fields, "x"));
        for _ in 0..2 {
            assert_eq!(get(stage.address(), "/").text(), "x");
        }
        assert_eq!(count.load(Ordering::SeqCst), asked, "{fields}");
    }
}

#[test]
fn parts_of_what_is_stored_are_served_from_it() {
    let (stage, count) = counted(|head, _| {
        if head.contains("range: bytes=") {
            return "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-0/10\r\ncontent-length: 1\r\ncache-control: max-age=60\r\n\r\n0".into();
        }
        with("cache-control: max-age=60\r\netag: \"v1\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT", "0123456789")
    });
    let part = |range: &str, more: &str| {
        let answer = ask(stage.address(), &format!("GET / HTTP/1.1\r\nhost: test\r\nrange: {range}\r\n{more}\r\n"));
        (answer.status, answer.text(), answer.header("content-range").unwrap_or_default().to_owned())
    };
    assert_eq!(part("bytes=0-0", ""), (206, "0".into(), "bytes 0-0/10".into()), "by the server: nothing is stored");
    assert_eq!(get(stage.address(), "/").text(), "0123456789", "a part was not taken for the whole");
    assert_eq!(part("bytes=2-4", ""), (206, "234".into(), "bytes 2-4/10".into()));
    assert_eq!(part("bytes=-2", ""), (206, "89".into(), "bytes 8-9/10".into()));
    assert_eq!(part("bytes=10-", ""), (416, "".into(), "bytes */10".into()));
    assert_eq!(part("bytes=2-4", "if-range: \"v1\"\r\n").0, 206);
    assert_eq!(part("bytes=2-4", "if-range: Sun, 06 Nov 1994 08:49:37 GMT\r\n").0, 206);
    assert_eq!(part("bytes=2-4", "if-range: \"v2\"\r\n"), (200, "0123456789".into(), "".into()));
    assert_eq!(part("bytes=2-4", "if-none-match: \"v1\"\r\n").0, 304);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn what_a_change_names_is_old_too_before_its_answer_is_seen() {
    let (stage, _) = counted(|head, n| {
        if head.starts_with("POST") {
            return "HTTP/1.1 201 Created\r\nlocation: /list\r\ncontent-location: item\r\ncontent-length: 0\r\n\r\n"
                .into();
        }
        with("cache-control: max-age=60", &n.to_string())
    });
    let paths = ["/list", "/item", "/add", "/other"];
    let before = paths.map(|path| get(stage.address(), path).text());
    assert_eq!(ask(stage.address(), "POST /add HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").status, 201);
    let after = paths.map(|path| get(stage.address(), path).text());
    let changed: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(changed, [true, true, true, false]);
}

#[test]
fn what_was_asked_for_before_a_purge_is_not_stored_after_it() {
    for purge in
        ["PURGE /page HTTP/1.1\r\nhost: test\r\n\r\n", "PURGE / HTTP/1.1\r\nhost: test\r\ncache-tag: red\r\n\r\n"]
    {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = std::sync::mpsc::channel();
        let ends = std::sync::Mutex::new((wait, begun));
        let (stage, _) = counted(move |_, n| {
            if n == 1 {
                let (wait, begun) = &*ends.lock().unwrap();
                begun.send(()).unwrap();
                wait.recv_timeout(DEADLINE).unwrap();
            }
            with("cache-control: max-age=60\r\ncache-tag: red", &n.to_string())
        });
        let address = stage.address();
        let slow = std::thread::spawn(move || get(address, "/page").text());
        begins.recv_timeout(DEADLINE).unwrap();
        assert_eq!(ask(address, purge).status, 200);
        go.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), "1");
        assert_eq!(get(address, "/page").text(), "2", "what was on its way is old");
        assert_eq!(get(address, "/page").text(), "2");
    }
}

#[test]
fn a_purge_reaches_all_replicas_and_says_when_it_did_not() {
    let app = app(|_, _| with("cache-control: max-age=600\r\nsurrogate-key: red", "x"));
    // Two replicas that know each other and themselves.
    let kept = [Kept::new(), Kept::new()];
    let addresses = kept.each_ref().map(|one| one.address);
    let replica = |address: std::net::SocketAddr, purgers: &str| {
        Stage::new(&format!(
            "listeners: [{{address: '{address}', routes: [{{to: [{{pool: app}}], cache: c}}]}}]\n\
             pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]\n\
             caches: [{{name: c, purge_from: [{purgers}], purge_peers: ['{}', '{}']}}]",
            addresses[0], addresses[1]
        ))
    };
    let first = replica(addresses[0], "127.0.0.0/8");
    // This one lets replicas purge, since they are, and nobody else.
    let second = replica(addresses[1], "10.9.9.9");
    let stored = |stage: &Stage| get(stage.address(), "/a").header("cache-status").unwrap().ends_with("hit");
    let fill = || [&first, &second].map(|stage| drop(get(stage.address(), "/a")));
    let purge = |stage: &Stage, more: &str| {
        let answer =
            ask(stage.address(), &format!("PURGE /a HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{more}\r\n"));
        (answer.status, answer.text())
    };
    for more in ["", "surrogate-key: red\r\n"] {
        fill();
        assert!(stored(&first) && stored(&second));
        assert_eq!(purge(&first, more), (200, "purged 2\n".to_owned()), "{more:?}");
        assert!(!stored(&first) && !stored(&second), "{more:?}");
    }
    assert_eq!(purge(&second, "").0, 403, "who is no purger there");
    // One that does not answer is named; one that is gone has nothing any more.
    drop(second);
    let mut silent = None;
    until("the replica listens no more", || {
        silent = std::net::TcpListener::bind(addresses[1]).ok();
        silent.is_some()
    });
    let closing = std::thread::spawn(move || drop(silent.unwrap().accept().unwrap()));
    let (status, text) = purge(&first, "");
    assert!(status == 502 && text.contains(&addresses[1].to_string()), "{status} {text}");
    closing.join().unwrap();
    drop(get(first.address(), "/a"));
    assert_eq!(purge(&first, ""), (200, "purged 1\n".to_owned()));
}
