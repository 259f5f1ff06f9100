//! TLS: names, new certificates, HTTP/2 by agreement, endpoints with TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::stage::*;

/// Writes a self-signed certificate for names; returns it.
fn certify(directory: &Path, file: &str, names: &[&str]) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    std::fs::write(directory.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(directory.join(format!("{file}.crt")), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

fn request(address: SocketAddr, name: &str, trusted: &CertificateDer<'static>) -> Result<String, String> {
    request_by(&client(trusted, rustls::ALL_VERSIONS), address, name).map(|(answer, _)| answer)
}

/// A client that remembers its sessions.
fn client(trusted: &CertificateDer<'static>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// The answer, and what kind of a handshake it took.
fn request_by(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> Result<(String, HandshakeKind), String> {
    let name_of_it = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name_of_it).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    stream
        .write_all(format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n").as_bytes())
        .map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map_err(|e| e.to_string())?;
    let kind = stream.conn.handshake_kind().ok_or("there was no handshake")?;
    Ok((String::from_utf8_lossy(&all).into_owned(), kind))
}

#[test]
fn each_name_gets_its_certificate_and_new_ones_are_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let a = certify(directory.path(), "a", &["a.example"]);
    let b = certify(directory.path(), "b", &["*.b.example"]);
    let at = directory.path().display();
    let stage = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', tls: {{certificates: [{{certificate: {at}/a.crt, key: {at}/a.key}}, {{certificate: {at}/b.crt, key: {at}/b.key}}]}}, routes: [{{to: [{{pool: app}}]}}]}}]
pools: [{{name: app, endpoints: [{{address: '{}'}}]}}]",
        mirror_of_heads()
    ));
    let answer = request(stage.address(), "a.example", &a).unwrap();
    assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
    assert!(request(stage.address(), "x.b.example", &b).is_ok());
    assert!(request(stage.address(), "x.b.example", &a).is_err());
    let renewed = certify(directory.path(), "a", &["a.example"]);
    assert_eq!(stage.proxy.refresh_certificates(), Ok(true));
    assert!(
        request(stage.address(), "a.example", &renewed).is_ok() && request(stage.address(), "a.example", &a).is_err()
    );
    std::fs::write(directory.path().join("a.crt"), "nonsense").unwrap();
    assert!(stage.proxy.refresh_certificates().unwrap_err().contains("a.crt"));
    assert!(request(stage.address(), "a.example", &renewed).is_ok(), "the old ones go on");
}

#[test]
fn sessions_go_on_in_either_version_of_tls_over_a_new_configuration_too_but_not_by_other_rules() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = certify(directory.path(), "a", &["a.example"]);
    let at = directory.path().display();
    let app = mirror_of_heads();
    let site = |address: &str, more: &str, route: &str| {
        format!(
            "listeners: [{{address: '{address}', tls: {{certificates: [{{certificate: {at}/a.crt, key: {at}/a.key}}]{more}}}, routes: [{{to: [{{pool: app}}]{route}}}]}}]
pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]"
        )
    };
    let stage = Stage::new(&site("127.0.0.1:0", "", ""));
    let address = stage.address();
    // From now on it is known by the port that it has got.
    stage.reload(&site(&address.to_string(), "", ""));
    for (timeout, version) in [(21, &rustls::version::TLS12), (22, &rustls::version::TLS13)] {
        let client = client(&certificate, &[version]);
        let kind = || request_by(&client, address, "a.example").unwrap().1;
        assert_eq!(kind(), HandshakeKind::Full, "{version:?}");
        assert_eq!(kind(), HandshakeKind::Resumed, "{version:?}");
        stage.reload(&site(&address.to_string(), "", &format!(", timeout: {timeout}s")));
        assert_eq!(kind(), HandshakeKind::Resumed, "{version:?} after a change of a route");
        // Who has to show a certificate from now on can't come in by what was agreed on before.
        stage.reload(&site(&address.to_string(), &format!(", client_authorities: {at}/a.crt"), ""));
        assert!(request_by(&client, address, "a.example").is_err(), "{version:?}");
        stage.reload(&site(&address.to_string(), "", ""));
    }
}

#[test]
fn endpoints_with_tls_must_be_who_they_say() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path(), "server", &["inner.example"]);
    let at = directory.path().display();
    let inner = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', tls: {{certificates: [{{certificate: {at}/server.crt, key: {at}/server.key}}]}}, routes: [{{to: [{{pool: app}}]}}]}}]
pools: [{{name: app, endpoints: [{{address: '{}'}}]}}]",
        named("inner").0
    ));
    let outer = |name: &str| {
        Stage::simple(
            &[inner.address()],
            "",
            &format!("tls: {{server_name: {name}, authorities: {at}/server.crt}}"),
            "",
        )
    };
    let good = outer("inner.example");
    let mut client = Client::new(good.address());
    for _ in 0..3 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").text(), "inner");
    }
    assert_eq!(get(outer("other.example").address(), "/").status, 502);
}
