//! Certificates on bad days: of clients, of other names, expired, not yet renewed; on both sides of the proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::stage::*;

/// An authority of its own in a directory of its own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("ca.crt"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    fn file(&self) -> String {
        self.directory.join("ca.crt").display().to_string()
    }

    /// Writes `NAME.crt` and `NAME.key`, for `name`, from and until so many days from now. Returns them as configuration names them.
    fn issue(&self, name: &str, days: (i64, i64)) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let now = SystemTime::now();
        let at = |days: i64| {
            let span = Duration::from_secs(days.unsigned_abs() * 86_400);
            if days < 0 { now - span } else { now + span }
        };
        params.not_before = at(days.0).into();
        params.not_after = at(days.1).into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |kind: &str| self.directory.join(format!("{name}.{kind}"));
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        std::fs::write(path("crt"), certificate.pem()).unwrap();
        format!("certificate: '{}', key: '{}'", path("crt").display(), path("key").display())
    }
}

/// A client's configuration: whom it believes, and what it shows of itself.
fn client(authority: &Authority, own: Option<(&Authority, &str)>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((authority, name)) => {
            let path = |kind: &str| authority.directory.join(format!("{name}.{kind}"));
            let chain = vec![CertificateDer::from_pem_file(path("crt")).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(path("key")).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// One request over TLS: the whole answer, or why there is none.
fn request(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<String, String> {
    let connection = ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let text = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&all).into_owned())
}

fn stage(tls: &str, app: SocketAddr, pool: &str) -> Stage {
    Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', tls: {{{tls}}}, routes: [{{to: [{{pool: app}}]}}]}}]\npools: [{{name: app{pool}, endpoints: [{{address: '{app}'}}]}}]"
    ))
}

fn metric(stage: &Stage, start: &str) -> f64 {
    let collector = proxy::metrics::SiteCollector(stage.proxy.shared().clone());
    let admin = serving::Serving::detached(stage.serving.flags().clone()).admin().clone();
    admin.metrics(|registry| registry.register_collector(Box::new(collector)));
    let text = admin.encode();
    let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn clients_must_show_a_certificate_of_the_authority_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(directory.path(), "ours"), Authority::new(directory.path(), "theirs"));
    let pair = ours.issue("edge.example", (-1, 90));
    for (authority, name, days) in
        [(&ours, "alice", (-1, 90)), (&ours, "late", (-9, -1)), (&theirs, "mallory", (-1, 90))]
    {
        authority.issue(name, days);
    }
    let stage =
        stage(&format!("certificates: [{{{pair}}}], client_authorities: '{}'", ours.file()), mirror_of_heads(), "");
    let ask = |own: Option<(&Authority, &str)>| request(stage.address(), "edge.example", client(&ours, own, &[]));
    assert!(ask(Some((&ours, "alice"))).unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(None).is_err());
    assert!(ask(Some((&ours, "late"))).is_err(), "expired");
    assert!(ask(Some((&theirs, "mallory"))).is_err(), "of somebody else");
    until("they are counted", || metric(&stage, "hythe_proxy_handshakes_failed_total") == 3.0);
}

#[test]
fn a_certificate_that_has_ended_or_is_for_another_name_is_shown_and_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let pair = authority.issue("edge.example", (-30, -1));
    let stage = stage(&format!("certificates: [{{{pair}}}]"), named("x").0, "");
    let refused = request(stage.address(), "edge.example", client(&authority, None, &[])).unwrap_err();
    assert!(refused.to_lowercase().contains("expired"), "{refused}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let end = metric(&stage, "hythe_proxy_certificate_end_seconds{");
    assert!((end - (now - 86_400.0)).abs() < 3600.0, "{end} {now}");
    assert_eq!(stage.proxy.report_certificates(SystemTime::now()), None, "nothing more will happen to it");
    // A renewed one is taken up, and ends later.
    authority.issue("edge.example", (-1, 30));
    assert_eq!(stage.proxy.refresh_certificates(), Ok(true));
    assert!(request(stage.address(), "edge.example", client(&authority, None, &[])).unwrap().ends_with('x'));
    assert!(metric(&stage, "hythe_proxy_certificate_end_seconds{") > now + 20.0 * 86_400.0);
    let turn = stage.proxy.report_certificates(SystemTime::now()).unwrap();
    assert!((15..=16).contains(&(turn.as_secs() / 86_400)), "two weeks before its end it is told of: {turn:?}");
    assert_eq!(metric(&stage, "hythe_proxy_handshakes_unmatched_total"), 0.0);
    let other = request(stage.address(), "other.example", client(&authority, None, &[]));
    assert!(other.unwrap_err().contains("not valid for name"));
    assert_eq!(metric(&stage, "hythe_proxy_handshakes_unmatched_total"), 1.0);
    // A key that is not the certificate's own is not taken up.
    std::fs::write(directory.path().join("ours/edge.example.key"), KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    assert!(stage.proxy.refresh_certificates().unwrap_err().contains("edge.example.key"));
    assert_eq!(metric(&stage, "hythe_proxy_certificate_failures_total"), 1.0);
    assert!(request(stage.address(), "edge.example", client(&authority, None, &[])).is_ok());
}

#[test]
fn an_endpoint_whose_certificate_has_ended_gets_nothing_and_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let pair = authority.issue("inner.example", (-30, -1));
    let (app, count) = named("inner");
    let inner = stage(&format!("certificates: [{{{pair}}}]"), app, "");
    let tls = format!("tls: {{server_name: inner.example, authorities: '{}'}}", authority.file());
    let outer = Stage::simple(&[inner.address()], "", &tls, "");
    let answer = get(outer.address(), "/");
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("xpired"), "clients are not told of what is inside: {}", answer.text());
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert!(metric(&outer, "hythe_proxy_pool_certificates_refused_total{pool=\"app\"}") >= 1.0);
    authority.issue("inner.example", (-1, 30));
    inner.proxy.refresh_certificates().unwrap();
    until("the renewed one is believed", || get(outer.address(), "/").text() == "inner");
}

#[test]
fn http2_is_agreed_on_at_both_ends_by_alpn() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let inner_pair = authority.issue("inner.example", (-1, 30));
    let inner = stage(&format!("certificates: [{{{inner_pair}}}]"), mirror_of_heads(), "");
    let outer_pair = authority.issue("outer.example", (-1, 30));
    let pool = format!(", http: '2', tls: {{server_name: inner.example, authorities: '{}'}}", authority.file());
    let outer = stage(&format!("certificates: [{{{outer_pair}}}]"), inner.address(), &pool);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let stream = tokio::net::TcpStream::connect(outer.address()).await.unwrap();
        let config = client(&authority, None, &[b"h2", b"http/1.1"]);
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(ServerName::try_from("outer.example").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let request = http::Request::builder().uri("https://shop.example/x?y=1").body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let answer = tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        let (mut body, mut text) = (answer.into_body(), Vec::new());
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data.unwrap());
        }
        let text = String::from_utf8(text).unwrap().to_ascii_lowercase();
        assert!(text.starts_with("get /x?y=1 http/1.1\r\nhost: shop.example\r\n"), "{text}");
        // The inner proxy is spoken to over HTTP/2: it does not trust the outer one about the rest.
        assert!(text.contains("x-forwarded-proto: https\r\n"), "{text}");
    });
    // Who offers HTTP/1.1 alone gets that.
    let answer = request(outer.address(), "outer.example", client(&authority, None, &[b"http/1.1"])).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn the_cookie_that_keeps_a_client_with_its_endpoint_is_not_for_scripts_other_sites_or_plain_connections() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let pair = authority.issue("edge.example", (-1, 30));
    let sticky = ", sticky: {cookie: at, path: /shop, max_age: 1h}";
    let secure = stage(&format!("certificates: [{{{pair}}}]"), named("x").0, sticky);
    let answer = request(secure.address(), "edge.example", client(&authority, None, &[])).unwrap();
    let cookie = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("set-cookie: at=")).unwrap().to_owned();
        line.split("; ").skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(cookie(&answer), ["Path=/shop", "HttpOnly", "SameSite=Lax", "Max-Age=3600", "Secure"]);
    let plain = Stage::simple(&[named("x").0], "", &sticky[2..], "");
    assert_eq!(cookie(&get(plain.address(), "/").head), ["Path=/shop", "HttpOnly", "SameSite=Lax", "Max-Age=3600"]);
}
