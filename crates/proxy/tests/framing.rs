//! Strictness: what two readers could read differently never reaches an endpoint.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proxy::http1::{Chunked, Framing, Request, Response, Step, parse_request, parse_response};
use proxy::proxy_protocol;

use crate::stage::*;

/// Requests that must be refused, with the status that says so.
const REFUSED: &[(&str, u16)] = &[
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nX", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\nX", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n y: 2\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\n\tx: 1\r\n\r\n", 400),
    ("GET / HTTP/1.1\nhost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\rx: 1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET / /x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("GET x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /\x7f HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET http:///x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n", 501),
    ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    ("GET / HTTP/1.11\r\nhost: a\r\n\r\n", 400),
    ("GET / http/1.1\r\nhost: a\r\n\r\n", 400),
    ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
];

#[test]
fn what_two_readers_could_read_differently_is_refused_and_the_connection_ends() {
    let (app, count) = named("reached");
    let stage = Stage::simple(&[app], "", "", "");
    for (request, status) in REFUSED {
        let mut client = Client::new(stage.address());
        client.send(request);
        let answer = client.receive().unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(answer.status, *status, "{request:?}");
        assert_eq!(client.rest(), b"", "nothing follows {request:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "no endpoint has seen any of it");
    assert_eq!(get(stage.address(), "/").text(), "reached");
}

#[test]
fn the_target_of_a_request_counts_more_than_its_host_field_and_both_pass_on_as_one() {
    let stage = Stage::simple(&[mirror_of_heads()], "", "", "");
    for (request, first, host) in [
        ("GET http://a.example/x HTTP/1.1\r\nhost: b.example\r\n\r\n", "GET /x HTTP/1.1", "a.example"),
        ("GET http://a.example?q HTTP/1.1\r\nhost: b.example\r\n\r\n", "GET /?q HTTP/1.1", "a.example"),
        ("GET HTTP://a.example:81/ HTTP/1.1\r\nhost: a.example\r\n\r\n", "GET / HTTP/1.1", "a.example:81"),
        ("OPTIONS * HTTP/1.1\r\nhost: b.example\r\n\r\n", "OPTIONS * HTTP/1.1", "b.example"),
    ] {
        let text = ask(stage.address(), request).text();
        let hosts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("host: ")).collect();
        assert_eq!((text.lines().next(), hosts), (Some(first), vec![host]), "{request}");
    }
}

#[test]
fn chunks_are_passed_on_without_their_extensions_and_trailers_of_routing() {
    let stage = Stage::simple(&[mirror_of_heads()], "", "", "");
    let mut client = Client::new(stage.address());
    let answer = client.ask(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n00;x\r\ncontent-length: 9\r\nhost: evil\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with("hello") && !answer.text().contains("evil"), "{}", answer.text());
    // The request has ended where it did: the next one is one of its own.
    assert_eq!(client.ask("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").text().lines().next(), Some("GET /next HTTP/1.1"));
    for size in ["5;a=\nb", "5 5", "5;\x01", "0x5", " 5", "5\t", "+5"] {
        let text =
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(ask(stage.address(), &text).status, 400, "{size:?}");
    }
}

#[test]
fn what_an_endpoint_sends_beyond_its_answer_is_nobodys_answer() {
    let app = app(|head, _| {
        if head.starts_with("GET /first") {
            format!("{}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", ok("first"))
        } else {
            ok("second")
        }
    });
    let stage = Stage::simple(&[app], "", "", "");
    let mut client = Client::new(stage.address());
    for _ in 0..5 {
        assert_eq!(client.ask("GET /first HTTP/1.1\r\nhost: a\r\n\r\n").text(), "first");
        assert_eq!(client.ask("GET /second HTTP/1.1\r\nhost: a\r\n\r\n").text(), "second");
    }
}

#[test]
fn broken_chunks_end_the_request_and_nothing_behind_them_is_a_request() {
    let (app, count) = named("reached");
    let stage = Stage::simple(&[app], "", "", "");
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nhost : x\r\n\r\n",
    ] {
        let mut client = Client::new(stage.address());
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"));
        let answer = client.receive();
        assert!(answer.as_ref().is_some_and(|a| a.status == 400), "{chunks:?} {answer:?}");
        assert_eq!(client.rest(), b"", "{chunks:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "no request became whole");
}

#[test]
fn heads_and_bodies_have_bounds_with_answers_of_their_own() {
    let (app, _) = named("reached");
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0', limits: {{header_bytes: 1KiB, headers: 10, body_bytes: 10}}, routes: [{{to: [{{pool: app}}]}}]}}]
pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]"
    );
    let stage = Stage::new(&yaml);
    let long = "a".repeat(2000);
    let many = "x: y\r\n".repeat(10);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world".to_owned(), 413),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n".to_owned(),
            413,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello".to_owned(), 200),
    ] {
        assert_eq!(ask(stage.address(), &request).status, status, "{request}");
    }
}

#[test]
fn a_client_that_is_too_slow_is_told_so() {
    let (app, _) = named("reached");
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0', limits: {{header_timeout: 200ms, idle_body_timeout: 200ms}}, routes: [{{to: [{{pool: app}}]}}]}}]
pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]"
    );
    let stage = Stage::new(&yaml);
    let mut client = Client::new(stage.address());
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx: ");
    assert_eq!(client.receive().unwrap().status, 408);
    let mut client = Client::new(stage.address());
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhello");
    assert_eq!(client.receive().unwrap().status, 408);
}

/// A small generator of numbers: the same in every run, so that what fails fails again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// Pieces that attacks are made of.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"0\r\n\r\n",
    b"chunked",
    b"Host: a\r\n",
    b"HTTP/1.1",
    b"http://x/",
    b"Connection: close, content-length\r\n",
    b"\x80",
    b"5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 x\r\nUpgrade: y\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
];

fn parsed(text: &[u8]) -> Option<Result<(usize, Request), ()>> {
    let mut request = Request::default();
    request.text.extend_from_slice(text);
    match parse_request(&mut request, 8192, 64) {
        Ok(Some(length)) => Some(Ok((length, request))),
        Ok(None) => None,
        Err(_) => Some(Err(())),
    }
}

/// What must hold of whatever the parser says.
fn hold(input: &[u8]) {
    match parsed(input) {
        Some(Ok((length, request))) => {
            assert!(length <= input.len());
            for end in 0..length {
                assert!(
                    parsed(&input[..end]).is_none(),
                    "a prefix of {end} bytes says something else: {:?}",
                    String::from_utf8_lossy(input)
                );
            }
            let head = &input[..length];
            assert!(head.ends_with(b"\r\n\r\n"));
            let bare = head.iter().enumerate().any(|(i, b)| match b {
                b'\n' => i == 0 || head[i - 1] != b'\r',
                b'\r' => head.get(i + 1) != Some(&b'\n'),
                b'\0' => true,
                _ => false,
            });
            assert!(!bare, "{:?}", String::from_utf8_lossy(input));
            let count = |name: &[u8]| {
                request.fields.iter().filter(|f| f.name.of(&request.text).eq_ignore_ascii_case(name)).count()
            };
            let (lengths, codings) = (count(b"content-length"), count(b"transfer-encoding"));
            assert!(lengths + codings <= 1, "{:?}", String::from_utf8_lossy(input));
            assert!(count(b"host") <= 1);
            assert_eq!(codings == 1, request.framing == Framing::Chunked);
            for field in &request.fields {
                let name = field.name.of(&request.text);
                assert!(!name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b':'));
                let value = field.value.of(&request.text);
                assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
            }
        }
        Some(Err(())) => {
            // What is refused stays refused, whatever follows.
            let mut longer = input.to_vec();
            longer.extend_from_slice(b"\r\n\r\n");
            assert!(matches!(parsed(&longer), Some(Err(()))), "{:?}", String::from_utf8_lossy(input));
        }
        None => {}
    }
    let response = |text: &[u8]| {
        let mut response = Response::default();
        response.text.extend_from_slice(text);
        parse_response(&mut response, false, 8192).map(|length| length.map(|length| (length, response)))
    };
    if let Ok(Some((length, answer))) = response(input) {
        assert!(length <= input.len() && input[..length].ends_with(b"\r\n\r\n"));
        assert!((100..1000).contains(&answer.status));
        for end in 0..length {
            assert!(matches!(response(&input[..end]), Ok(None)), "{:?}", String::from_utf8_lossy(input));
        }
        for field in &answer.fields {
            assert!(!field.value.of(&answer.text).iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        }
    }
    if let Ok(Some(told)) = proxy_protocol::read(input) {
        assert!(told.length <= input.len());
        assert!((0..told.length).all(|end| matches!(proxy_protocol::read(&input[..end]), Ok(None))));
    }
    let (mut decoder, mut trailers, mut at) = (Chunked::default(), Vec::new(), 0);
    for _ in 0..input.len() + 2 {
        match decoder.step(&input[at..], &mut trailers) {
            Ok(Step::Skip(n)) => at += n,
            Ok(Step::Data(n)) => {
                decoder.took(n);
                at += n;
            }
            Ok(Step::End(n)) => {
                assert!(at + n <= input.len());
                return;
            }
            Ok(Step::More) | Err(_) => return,
        }
        assert!(at <= input.len());
    }
    panic!("the decoder does not come to an end");
}

#[test]
fn the_parsers_keep_their_rules_for_whatever_comes() {
    let mut corpus: Vec<Vec<u8>> = REFUSED.iter().map(|(text, _)| text.as_bytes().to_vec()).collect();
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for entry in std::fs::read_dir(kept).unwrap().flatten() {
        corpus.push(std::fs::read(entry.path()).unwrap());
    }
    corpus.iter().for_each(|input| hold(input));
    // Longer in `make test`: FUZZ_SECONDS. Other inputs: FUZZ_SEED.
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x9e37_79b9_7f4a_7c15);
    let (end, mut numbers) = (Instant::now() + Duration::from_secs(seconds), Numbers(seed));
    let mut tried = 0;
    while Instant::now() < end {
        let mut input = corpus[numbers.next(corpus.len())].clone();
        for _ in 0..=numbers.next(4) {
            let at = numbers.next(input.len() + 1);
            match numbers.next(5) {
                0 => drop(input.drain(at.min(input.len())..(at + numbers.next(8)).min(input.len()))),
                1 => drop(input.splice(at..at, PIECES[numbers.next(PIECES.len())].iter().copied())),
                2 if !input.is_empty() => {
                    let at = at.min(input.len() - 1);
                    input[at] = numbers.next(256) as u8;
                }
                3 => {
                    let other = &corpus[numbers.next(corpus.len())];
                    let from = numbers.next(other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => drop(input.splice(at..at, [b' '])),
            }
        }
        hold(&input);
        tried += 1;
    }
    assert!(tried > 100, "{tried}");
}
