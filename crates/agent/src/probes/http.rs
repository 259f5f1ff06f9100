//! The HTTP probe, and HTTP hooks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{port, state::Outcome};

/// Redirects followed before giving up, as Go does.
const REDIRECTS: usize = 10;
/// Bytes of a body that are read.
const BODY: usize = 10 << 10;

/// A request as the action describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    https: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    location: Option<String>,
    /// As much of it as is read, or nothing of one that is longer.
    body: String,
}

impl ProbeRequest {
    /// The URL.
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, port::address(&self.host, self.port), self.path)
    }
}

/// Resolves the action's port and host.
pub fn request(action: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<ProbeRequest, String> {
    let path = action.path.as_deref().unwrap_or("/");
    let headers = action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
    Ok(ProbeRequest {
        https: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
        port: port::number(&action.port, container)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers,
    })
}

/// Passes on 200 to 399; a redirect that is not followed, because it leads to another host, with a warning.
pub async fn probe(request: &ProbeRequest, timeout: Duration) -> Outcome {
    match get(request, timeout).await {
        Ok(answer) if (200..300).contains(&answer.status) => Outcome::Success,
        Ok(answer) if (300..400).contains(&answer.status) => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
        }
        Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
        Err(error) => Outcome::Failure(error),
    }
}

/// One GET, redirects to the same host followed.
pub async fn get(request: &ProbeRequest, timeout: Duration) -> Result<Answer, String> {
    let all = async {
        let mut current = request.clone();
        for _ in 0..REDIRECTS {
            let answer = once(&current).await.map_err(|e| format!("Get \"{}\": {e}", current.url()))?;
            let redirect = (300..400).contains(&answer.status).then(|| answer.location.clone()).flatten();
            match redirect.and_then(|location| follow(&current, &location)) {
                Some(next) if next.host == current.host => current = next,
                _ => return Ok(answer),
            }
        }
        Err(format!("Get \"{}\": stopped after {REDIRECTS} redirects", current.url()))
    };
    match tokio::time::timeout(timeout, all).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            request.url()
        )),
    }
}

fn follow(current: &ProbeRequest, location: &str) -> Option<ProbeRequest> {
    let uri: Uri = location.parse().ok()?;
    let mut next = current.clone();
    next.path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    if let Some(authority) = uri.authority() {
        next.https = uri.scheme_str() == Some("https");
        next.host = authority.host().to_owned();
        next.port = authority.port_u16().unwrap_or(if next.https { 443 } else { 80 });
    }
    Some(next)
}

async fn once(request: &ProbeRequest) -> Result<Answer, String> {
    let address = port::address(&request.host, request.port);
    let stream = port::connect(&address, Duration::from_secs(60)).await?;
    if request.https {
        let name = rustls_pki_types::ServerName::try_from(request.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(unverified());
        let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
        exchange(request, &address, stream).await
    } else {
        exchange(request, &address, stream).await
    }
}

async fn exchange(
    request: &ProbeRequest,
    address: &str,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Answer, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(build(request, address)?).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned);
        // A body that is cut or too long does not change the verdict.
        let body = Limited::new(response.into_body(), BODY).collect().await;
        let body = body.map_or_else(|_| String::new(), |body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Ok(Answer { status, location, body })
    }
    .await;
    connection.abort();
    answer
}

fn build(request: &ProbeRequest, address: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut builder = Request::get(&request.path);
    let headers = builder.headers_mut().ok_or("the path is not a valid one")?;
    let value = |v: &str| HeaderValue::from_str(v).map_err(|e| e.to_string());
    for (name, text) in &request.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?, value(text)?);
    }
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, value(address)?);
    }
    if !headers.contains_key(header::USER_AGENT) {
        headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-probe/1.36"));
    }
    if !headers.contains_key(header::ACCEPT) {
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    builder.body(Empty::new()).map_err(|e| e.to_string())
}

/// Probes take any certificate, as upstream's do: they ask whether the server lives, not who it is.
fn unverified() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<rustls::ClientConfig>> = std::sync::OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the ring provider supports the default versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(schemes)))
            .with_no_client_auth();
        Arc::new(config)
    });
    Arc::clone(config)
}

#[derive(Debug)]
struct AnyCertificate(Vec<rustls::SignatureScheme>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &rustls_pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &rustls_pki_types::CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &rustls_pki_types::CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Answers each connection with the next of `answers`.
    async fn serve(answers: Vec<String>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut buffer = [0; 2048];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    fn to(port: u16) -> ProbeRequest {
        let action = serde_json::from_value(serde_json::json!({"path": "healthz", "port": port})).expect("an action");
        request(&action, &Container::default(), "127.0.0.1").expect("a request")
    }

    #[tokio::test]
    async fn the_status_code_decides_and_redirects_on_the_host_are_followed() {
        let timeout = Duration::from_secs(5);
        let answer = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}content-length: 0\r\n\r\n");
        let port = serve(vec![
            answer("200 OK", ""),
            answer("500 X", ""),
            answer("302 Found", "location: /next\r\n"),
            answer("204 Y", ""),
            "HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\ncontent-length: 5\r\n\r\nFound".to_owned(),
        ])
        .await;
        assert_eq!(probe(&to(port), timeout).await, Outcome::Success);
        assert_eq!(probe(&to(port), timeout).await, Outcome::Failure("HTTP probe failed with statuscode: 500".into()));
        assert_eq!(probe(&to(port), timeout).await, Outcome::Success);
        let odd = "Probe terminated redirects, Response body: Found";
        assert_eq!(probe(&to(port), timeout).await, Outcome::Warning(odd.into()));
    }

    #[tokio::test]
    async fn a_server_with_a_certificate_of_its_own_is_asked_over_tls() {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider supports the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            for status in ["200 OK", "503 X"] {
                let Ok((stream, _)) = listener.accept().await else { return };
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = [0; 2048];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let action = serde_json::json!({"path": "/", "port": port, "scheme": "HTTPS"});
        let action = serde_json::from_value(action).expect("an action");
        let request = request(&action, &Container::default(), "127.0.0.1").expect("a request");
        let timeout = Duration::from_secs(5);
        assert_eq!(probe(&request, timeout).await, Outcome::Success);
        let failed = Outcome::Failure("HTTP probe failed with statuscode: 503".into());
        assert_eq!(probe(&request, timeout).await, failed);
    }

    #[tokio::test]
    async fn a_closed_port_reads_like_go() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let expected =
            format!("Get \"http://127.0.0.1:{port}/healthz\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(probe(&to(port), Duration::from_secs(5)).await, Outcome::Failure(expected));
    }
}
