//! Leaves over TLS: whose certificates are believed, and new ones taken up.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use clap::Parser;
use http_ends::{Client, Names, Trust};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use scatter::{Metrics, Root, Secured, config::Config};
use serving::Live;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::leaves::{ask, get};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key for a name.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A leaf that answers with a list and asks its clients for a certificate of this authority.
    async fn leaf(&self, name: &str) -> SocketAddr {
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await;
                    let _ =
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n[1]").await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        address
    }

    /// Writes the authority, and a certificate of its for the root.
    fn write(&self, directory: &Path) {
        let (certificate, key) = self.issue("root");
        std::fs::write(directory.join("ca.crt"), &self.pem).unwrap();
        std::fs::write(directory.join("tls.crt"), certificate).unwrap();
        std::fs::write(directory.join("tls.key"), key).unwrap();
    }
}

fn config(directory: &Path, leaf: SocketAddr, tls: &str) -> String {
    let at = directory.display();
    let own = format!("certificate: {at}/tls.crt, key: {at}/tls.key");
    let tls = tls.replace("CA", &format!("{at}/ca.crt")).replace("OWN", &own);
    format!("leaves: [{{name: a, replicas: ['{leaf}'], tls: {{{tls}}}}}]\n")
}

fn root(text: &str) -> Root {
    let (names, config) = (Names::default(), Config::parse(text).unwrap());
    let secured = Secured::new(&config, &names, None).unwrap();
    Root::new(config, None, Client::new(names.clone(), Trust::System), names, Metrics::default()).with(secured)
}

#[tokio::test]
async fn a_leaf_is_asked_over_tls_by_its_name_and_shown_who_asks() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(directory.path());
    let leaf = authority.leaf("search.internal").await;
    for (tls, answered) in [
        ("authorities: CA, serverName: search.internal, OWN", true),
        // Of another name than the certificate's, of an authority that nobody knows, to a leaf that wants to know who asks.
        ("authorities: CA, serverName: other.internal, OWN", false),
        ("serverName: search.internal, OWN", false),
        ("authorities: CA, serverName: search.internal", false),
    ] {
        let said = ask(&root(&config(directory.path(), leaf, tls)), get("/api/v1/x")).await;
        assert_eq!(said.status.is_success(), answered, "{tls}: {}", said.body);
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_its_field() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new().write(directory.path());
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let refused = |tls: &str| {
        let text = config(directory.path(), address, tls);
        let read = Config::parse(&text).and_then(|config| Secured::new(&config, &Names::default(), None));
        read.map(drop).unwrap_err().to_string()
    };
    assert!(refused("certificate: x").contains("leaves[0].tls"));
    assert!(refused("serverName: 'a b'").contains("leaves[0].tls.serverName"));
    let missing = refused("authorities: /none/ca.crt");
    assert!(missing.contains("leaves[0].tls") && missing.contains("/none/ca.crt"), "{missing}");
}

#[tokio::test]
async fn new_authorities_are_taken_up_without_a_restart() {
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: serving::Flags,
    }
    let directory = tempfile::tempdir().unwrap();
    let (former, authority) = (Authority::new(), Authority::new());
    former.write(directory.path());
    let leaf = authority.leaf("search.internal").await;
    let file = directory.path().join("root.yaml");
    std::fs::write(&file, config(directory.path(), leaf, "authorities: CA, serverName: search.internal, OWN")).unwrap();
    let live = Live::open(&file, Config::parse).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base: http::Uri = format!("http://{}/api/v1/x", listener.local_addr().unwrap()).parse().unwrap();
    let serving = serving::Serving::detached(Only::parse_from(["root"]).flags);
    let config = (*live.current()).clone();
    let server = tokio::spawn(scatter::serve(config, Some(live), listener, serving.clone()));
    let client = Client::new(Names::default(), Trust::System);
    let status = async || {
        let answer = client.get(&base, http::HeaderMap::new(), 1 << 20, Duration::from_secs(20)).await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(status().await, 502, "the leaf's authority is not known");
    authority.write(directory.path());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while status().await != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the new authority is believed");
        tokio::task::yield_now().await;
    }
    serving.stopping().cancel();
    tokio::time::timeout(Duration::from_secs(20), server).await.expect("the server ends").unwrap();
}
