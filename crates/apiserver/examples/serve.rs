//! The API server alone: an embedded store, a self-signed certificate and one token.
//!
//! `serve DATA-DIR [ADDRESS]` prints a kubeconfig's place and serves until it is killed.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc};

use apiserver::{ApiServer, Config, User};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::PrivateKeyDer;
use store::{Embedded, EmbeddedConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "a TLS provider is installed already")?;
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: serve DATA-DIR [ADDRESS]")?);
    let address: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:7443".into()).parse()?;
    std::fs::create_dir_all(&dir)?;
    let store = Embedded::open(EmbeddedConfig::new(dir.join("store")))?;
    let token = "example-token";
    let config = Config {
        tokens: HashMap::from([(token.to_owned(), User::admin("admin"))]),
        advertise: (address.ip(), address.port()),
        ..Config::default()
    };
    let server = ApiServer::new(config, store).await?;
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".into(), address.ip().to_string()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: e\ncontexts: [{{name: e, context: {{cluster: e, user: e}}}}]\n\
             clusters: [{{name: e, cluster: {{server: 'https://{address}', insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: e, user: {{token: {token}}}}}]\n"
        ),
    )?;
    println!("KUBECONFIG={}", kubeconfig.display());
    let listener = tokio::net::TcpListener::bind(address).await?;
    Arc::clone(&server).serve(listener, tls).await?;
    Ok(())
}
