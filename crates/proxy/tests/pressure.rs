//! Bodies are carried, never held: who does not read stops who sends after so many bytes, however long the body is.
//!
//! What is under way at a time is what the sender was rid of and the receiver has not read. Of it the system holds the most,
//! in the buffers of four sockets, which grow to some MiB each; the proxy itself holds less than 1 MiB.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::stage::*;

/// The most that may be under way at a time.
const MOST: u64 = 64 << 20;
const PIECE: usize = 64 << 10;
/// A sender that gets rid of nothing for so long has been stopped. A slow machine makes it think so early, never late.
const STOPPED: Duration = Duration::from_millis(700);

/// A body on its way: both ends count, and the receiver waits until the sender is stopped.
#[derive(Clone)]
struct Way {
    length: u64,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    stopped: Sender<()>,
    begin: Arc<Mutex<Receiver<()>>>,
}

impl Way {
    fn of(length: u64) -> Self {
        let (stopped, begin) = channel();
        Self { length, sent: Arc::default(), received: Arc::default(), stopped, begin: Arc::new(Mutex::new(begin)) }
    }

    /// Counts what the sender is rid of.
    fn sent(&self, bytes: u64) {
        let sent = self.sent.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let under_way = sent - self.received.load(Ordering::SeqCst).min(sent);
        assert!(under_way <= MOST, "{under_way} bytes are under way, and the sender was not stopped");
    }

    /// Waits until nothing more goes, before anything is read.
    fn wait(&self) {
        let waited = self.begin.lock().unwrap().recv_timeout(DEADLINE);
        assert_ne!(waited, Err(RecvTimeoutError::Timeout), "the sender is stopped by a receiver that does not read");
    }

    /// Sends the body, in chunks if it is to be.
    fn send(&self, stream: &mut TcpStream, chunked: bool) {
        stream.set_write_timeout(Some(STOPPED)).unwrap();
        let mut told = false;
        let mut put = |mut bytes: &[u8], counts: bool| {
            while !bytes.is_empty() {
                match stream.write(bytes) {
                    Ok(written) => {
                        bytes = &bytes[written..];
                        if counts {
                            self.sent(written as u64);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock && !told => {
                        told = true;
                        self.stopped.send(()).unwrap();
                        stream.set_write_timeout(Some(DEADLINE)).unwrap();
                    }
                    Err(error) => panic!("it stands still: {error}"),
                }
            }
        };
        let mut at = 0;
        while at < self.length {
            let piece = piece(at);
            if chunked {
                put(format!("{PIECE:x}\r\n").as_bytes(), false);
            }
            put(&piece, true);
            if chunked {
                put(b"\r\n", false);
            }
            at += PIECE as u64;
        }
        if chunked {
            put(b"0\r\n\r\n", false);
        }
        assert!(told, "the receiver stopped the sender");
    }

    /// Reads the body to its end. All of it must be there, in its order.
    fn receive(&self, input: &mut impl BufRead, chunked: bool) {
        let mut part = vec![0; PIECE];
        let mut take = |input: &mut dyn Read, mut left: u64| {
            while left > 0 {
                let at = self.received.load(Ordering::SeqCst);
                let length = left.min(PIECE as u64 - at % PIECE as u64) as usize;
                input.read_exact(&mut part[..length]).unwrap();
                assert!(part[..length] == piece(at)[..length], "it is as it was sent, at {at}");
                self.received.fetch_add(length as u64, Ordering::SeqCst);
                left -= length as u64;
            }
        };
        if !chunked {
            return take(input, self.length);
        }
        loop {
            let mut line = String::new();
            input.read_line(&mut line).unwrap();
            let size = u64::from_str_radix(line.trim_end(), 16).unwrap();
            take(input, size);
            input.read_line(&mut line).unwrap();
            if size == 0 {
                return assert_eq!(self.received.load(Ordering::SeqCst), self.length);
            }
        }
    }
}

/// What the body has at a place, up to the next that is a multiple of [`PIECE`].
fn piece(at: u64) -> [u8; PIECE] {
    [(at / PIECE as u64 % 251) as u8; PIECE]
}

/// Reads a head; whether the body comes in chunks.
fn head(input: &mut impl BufRead) -> bool {
    let mut chunked = false;
    loop {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        chunked |= line.to_ascii_lowercase().starts_with("transfer-encoding: chunked");
        if line.len() <= 2 {
            return chunked;
        }
    }
}

/// The field that says where a body ends.
fn framing(way: &Way, chunked: bool) -> String {
    if chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {}", way.length) }
}

/// An endpoint that reads a request's body only once its sender is stopped, and then answers.
fn slow_endpoint(way: &Way) -> std::net::SocketAddr {
    let way = way.clone();
    server(move |stream| {
        let mut input = BufReader::new(&stream);
        let chunked = head(&mut input);
        way.wait();
        way.receive(&mut input, chunked);
        (&stream).write_all(ok("all of it").as_bytes()).unwrap();
    })
}

/// An endpoint whose answer has this body.
fn endpoint_with(way: &Way, chunked: bool, fields: &'static str) -> std::net::SocketAddr {
    let way = way.clone();
    server(move |mut stream| {
        head(&mut BufReader::new(&stream));
        write!(stream, "HTTP/1.1 200 OK\r\n{}\r\n{fields}\r\n", framing(&way, chunked)).unwrap();
        way.send(&mut stream, chunked);
    })
}

fn uploaded(way: &Way, stage: &Stage, chunked: bool) {
    let mut client = Client::new(stage.address());
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\n{}\r\n\r\n", framing(way, chunked)));
    way.send(&mut client.stream, chunked);
    assert_eq!(client.receive().unwrap().text(), "all of it");
}

fn downloaded(way: &Way, stage: &Stage) {
    let mut client = Client::new(stage.address());
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    way.wait();
    let mut input = BufReader::new(&client.stream);
    let chunked = head(&mut input);
    way.receive(&mut input, chunked);
}

#[test]
fn an_upload_of_any_length_stops_its_client_while_the_endpoint_does_not_read() {
    let way = Way::of(256 << 20);
    uploaded(&way, &Stage::simple(&[slow_endpoint(&way)], "", "", ""), false);
    let way = Way::of(96 << 20);
    uploaded(&way, &Stage::simple(&[slow_endpoint(&way)], "", "", ""), true);
}

#[test]
fn an_answer_of_any_length_stops_its_endpoint_while_the_client_does_not_read() {
    let way = Way::of(256 << 20);
    downloaded(&way, &Stage::simple(&[endpoint_with(&way, false, "")], "", "", ""));
    let way = Way::of(96 << 20);
    downloaded(&way, &Stage::simple(&[endpoint_with(&way, true, "")], "", "", ""));
}

#[test]
fn neither_a_copy_nor_a_cache_holds_what_is_too_large_for_them() {
    // A mirror gets its copy once the request is over, if it is small enough.
    let way = Way::of(96 << 20);
    let (experiment, copies) = named("experiment");
    let mirrored = format!(
        "pools: [{{name: app, endpoints: [{{address: '{}'}}]}}, {{name: e, endpoints: [{{address: '{experiment}'}}]}}]\nlisteners: [{{address: '127.0.0.1:0', routes: [{{to: [{{pool: app}}], filters: {{mirrors: [{{pool: e}}]}}}}]}}]",
        slow_endpoint(&way)
    );
    let stage = Stage::new(&mirrored);
    uploaded(&way, &stage, true);
    let site = stage.proxy.shared().site();
    let comparison = Arc::clone(&site.listeners[0].routes().next().unwrap().mirrors[0].comparison);
    until("the mirror is passed over", || comparison.skipped.load(Ordering::SeqCst) == 1);
    assert_eq!(copies.load(Ordering::SeqCst), 0);
    // Nothing says how long this answer will be, and it could be stored.
    let way = Way::of(96 << 20);
    let endpoint = endpoint_with(&way, true, "cache-control: max-age=60\r\n");
    downloaded(&way, &Stage::simple(&[endpoint], "cache: c", "", "caches: [{name: c}]"));
}

#[test]
fn plain_bytes_stop_their_sender_too() {
    let way = Way::of(96 << 20);
    let receiver = way.clone();
    let endpoint = server(move |stream| {
        receiver.wait();
        receiver.receive(&mut BufReader::new(&stream), false);
        (&stream).write_all(b"all of it").unwrap();
    });
    let stage = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', protocol: tcp, pool: app}}]\npools: [{{name: app, endpoints: [{{address: '{endpoint}'}}]}}]"
    ));
    let mut client = Client::new(stage.address());
    way.send(&mut client.stream, false);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"all of it");
}

#[test]
fn a_stream_of_http2_is_stopped_and_the_others_of_its_connection_go_on() {
    let way = Way::of(96 << 20);
    let slow = slow_endpoint(&way);
    let (quick, _) = named("quick");
    let stage = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', routes: [{{matches: [{{path: {{exact: /slow}}}}], to: [{{pool: slow}}]}}, {{to: [{{pool: quick}}]}}]}}]\npools: [{{name: slow, endpoints: [{{address: '{slow}'}}]}}, {{name: quick, endpoints: [{{address: '{quick}'}}]}}]"
    ));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let stream = tokio::net::TcpStream::connect(stage.address()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let post = http::Request::post("http://test/slow").body(()).unwrap();
        let (answer, mut out) = client.send_request(post, false).unwrap();
        let (mut at, mut told) = (0, false);
        while at < way.length {
            let mut data = Bytes::copy_from_slice(&piece(at));
            at += PIECE as u64;
            while !data.is_empty() {
                out.reserve_capacity(data.len());
                let patience = if told { DEADLINE } else { STOPPED };
                let granted = tokio::time::timeout(patience, std::future::poll_fn(|cx| out.poll_capacity(cx))).await;
                let Ok(granted) = granted else {
                    assert!(!told, "it stands still");
                    told = true;
                    let get = http::Request::get("http://test/quick").body(()).unwrap();
                    let (other, _) = client.send_request(get, true).unwrap();
                    assert_eq!(tokio::time::timeout(DEADLINE, other).await.unwrap().unwrap().status(), 200);
                    way.stopped.send(()).unwrap();
                    continue;
                };
                let granted = granted.unwrap().unwrap().min(data.len());
                out.send_data(data.split_to(granted), false).unwrap();
                way.sent(granted as u64);
            }
        }
        out.send_data(Bytes::new(), true).unwrap();
        assert!(told, "the endpoint stopped the client");
        assert_eq!(tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap().status(), 200);
    });
}

#[test]
fn an_upload_may_take_longer_than_its_answer() {
    let stage = Stage::simple(&[mirror_of_heads()], "timeout: 3s", "", "");
    let mut client = Client::new(stage.address());
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nfirst");
    // Nothing to wait for: the time that an answer may take is to pass.
    std::thread::sleep(Duration::from_secs(4));
    client.send("again");
    let answer = client.receive().unwrap();
    assert_eq!((answer.status, answer.text().ends_with("firstagain")), (200, true));
}

#[test]
fn a_long_poll_waits_and_each_event_is_there_before_the_next_is_made() {
    let (made, events) = channel::<Option<&'static str>>();
    let events = Mutex::new(events);
    let endpoint = server(move |mut stream| {
        head(&mut BufReader::new(&stream));
        let events = events.lock().unwrap();
        // Nothing at all is said until there is something to tell.
        let mut begun = false;
        while let Ok(event) = events.recv_timeout(DEADLINE) {
            if !begun {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
                begun = true;
            }
            match event {
                Some(event) => write!(stream, "{:x}\r\n{event}\r\n", event.len()).unwrap(),
                None => return stream.write_all(b"0\r\n\r\n").unwrap(),
            }
        }
    });
    let stage = Stage::simple(&[endpoint], "", "", "");
    let mut client = Client::new(stage.address());
    client.send("GET /events HTTP/1.1\r\nhost: test\r\n\r\n");
    let mut input = BufReader::new(client.stream.try_clone().unwrap());
    client.stream.set_read_timeout(Some(STOPPED)).unwrap();
    assert_eq!(input.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock, "nothing is told before there is anything");
    client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    made.send(Some("first")).unwrap();
    assert!(head(&mut input), "its length is not known before its end");
    for (told, next) in [("first", Some("second")), ("second", Some("third")), ("third", None)] {
        let (mut size, mut event) = (String::new(), vec![0; told.len() + 2]);
        input.read_line(&mut size).unwrap();
        input.read_exact(&mut event).unwrap();
        assert_eq!(
            (size.as_str(), event),
            (format!("{:x}\r\n", told.len()).as_str(), format!("{told}\r\n").into_bytes())
        );
        made.send(next).unwrap();
    }
    let mut end = String::new();
    input.read_line(&mut end).unwrap();
    assert_eq!(end, "0\r\n");
}
