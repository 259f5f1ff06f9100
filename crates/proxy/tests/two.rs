//! HTTP/2 on either side.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::*;

/// An HTTP/2 server that sends each body back, with trailers, as gRPC does.
async fn grpc() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        assert_eq!(request.headers()["te"], "trailers");
                        let mut body = request.into_body();
                        let mut out = respond
                            .send_response(
                                Response::builder().header("content-type", "application/grpc").body(()).unwrap(),
                                false,
                            )
                            .unwrap();
                        while let Some(Ok(data)) = body.data().await {
                            let _ = body.flow_control().release_capacity(data.len());
                            out.send_data(data, false).unwrap();
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        out.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

#[test]
fn a_grpc_call_streams_both_ways_and_keeps_its_trailers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let app = runtime.block_on(grpc());
    let stage = Stage::simple(&[app], "", "http: '2'", "");
    runtime.block_on(async {
        let stream = TcpStream::connect(stage.address()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        for _ in 0..3 {
            let request = Request::builder()
                .method("POST")
                .uri("http://svc.example/pkg.Svc/Call")
                .header("te", "trailers")
                .body(())
                .unwrap();
            let (answer, mut out) = client.send_request(request, false).unwrap();
            let answer = tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
                (200, &b"application/grpc"[..])
            );
            let mut body = answer.into_body();
            for word in ["one", "two"] {
                out.send_data(Bytes::from(word), false).unwrap();
                let back = tokio::time::timeout(DEADLINE, body.data()).await.unwrap().unwrap().unwrap();
                assert_eq!(back, word, "each message comes back before the next is sent");
                body.flow_control().release_capacity(back.len()).unwrap();
            }
            out.send_data(Bytes::new(), true).unwrap();
            assert!(body.data().await.is_none());
            assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        }
    });
}

#[test]
fn http2_clients_reach_http1_servers() {
    let stage = Stage::simple(&[mirror_of_heads()], "", "", "");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let stream = TcpStream::connect(stage.address()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::builder()
            .method("POST")
            .uri("http://shop.example/x?y=1")
            .header("cookie", "a=b")
            .header("cookie", "c=d")
            .body(())
            .unwrap();
        let (answer, mut out) = client.send_request(request, false).unwrap();
        out.send_data(Bytes::from("hello"), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut text = Vec::new();
        let mut body = answer.into_body();
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data.unwrap());
        }
        let text = String::from_utf8(text).unwrap().to_ascii_lowercase();
        assert!(text.starts_with("post /x?y=1 http/1.1\r\nhost: shop.example\r\n"), "{text}");
        assert!(
            text.contains("cookie: a=b; c=d\r\n")
                && text.contains("transfer-encoding: chunked")
                && text.ends_with("hello"),
            "{text}"
        );
    });
}

#[test]
fn a_client_that_lets_its_stream_go_lets_the_endpoints_go_too() {
    // An endpoint that answers nothing, one whose answer goes on for ever; each tells when it is let go.
    for (answer, status) in
        [("", None), ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Some(200))]
    {
        let (told, tells) = std::sync::mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let app = server(move |mut stream| {
            let mut input = Vec::new();
            read_message(&mut stream, &mut input, false).unwrap();
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            told.lock().unwrap().send("asked").unwrap();
            let ended = std::io::Read::read(&mut stream, &mut [0]);
            assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
            told.lock().unwrap().send("let go").unwrap();
        });
        let stage = Stage::simple(&[app], "", "", "");
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let stream = TcpStream::connect(stage.address()).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut client = client.ready().await.unwrap();
            let request = Request::builder().uri("http://shop.example/wait").body(()).unwrap();
            let (answer, mut out) = client.send_request(request, true).unwrap();
            assert_eq!(tells.recv_timeout(DEADLINE), Ok("asked"));
            if let Some(status) = status {
                assert_eq!(answer.await.unwrap().status(), status);
            }
            out.send_reset(h2::Reason::CANCEL);
            let let_go = tokio::task::spawn_blocking(move || tells.recv_timeout(DEADLINE));
            assert_eq!(let_go.await.unwrap(), Ok("let go"));
        });
    }
}

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Header fields, each a literal that is not remembered (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

/// What the proxy says of some frames: statuses, resets, its farewell, each with its code; then whether it goes on.
fn said(address: std::net::SocketAddr, frames: &[u8]) -> String {
    let mut client = Client::new(address);
    let ping = frame(6, 0, 0, b"still on");
    let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frames.to_vec(), ping].concat();
    // It may hang up in the midst of it.
    let _ = std::io::Write::write_all(&mut client.stream, &all);
    let (mut input, mut words, mut on) = (Vec::new(), Vec::new(), false);
    loop {
        while input.len() >= 9 {
            let length = u32::from_be_bytes([0, input[0], input[1], input[2]]) as usize;
            if input.len() < 9 + length {
                break;
            }
            let whole: Vec<u8> = input.drain(..9 + length).collect();
            let code = |at: usize| u32::from_be_bytes(whole[at..at + 4].try_into().unwrap());
            match whole[3] {
                1 => words.push(match &whole[9..] {
                    [0x88, ..] => "200".to_owned(),
                    [0x8c, ..] => "400".to_owned(),
                    // Digits in Huffman's code.
                    [0x08 | 0x48, 0x82, 0x6c, 0x01, ..] => "501".to_owned(),
                    [0x08 | 0x48, 0x83, 0x69, 0x90, 0xff, ..] => "431".to_owned(),
                    other => format!("{other:02x?}"),
                }),
                3 => words.push(format!("reset {}", code(9))),
                7 => words.push(format!("goaway {}", code(13))),
                6 if whole[4] == 1 => on = true,
                _ => {}
            }
        }
        if on && !words.is_empty() {
            return words.join(" ");
        }
        let mut bytes = [0; 4096];
        match std::io::Read::read(&mut client.stream, &mut bytes) {
            Ok(0) | Err(_) => return words.join(" ") + " end",
            Ok(count) => input.extend_from_slice(&bytes[..count]),
        }
    }
}

#[test]
fn requests_of_http2_that_two_readers_could_read_differently_end_their_stream_alone() {
    let (app, count) = named("reached");
    let stage = Stage::simple(&[app], "", "", "");
    let with = |more: &[(&str, &str)]| frame(1, 5, 1, &block(&[&GET[..], more].concat()));
    let without = |name: &str| {
        let rest: Vec<_> = GET.into_iter().filter(|(n, _)| *n != name).collect();
        frame(1, 5, 1, &block(&rest))
    };
    for (what, frames, expected) in [
        ("connection", with(&[("connection", "close")]), "reset 1"),
        ("transfer coding", with(&[("transfer-encoding", "chunked")]), "reset 1"),
        ("te", with(&[("te", "gzip")]), "reset 1"),
        ("path twice", with(&[(":path", "/b")]), "reset 1"),
        ("status", with(&[(":status", "200")]), "reset 1"),
        ("no path", without(":path"), "reset 1"),
        ("no method", without(":method"), "reset 1"),
        ("no host", without(":authority"), "400"),
        ("length without body", with(&[("content-length", "5")]), "reset 1"),
        ("tunnel", frame(1, 5, 1, &block(&[(":method", "CONNECT"), (":authority", "a:443")])), "501"),
    ] {
        assert_eq!(said(stage.address(), &frames), expected, "{what}");
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 0, "no endpoint has seen any of it");
    assert_eq!(said(stage.address(), &with(&[("te", "trailers"), ("host", "other")])), "200");
    let long = [
        frame(1, 4, 1, &block(&[(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", "5")])),
        frame(0, 1, 1, b"abc"),
    ];
    assert_eq!(said(stage.address(), &long.concat()), "reset 1", "a body shorter than it was said to be");
}

#[test]
fn floods_of_http2_end_the_connection_and_nothing_else() {
    let (app, _) = named("x");
    let stage = Stage::simple(&[app], "", "", "");
    let head = block(&GET);
    let resets: Vec<u8> = (0..3000)
        .flat_map(|i| [frame(1, 5, 1 + 2 * i, &head), frame(3, 0, 1 + 2 * i, &8u32.to_be_bytes())].concat())
        .collect();
    assert!(said(stage.address(), &resets).contains("goaway 11"), "resets");
    let field = block(&[("x", &"y".repeat(100))]);
    let mut endless = frame(1, 1, 1, &head);
    endless.extend((0..3000).flat_map(|_| frame(9, 0, 1, &field)));
    assert!(said(stage.address(), &endless).contains("goaway 11"), "fields without an end");
    assert!(said(stage.address(), &frame(0, 0, 0, b"x")).starts_with("goaway 1"), "data of no stream");
    assert_eq!(get(stage.address(), "/").text(), "x");
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_reaches_the_client() {
    let app = server(|mut stream| {
        let mut head = [0; 4096];
        let _ = std::io::Read::read(&mut stream, &mut head);
        let _ = std::io::Write::write_all(
            &mut stream,
            b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig",
        );
    });
    let far = Stage::simple(&[nobody()], "", "", "");
    let near = Stage::simple(&[app], "", "", "");
    for (stage, status) in [(&far, 502), (&near, 413)] {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let stream = TcpStream::connect(stage.address()).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut client = client.ready().await.unwrap();
            let request = Request::builder().method("PUT").uri("http://shop.example/up").body(()).unwrap();
            let (answer, mut out) = client.send_request(request, false).unwrap();
            out.send_data(Bytes::from(vec![b'x'; 20_000]), false).unwrap();
            let answer = tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap();
            assert_eq!(answer.status(), status);
            let mut body = answer.into_body();
            assert!(tokio::time::timeout(DEADLINE, body.data()).await.unwrap().unwrap().is_ok());
            // The rest is not wanted: the stream is ended, the connection is not.
            client.ready().await.unwrap();
        });
    }
}
