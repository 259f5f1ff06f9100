//! TLS: certificates by server name, from files that may change, and clients for endpoints.

mod certificates;

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use trust::Trust;

use crate::config;
use certificates::{certificates as read_certificates, pair, subject_names};

pub use certificates::{Certificates, Shown, State};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Suites whose hash is SHA-256 come first: they are as strong as the keys around them, and SHA-384, which processors have no
/// instructions for, was an eighth of the work of a resumed handshake.
fn server_provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite().as_str().is_some_and(|name| name.ends_with("SHA384")));
    Arc::new(provider)
}

/// What a listener does with TLS.
///
/// # Errors
/// When a file cannot be read or used, with its name and the reason.
pub fn server(config: &config::Tls, shown: Arc<Certificates>) -> Result<Arc<ServerConfig>, String> {
    let versions: &[&rustls::SupportedProtocolVersion] =
        if config.min_version == "1.3" { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
    let builder = ServerConfig::builder_with_provider(server_provider())
        .with_protocol_versions(versions)
        .map_err(|e| e.to_string())?;
    let builder = match &config.client_authorities {
        Some(file) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider());
            builder.with_client_cert_verifier(verifier.build().map_err(|e| format!("{}: {e}", file.display()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(shown);
    server.alpn_protocols =
        if config.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    if let Ok(ticketer) = rustls::crypto::ring::Ticketer::new() {
        server.ticketer = ticketer;
    }
    server.send_tls13_tickets = 1;
    server.ignore_client_order = true;
    Ok(Arc::new(server))
}

/// How endpoints are spoken to with TLS.
///
/// # Errors
/// When a file cannot be read or used, with its name and the reason.
pub fn client(config: &config::UpstreamTls, http2: bool) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = if config.insecure {
        builder.dangerous().with_custom_certificate_verifier(trust::anyone())
    } else {
        let store = match &config.authorities {
            Some(file) => roots(file)?,
            None => Trust::System.roots().map_err(|e| e.to_string())?,
        };
        builder.with_root_certificates(store)
    };
    let mut client = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => {
            let (chain, key) = pair(certificate, key)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| format!("{}: {e}", certificate.display()))?
        }
        _ => builder.with_no_client_auth(),
    };
    client.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(client))
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(read_certificates(file)?);
    if added == 0 { Err(format!("{}: no certificate in it can be used", file.display())) } else { Ok(store) }
}

/// The subject's common name of a client's certificate, or its first DNS name.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    name.or_else(|| subject_names(certificate).into_iter().next())
}
