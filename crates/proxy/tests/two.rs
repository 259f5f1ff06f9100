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
