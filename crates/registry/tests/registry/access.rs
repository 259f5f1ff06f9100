//! Passwords, TLS and HTTP/2.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use registry::{Config, OpenError, Registry, Tls, hash_password};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{world, world_with};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn only_who_is_in_the_password_file_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    let line = |user: &str, password: &str| format!("{user}:{}\n", hash_password(password));
    std::fs::write(&file, format!("# people\n\nplain:secret\n{}", line("ann", "se:cret"))).unwrap();
    let path = file.clone();
    let world = world_with(|config| config.htpasswd = Some(path)).await;
    let ask = async |authorization: Option<String>| {
        let headers: Vec<(&str, &str)> = authorization.iter().map(|a| ("authorization", a.as_str())).collect();
        world.client.send(Method::GET, "/v2/", &headers, "").await
    };
    let reply = ask(None).await.fails(401, "UNAUTHORIZED");
    assert!(reply.header("www-authenticate").starts_with("Basic realm="));
    for (user, password) in [("ann", "secret"), ("bob", "se:cret"), ("plain", "secret"), ("ann", ""), ("", "")] {
        ask(Some(basic(user, password))).await.fails(401, "UNAUTHORIZED");
    }
    for nonsense in ["Basic", "Basic ?", "Bearer x", "Basic YQ=="] {
        ask(Some(nonsense.into())).await.fails(401, "UNAUTHORIZED");
    }
    ask(Some(basic("ann", &"x".repeat(10_000)))).await.fails(401, "UNAUTHORIZED");
    for _ in 0..3 {
        ask(Some(basic("ann", "se:cret"))).await.is(200);
    }
    // Nothing else is answered either, whatever the path.
    world.client.get("/v2/_catalog").await.fails(401, "UNAUTHORIZED");
    world.client.get("/nowhere").await.fails(401, "UNAUTHORIZED");
    // The file is read again when it changes, and those no longer in it are out.
    std::fs::write(&file, format!("{}{}", line("bob", "other"), line("cid", "more"))).unwrap();
    ask(Some(basic("bob", "other"))).await.is(200);
    ask(Some(basic("ann", "se:cret"))).await.fails(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_password_file_that_lets_nobody_in_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let content = engine::content::Content::open(dir.path()).unwrap();
    let open = |path| Registry::open(Config { htpasswd: Some(path), ..Config::new(content.clone()) });
    assert!(matches!(open(dir.path().join("none")), Err(OpenError::Htpasswd { .. })));
    std::fs::write(dir.path().join("plain"), "ann:{SHA}x\n").unwrap();
    assert!(matches!(open(dir.path().join("plain")), Err(OpenError::Nobody(_))));
}

#[tokio::test]
async fn tls_serves_both_versions_of_http() {
    let world = world().await;
    let image = world.client.image("x", "1", "text").await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let tls = Tls::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    assert!(Tls::from_pem(b"", b"").is_err());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = world.registry.clone();
    let task = tokio::spawn(async move { registry.serve(listener, Some(tls)).await });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    for version in [&b"h2"[..], b"http/1.1"] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![version.to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(version));
        let request = |method: Method| {
            let uri = format!("https://localhost/v2/x/blobs/{}", image.layer);
            Request::builder().method(method).uri(uri).body(Full::new(Bytes::new())).unwrap()
        };
        let (get, head) = if version == b"h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            (
                sender.send_request(request(Method::GET)).await.unwrap(),
                sender.send_request(request(Method::HEAD)).await.unwrap(),
            )
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let get = sender.send_request(request(Method::GET)).await.unwrap();
            let (head, body) = get.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(engine::content::Digest::of(&body), image.layer);
            let second = sender.send_request(request(Method::HEAD)).await.unwrap();
            assert_eq!(head.status, 200);
            assert_eq!(head.headers["content-length"], second.headers()["content-length"]);
            continue;
        };
        assert_eq!(head.headers()["content-length"], get.headers()["content-length"]);
        let body = get.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(engine::content::Digest::of(&body), image.layer);
        assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    task.abort();
}
