//! Over TLS: protocols, credentials, and what is not a request at all.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use apiserver::{Config, NodeConnector, NodeStream, User};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Incoming, client::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::client::Api;

struct Site {
    api: Api,
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    issuer: Issuer<'static, KeyPair>,
}

async fn site() -> Site {
    site_with(Config::default()).await
}

async fn site_with(config: Config) -> Site {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let _ = provider.as_ref().clone().install_default();
    let mut params = CertificateParams::new(Vec::new()).expect("valid parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("a root");
    let roots = Arc::new(roots);
    let server_key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".into()])
        .expect("valid")
        .signed_by(&server_key, &issuer)
        .expect("signed");
    let verifier = WebPkiClientVerifier::builder(roots.clone()).allow_unauthenticated().build().expect("a verifier");
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).expect("a key");
    let tls = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("valid");
    let tokens = HashMap::from([("secret".to_owned(), User::admin("admin"))]);
    let api = Api::with(Config { tokens, ..config }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(api.server.clone().serve(listener, tls));
    Site { api, address, roots, issuer }
}

impl Site {
    async fn connect(&self, alpn: &str, client: Option<(&str, &[&str])>) -> TlsStream<TcpStream> {
        let builder = ClientConfig::builder().with_root_certificates(self.roots.clone());
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some((name, groups)) => {
                let mut params = CertificateParams::new(Vec::new()).expect("valid");
                params.distinguished_name.push(DnType::CommonName, name);
                for group in groups {
                    params.distinguished_name.push(DnType::OrganizationName, *group);
                }
                let key = KeyPair::generate().expect("a key");
                let certificate = params.signed_by(&key, &self.issuer).expect("signed");
                let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).expect("valid")
            }
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let socket = TcpStream::connect(self.address).await.expect("it connects");
        let name = "localhost".try_into().expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("TLS")
    }

    async fn get(&self, path: &str, token: Option<&str>, client: Option<(&str, &[&str])>) -> (StatusCode, Value) {
        let stream = TokioIo::new(self.connect("http/1.1", client).await);
        let (mut sender, connection) = conn::http1::handshake(stream).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response =
            sender.send_request(request.body(Full::new(Bytes::new())).expect("valid")).await.expect("an answer");
        let code = response.status();
        let bytes = response.into_body().collect().await.expect("bodies end well").to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_decide_who_is_served() {
    let site = site().await;
    let path = "/api/v1/namespaces/default";
    assert_eq!(site.get(path, Some("secret"), None).await.0, 200);
    let (code, status) = site.get(path, Some("wrong"), None).await;
    assert_eq!((code.as_u16(), &status["reason"]), (401, &"Unauthorized".into()));
    let (code, status) = site.get(path, None, None).await;
    assert_eq!(code, 403);
    assert!(
        status["message"]
            .as_str()
            .is_some_and(|m| m.contains("User \"system:anonymous\" cannot get resource \"namespaces\"")),
        "{status}"
    );
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(site.get(path, None, None).await.0, 200, "{path}");
    }
    assert_eq!(site.get("/api", None, None).await.0, 403);
    assert_eq!(site.get("/metrics", None, None).await.0, 403);
    assert_eq!(site.get(path, None, Some(("jane", &["dev"]))).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_to_those_who_ask_for_it() {
    let site = site().await;
    let stream = TokioIo::new(site.connect("h2", None).await);
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let requests = (0..50).map(|_| {
        let request = Request::get("https://localhost/api/v1/namespaces").header("authorization", "Bearer secret");
        sender.send_request(request.body(Full::new(Bytes::new())).expect("valid"))
    });
    for response in futures::future::join_all(requests).await {
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200);
        let list: Value =
            serde_json::from_slice(&response.into_body().collect().await.expect("ends well").to_bytes()).expect("JSON");
        assert_eq!(list["kind"], "NamespaceList");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_over_http2_is_heard_out_and_told() {
    const PIECES: usize = 40;
    let site = site().await;
    let stream = TokioIo::new(site.connect("h2", None).await);
    let (mut sender, connection) =
        conn::http2::handshake::<_, _, StreamBody<_>>(TokioExecutor::new(), stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let pieces = futures::stream::iter(0..PIECES).map(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(hyper::body::Frame::data(Bytes::from(vec![b'x'; 100_000])))
    });
    let request = Request::post("https://localhost/api/v1/namespaces/default/configmaps")
        .header("authorization", "Bearer secret")
        .header("content-type", "application/json")
        .body(StreamBody::new(pieces));
    let response = sender.send_request(request.expect("valid")).await.expect("an answer");
    assert_eq!(response.status(), 413);
    let body = response.into_body().collect().await.expect("ends well").to_bytes();
    let status: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(status["message"], "Request entity too large: limit is 3145728");
    assert_eq!(sent.load(Ordering::SeqCst), PIECES, "the body was not taken to its end");
}

/// Upgrades every request and sends back what it gets.
struct Mirror;

#[async_trait]
impl NodeConnector for Mirror {
    async fn connect(&self, _: &str) -> io::Result<Box<dyn NodeStream>> {
        let (near, far) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let service = service_fn(|mut request: Request<Incoming>| async move {
                let protocol = request.headers()["sec-websocket-protocol"].clone();
                tokio::spawn(async move {
                    let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.expect("it is upgraded"));
                    let (mut read, mut write) = tokio::io::split(&mut stream);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
                let response =
                    Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
                let response = response.header("sec-websocket-protocol", protocol);
                Ok::<_, Infallible>(response.body(Full::new(Bytes::new())).expect("valid"))
            });
            let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
            let _ = serving.with_upgrades().await;
        });
        Ok(Box::new(near))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_exec_is_a_pipe_to_the_agent() {
    let site = site_with(Config { nodes: Arc::new(Mirror), ..Config::default() }).await;
    let namespace = "/api/v1/namespaces/default";
    site.api.made(&format!("{namespace}/serviceaccounts"), &json!({"metadata": {"name": "default"}})).await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    site.api.made(&format!("{namespace}/pods"), &pod).await;
    let mut stream = site.connect("http/1.1", None).await;
    let request = format!(
        "GET {namespace}/pods/p/exec?command=sh&stdin=1&stdout=1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-protocol: v5.channel.k8s.io") && head.contains("upgrade: websocket"),
        "{head}"
    );
    for message in [&b"hello"[..], &[0; 70_000]] {
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let mut answer = vec![1; message.len()];
        let (sent, got) = tokio::join!(write.write_all(message), read.read_exact(&mut answer));
        sent.expect("it is sent");
        got.expect("it comes back");
        assert_eq!(answer, message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_port_harms_nobody() {
    let site = site().await;
    let mut seed = 7u64;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) as u8
            })
            .collect()
    };
    let mut clients = Vec::new();
    for round in 0..200 {
        let mut bytes = noise(1 + round * 7);
        if round % 3 == 0 {
            // It begins like a TLS handshake.
            bytes.splice(0..0, [22, 3, 1, 2, 0]);
        }
        let mut socket = TcpStream::connect(site.address).await.expect("it connects");
        let _ = socket.write_all(&bytes).await;
        clients.push(socket);
    }
    for round in 0..100 {
        let mut stream = site.connect("http/1.1", None).await;
        let bytes = noise(1 + round * 31);
        let _ = stream.write_all(&bytes).await;
        let _ = stream.write_all(b"\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(200), stream.read_to_end(&mut answer)).await;
    }
    for line in [
        "GET /%ff%fe/../.. HTTP/1.1",
        "GET /api/v1/namespaces/%00/pods?limit=%zz&watch=%f0 HTTP/1.1",
        "POST //api//v1 HTTP/1.1",
        "PATCH /apis/a/b/c/d/e/f/g/h HTTP/1.1",
    ] {
        let mut stream = site.connect("http/1.1", None).await;
        let request = format!(
            "{line}\r\nhost: a\r\nauthorization: Bearer secret\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{line}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(site.get("/api/v1/namespaces/default", Some("secret"), None).await.0, 200);
    drop(clients);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_is_dropped_and_holds_nobody_up() {
    let site = site().await;
    let mut stalled = site.connect("http/1.1", None).await;
    let request = "GET /api/v1/configmaps?watch=1&resourceVersion=1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\nconnection: close\r\n\r\n";
    stalled.write_all(request.as_bytes()).await.expect("it is sent");
    let data = "x".repeat(900_000);
    for n in 0..40 {
        let body = serde_json::json!({"metadata": {"name": format!("m{n}")}, "data": {"k": data}});
        site.api.made("/api/v1/namespaces/default/configmaps", &body).await;
    }
    // It never read; now it gets what was buffered, and then the end rather than a gap.
    let mut text = Vec::new();
    let read = tokio::time::timeout(super::client::DEADLINE, stalled.read_to_end(&mut text)).await;
    assert!(read.is_ok(), "the watch is still open");
    let text = String::from_utf8_lossy(&text);
    let seen: Vec<usize> = (0..40).filter(|n| text.contains(&format!("\"name\":\"m{n}\""))).collect();
    assert!(seen.len() < 40, "all {} were buffered for it", seen.len());
    assert_eq!(seen, (0..seen.len()).collect::<Vec<_>>(), "events are missing between those it got");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_its_answer_loses_its_connection() {
    let site = site_with(Config { unread_timeout: Duration::from_millis(500), ..Config::default() }).await;
    let data = "x".repeat(900_000);
    for n in 0..20 {
        let body = serde_json::json!({"metadata": {"name": format!("m{n}")}, "data": {"k": data}});
        site.api.made("/api/v1/namespaces/default/configmaps", &body).await;
    }
    let mut stalled = site.connect("http/1.1", None).await;
    let request = "GET /api/v1/configmaps HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n\r\n";
    stalled.write_all(request.as_bytes()).await.expect("it is sent");
    let deadline = tokio::time::Instant::now() + super::client::DEADLINE;
    loop {
        let mut asking = site.connect("http/1.1", None).await;
        let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\nconnection: close\r\n\r\n";
        asking.write_all(request.as_bytes()).await.expect("it is sent");
        let mut text = Vec::new();
        let _ = asking.read_to_end(&mut text).await;
        // The one that asks is the only one left.
        if String::from_utf8_lossy(&text).contains("\napiserver_open_connections 1\n") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the unread answer is still held");
        tokio::task::yield_now().await;
    }
    drop(stalled);
}
