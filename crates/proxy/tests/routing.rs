//! Requests reach the endpoint they should, as they should.

use std::collections::HashSet;

use crate::stage::*;

#[test]
fn a_request_is_passed_on_with_the_four_forwarded_headers_and_without_what_is_the_connections_own() {
    let stage = Stage::simple(&[mirror_of_heads()], "", "", "");
    let mut client = Client::new(stage.address());
    for _ in 0..3 {
        let answer = client.ask("GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nConnection: keep-alive, x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\nX-Kept: yes\r\n\r\n");
        let head = answer.text().to_ascii_lowercase();
        assert!(head.starts_with("get /a?b=c http/1.1\r\nhost: shop.example\r\n"), "{head}");
        for line in [
            "x-forwarded-for: 127.0.0.1\r\n",
            "x-forwarded-proto: http\r\n",
            "x-forwarded-host: shop.example\r\n",
            "x-real-ip: 127.0.0.1\r\n",
            "x-kept: yes\r\n",
            "traceparent: 00-",
        ] {
            assert!(head.contains(line), "{line} {head}");
        }
        for gone in ["6.6.6.6", "x-secret", "keep-alive", "te:", "connection"] {
            assert!(!head.contains(gone), "{gone} {head}");
        }
    }
}

#[test]
fn trusted_proxies_are_believed_about_the_client() {
    let app = mirror_of_heads();
    let stage = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8, 10.0.0.0/8], routes: [{{to: [{{pool: app}}]}}]}}]
pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]"
    ));
    let answer = ask(
        stage.address(),
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6, 9.9.9.9, 10.1.1.1\r\nx-forwarded-proto: https\r\n\r\n",
    )
    .text();
    assert!(answer.contains("x-forwarded-for: 6.6.6.6, 9.9.9.9, 10.1.1.1, 127.0.0.1\r\n"), "{answer}");
    assert!(answer.contains("x-real-ip: 9.9.9.9\r\n") && answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
}

#[test]
fn routes_filters_and_rewrites_do_as_they_say() {
    let app = mirror_of_heads();
    let stage = Stage::new(&format!(
        "
listeners:
- address: 127.0.0.1:0
  routes:
  - matches: [{{path: {{prefix: /old}}}}]
    filters: {{redirect: {{scheme: https, host: new.example, path: {{prefix: /new}}, status: 301}}}}
  - matches: [{{path: {{prefix: /fixed}}}}]
    filters: {{respond: {{status: 418, body: teapot, headers: [{{name: x-pot, value: tea}}]}}}}
  - matches: [{{path: {{prefix: /api}}}}]
    filters:
      rewrite: {{host: inner, path: {{prefix: /}}}}
      request_headers: {{set: [{{name: X-A, value: '1'}}], add: [{{name: X-B, value: '2'}}], remove: [X-C]}}
      response_headers: {{set: [{{name: server, value: hythe}}]}}
    to: [{{pool: app}}]
pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]
"
    ));
    let moved = get(stage.address(), "/old/page?x=1");
    assert_eq!((moved.status, moved.header("location")), (301, Some("https://new.example/new/page?x=1")));
    let fixed = get(stage.address(), "/fixed");
    assert_eq!((fixed.status, fixed.text().as_str(), fixed.header("x-pot")), (418, "teapot", Some("tea")));
    let answer = ask(stage.address(), "GET /api/v1?q=2 HTTP/1.1\r\nhost: a\r\nx-a: 9\r\nx-b: 9\r\nx-c: 9\r\n\r\n");
    assert_eq!(answer.header("server"), Some("hythe"));
    let head = answer.text().to_ascii_lowercase();
    assert!(head.starts_with("get /v1?q=2 http/1.1\r\nhost: inner\r\n"), "{head}");
    assert!(
        head.contains("x-a: 1\r\n")
            && !head.contains("x-a: 9")
            && head.contains("x-b: 9\r\n")
            && head.contains("x-b: 2\r\n")
            && !head.contains("x-c"),
        "{head}"
    );
    assert_eq!(get(stage.address(), "/nowhere").status, 404);
}

#[test]
fn requests_are_shared_among_endpoints_and_a_cookie_keeps_a_client_with_one() {
    let (a, b) = (named("a"), named("b"));
    let stage = Stage::simple(&[a.0, b.0], "", "sticky: {}", "");
    let names: Vec<String> = (0..4).map(|_| get(stage.address(), "/").text()).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), 2);
    let first = get(stage.address(), "/");
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(!cookie.contains("127.0.0.1"));
    for _ in 0..6 {
        let again = ask(stage.address(), &format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: x=y; {cookie}\r\n\r\n"));
        assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
    }
}

#[test]
fn a_split_keeps_every_user_with_one_version_and_its_shares() {
    let (old, new) = (named("old"), named("new"));
    let yaml = |weight: u32| {
        format!(
            "listeners: [{{address: '127.0.0.1:0', routes: [{{stick: {{cookie: user}}, to: [{{pool: old, weight: {}}}, {{pool: new, weight: {weight}}}]}}]}}]
pools: [{{name: old, endpoints: [{{address: '{}'}}]}}, {{name: new, endpoints: [{{address: '{}'}}]}}]",
            100 - weight,
            old.0,
            new.0
        )
    };
    let stage = Stage::new(&yaml(10));
    let mut client = Client::new(stage.address());
    let mut versions = |users: usize| -> Vec<String> {
        (0..users)
            .map(|user| client.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: user=u{user}\r\n\r\n")).text())
            .collect()
    };
    let first = versions(1000);
    let share = first.iter().filter(|v| *v == "new").count();
    assert!((60..140).contains(&share), "{share}");
    assert_eq!(versions(1000), first, "nobody flips");
    stage.reload(&yaml(30).replace("127.0.0.1:0", &stage.address().to_string()));
    let more = versions(1000);
    assert!((230..370).contains(&more.iter().filter(|v| *v == "new").count()));
    assert!(
        first.iter().zip(&more).all(|(before, after)| before == after || after == "new"),
        "a larger share moves users one way only"
    );
}

#[test]
fn bodies_of_every_framing_pass_both_ways() {
    let app = app(|_, body| {
        let half = body.len() / 2;
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x};ext\r\n{}\r\n0\r\nx-trailer: t\r\n\r\n",
            half,
            String::from_utf8_lossy(&body[..half]),
            body.len() - half,
            String::from_utf8_lossy(&body[half..])
        )
    });
    let stage = Stage::simple(&[app], "", "", "");
    let mut client = Client::new(stage.address());
    let large = "0123456789abcdef".repeat(40_000);
    for body in ["hello", &large] {
        let answer = client.ask(&format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        assert_eq!((answer.status, answer.text() == *body), (200, true));
        let (left, right) = body.split_at(body.len() / 3);
        let chunked = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{left}\r\n{:X}\r\n{right}\r\n0\r\n\r\n",
            left.len(),
            right.len()
        );
        let answer = client.ask(&chunked);
        assert_eq!((answer.status, answer.text() == *body), (200, true));
    }
}

#[test]
fn interim_answers_and_upgrades_pass_through() {
    use std::io::{Read, Write};
    let app = server(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        if head.contains("upgrade: websocket") {
            assert!(head.contains("connection: upgrade\r\n"));
            stream
                .write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nwelcome",
                )
                .unwrap();
            let mut buffer = [0; 64];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..read]).unwrap();
            }
        } else {
            assert!(head.contains("expect: 100-continue"));
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            let mut body = [0; 5];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(ok(std::str::from_utf8(&body).unwrap()).as_bytes()).unwrap();
        }
    });
    let stage = Stage::simple(&[app], "", "", "");
    let mut client = Client::new(stage.address());
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.receive().unwrap().status, 100);
    client.send("hello");
    assert_eq!(client.receive().unwrap().text(), "hello");
    let mut client = Client::new(stage.address());
    let switched = client.ask("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!((switched.status, switched.header("upgrade")), (101, Some("websocket")));
    client.send("ping");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"welcomeping");
}

#[test]
fn pages_of_other_origins_are_told_what_they_may_and_preflight_requests_go_no_further() {
    let app = app(|_, _| {
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://own.example\r\ncontent-length: 3\r\n\r\napp".into()
    });
    let stage = Stage::new(&format!(
        "
listeners:
- address: 127.0.0.1:0
  routes:
  - filters:
      cors: {{origins: ['https://*.example.com'], credentials: true, methods: [PUT], headers: [x-a, x-b], expose: [x-c], max_age: 1h}}
    to: [{{pool: app}}]
pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]"
    ));
    let mut client = Client::new(stage.address());
    let preflight = |origin: &str| {
        format!(
            "OPTIONS / HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\naccess-control-request-method: PUT\r\naccess-control-request-headers: x-a\r\n\r\n"
        )
    };
    let answer = client.ask(&preflight("https://a.example.com"));
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "x-a, x-b"),
        ("access-control-expose-headers", "x-c"),
        ("access-control-max-age", "3600"),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let answer = client.ask(&preflight("https://example.org"));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, None));
    for (origin, allowed) in [("https://a.example.com", Some("https://a.example.com")), ("https://example.org", None)] {
        let answer = client.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\n\r\n"));
        assert_eq!((answer.text().as_str(), answer.header("access-control-allow-origin")), ("app", allowed));
        assert_eq!(answer.header("access-control-max-age"), None, "it did not ask in advance");
    }
    // OPTIONS that asks nothing in advance is the application's.
    assert_eq!(client.ask("OPTIONS / HTTP/1.1\r\nhost: a\r\n\r\n").text(), "app");
}

#[test]
fn a_target_rewrites_and_redirects_its_own_share_alone() {
    let app = mirror_of_heads();
    let stage = Stage::new(&format!(
        "
listeners:
- address: 127.0.0.1:0
  routes:
  - matches: [{{path: {{prefix: /old}}}}]
    filters: {{rewrite: {{host: all.example, path: {{prefix: /all}}}}}}
    to:
    - {{pool: app, weight: 1, rewrite: {{path: {{prefix: /new}}}}}}
  - matches: [{{path: {{prefix: /away}}}}]
    to:
    - {{pool: app, weight: 1, redirect: {{scheme: https, host: new.example, path: {{prefix: /there}}, status: 308}}}}
pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]"
    ));
    let mut client = Client::new(stage.address());
    let text = client.ask("GET /old/a?b HTTP/1.1\r\nhost: a\r\n\r\n").text();
    assert!(text.starts_with("GET /new/a?b HTTP/1.1\r\nhost: all.example\r\n"), "{text}");
    let answer = client.ask("GET /away/a?b HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://new.example/there/a?b")));
}
