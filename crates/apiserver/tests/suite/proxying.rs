//! The `proxy` subresource: a pod's own server, reached and shown below the API's path.

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::client::Api;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Tells the request's head, with a link; `/away` redirects.
async fn page(request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, std::convert::Infallible> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let text = format!(
        "{} {} host={} uri={} credentials={:?} <a href=\"/next\">next</a>",
        request.method(),
        request.uri(),
        header("host"),
        header("x-forwarded-uri"),
        header("authorization") + &header("impersonate-user"),
    );
    let answer = Response::builder().header("content-type", "text/html");
    Ok(if request.uri().path() == "/away" {
        answer.status(302).header("location", "/login?next=/x").body(Full::default())
    } else {
        answer.body(Full::new(text.into()))
    }
    .expect("a valid answer"))
}

async fn server(tls: Option<Arc<ServerConfig>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, tls.clone()));
        }
    });
    port
}

async fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
    let server = hyper::server::conn::http1::Builder::new();
    let _ = match tls {
        None => server.serve_connection(TokioIo::new(stream), service_fn(page)).await,
        Some(tls) => match tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service_fn(page)).await,
            Err(_) => return,
        },
    };
}

/// A certificate that nobody vouches for.
fn own_certificate() -> Arc<ServerConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["pod".into()]).expect("valid").self_signed(&key).expect("signed");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("valid");
    Arc::new(config)
}

async fn api_with_pod() -> Api {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let mut pod = api.made(PODS, &json!({"metadata": {"name": "proxy"}, "spec": spec})).await;
    pod["status"]["podIP"] = "127.0.0.1".into();
    pod["status"]["podIPs"] = json!([{"ip": "127.0.0.1"}]);
    let (code, pod) = api.put(&format!("{PODS}/proxy/status"), &pod).await;
    assert_eq!(code, 200, "{pod}");
    api
}

async fn ask(api: &Api, method: Method, path: &str) -> (StatusCode, String, String) {
    let headers = [("authorization", "Bearer secret"), ("impersonate-user", "jane"), ("host", "cluster:6443")];
    let response = api.send(method, path, &headers, "").await;
    let location = response.headers().get("location").map_or("", |v| v.to_str().expect("text")).to_owned();
    let code = response.status();
    let bytes = response.into_body().collect_bytes().await.expect("bodies end well");
    (code, location, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_pages_work_below_the_proxys_path_with_and_without_tls() {
    let api = api_with_pod().await;
    let (plain, secret) = (server(None).await, server(Some(own_certificate())).await);
    for name in [format!("proxy:{plain}"), format!("http:proxy:{plain}"), format!("https:proxy:{secret}")] {
        let at = format!("{PODS}/{name}/proxy");
        let (code, _, text) = ask(&api, Method::POST, &format!("{at}/a%20b//proxy/?q=%2F&r=1")).await;
        let head = format!("POST /a%20b//proxy/?q=%2F&r=1 host=cluster:6443 uri={at}/a%20b//proxy/ credentials=\"\"");
        assert_eq!((code, text), (StatusCode::OK, format!("{head} <a href=\"{at}/next\">next</a>")), "{name}");
        let (code, location, _) = ask(&api, Method::GET, &format!("{at}/away")).await;
        assert_eq!((code, location), (StatusCode::FOUND, format!("{at}/login?next=/x")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxys_root_is_a_folder_so_that_relative_links_stay_in_it() {
    let api = api_with_pod().await;
    let at = format!("{PODS}/proxy:{}/proxy", server(None).await);
    let (code, location, _) = ask(&api, Method::GET, &format!("{at}?a=b")).await;
    assert_eq!((code, location), (StatusCode::MOVED_PERMANENTLY, format!("{at}/?a=b")));
    assert_eq!(ask(&api, Method::GET, &format!("{at}/")).await.0, StatusCode::OK);
    let (code, _, text) = ask(&api, Method::POST, &at).await;
    assert!(code == StatusCode::OK && text.starts_with("POST / "), "{code} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_reached_is_unavailable() {
    let api = api_with_pod().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let plain = server(None).await;
    for name in [format!("proxy:{nobody}"), format!("https:proxy:{plain}")] {
        let (code, _, text) = ask(&api, Method::GET, &format!("{PODS}/{name}/proxy/")).await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{name}: {text}");
        assert!(text.contains("error trying to reach service"), "{name}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_reached_through_a_service_or_a_pod_is_said_in_upstreams_words() {
    let api = api_with_pod().await;
    let services = "/api/v1/namespaces/default/services";
    api.made(services, &json!({"metadata": {"name": "w"}, "spec": {"ports": [{"name": "web", "port": 80}]}})).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let refused = format!("error trying to reach service: dial tcp 127.0.0.1:{gone}: connect: connection refused");
    for (path, words) in [
        (format!("{services}/w:81/proxy/"), "no service port 81 found for service \"w\""),
        (format!("{services}/w:80/proxy/"), "no endpoints available for service \"w:80\""),
        (format!("{services}/w:web/proxy/"), "no endpoints available for service \"w:web\""),
        (format!("{PODS}/proxy:{gone}/proxy/"), refused.as_str()),
    ] {
        let (code, status) = api.get(&path).await;
        assert_eq!((code, status["message"].as_str()), (503, Some(words)), "{path}");
    }
}
