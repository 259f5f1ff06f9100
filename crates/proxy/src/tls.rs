//! TLS: certificates by server name, from files that may change, and clients for endpoints.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config;

/// Where Linux distributions keep the authorities they trust.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a listener.
#[derive(Debug)]
pub struct Certificates {
    config: config::Tls,
    current: RwLock<Arc<Chosen>>,
    seen: parking_lot::Mutex<Vec<Option<SystemTime>>>,
}

/// Certificates by lower-case server name; `*.` stands for one label.
#[derive(Debug)]
struct Chosen {
    names: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or used, with its name and the reason.
    pub fn new(config: &config::Tls) -> Result<Arc<Self>, String> {
        let seen = times(config);
        let current = RwLock::new(Arc::new(load(config)?));
        Ok(Arc::new(Self { config: config.clone(), current, seen: parking_lot::Mutex::new(seen) }))
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.config.certificates.iter().flat_map(|c| [&c.certificate, &c.key])
    }

    /// Reads the files again if they changed. Handshakes from now on show the new certificates.
    ///
    /// # Errors
    /// When one cannot be used: the old ones go on.
    pub fn refresh(&self) -> Result<bool, String> {
        let times = times(&self.config);
        if *self.seen.lock() == times {
            return Ok(false);
        }
        let chosen = load(&self.config)?;
        *self.current.write() = Arc::new(chosen);
        *self.seen.lock() = times;
        Ok(true)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read();
        let Some(name) = hello.server_name() else { return Some(Arc::clone(&current.first)) };
        let name = name.to_ascii_lowercase();
        let found = current.names.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            current.names.get(&format!("*.{parent}"))
        });
        Some(Arc::clone(found.unwrap_or(&current.first)))
    }
}

fn times(config: &config::Tls) -> Vec<Option<SystemTime>> {
    let files = config.certificates.iter().flat_map(|c| [&c.certificate, &c.key]);
    files.map(|file| fs::metadata(file).and_then(|m| m.modified()).ok()).collect()
}

fn load(config: &config::Tls) -> Result<Chosen, String> {
    let mut names = HashMap::new();
    let mut first = None;
    for certificate in &config.certificates {
        let (chain, key) = pair(&certificate.certificate, &certificate.key)?;
        let names_within =
            if certificate.hosts.is_empty() { subject_names(&chain[0]) } else { certificate.hosts.clone() };
        let refuse = |error: rustls::Error| format!("{}: {error}", certificate.key.display());
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider()).map_err(refuse)?);
        for name in names_within {
            names.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(&certified));
        }
        first.get_or_insert(certified);
    }
    Ok(Chosen { names, first: first.ok_or("there is no certificate")? })
}

fn pair(chain: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let certificates = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    Ok((certificates, key))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let refuse = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|e| refuse(&e))?;
    if found.is_empty() { Err(refuse(&"there is no certificate in it")) } else { Ok(found) }
}

/// The DNS names of a certificate's subjectAltName.
fn subject_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer, X509Certificate};
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

/// What a listener does with TLS.
///
/// # Errors
/// When a file cannot be read or used, with its name and the reason.
pub fn server(config: &config::Tls, certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, String> {
    let versions: &[&rustls::SupportedProtocolVersion] =
        if config.min_version == "1.3" { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).map_err(|e| e.to_string())?;
    let builder = match &config.client_authorities {
        Some(file) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider());
            builder.with_client_cert_verifier(verifier.build().map_err(|e| format!("{}: {e}", file.display()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(certificates);
    server.alpn_protocols =
        if config.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    if let Ok(ticketer) = rustls::crypto::ring::Ticketer::new() {
        server.ticketer = ticketer;
    }
    server.send_tls13_tickets = 1;
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
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Everyone(provider())))
    } else {
        let store = match &config.authorities {
            Some(file) => roots(file)?,
            None => {
                AUTHORITIES.iter().find_map(|file| roots(Path::new(file)).ok()).unwrap_or_else(RootCertStore::empty)
            }
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
    let (added, _) = store.add_parsable_certificates(certificates(file)?);
    if added == 0 { Err(format!("{}: no certificate in it can be used", file.display())) } else { Ok(store) }
}

/// Believes every certificate: only where configuration says so.
#[derive(Debug)]
struct Everyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Everyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The subject's common name of a client's certificate, or its first DNS name.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    name.or_else(|| subject_names(certificate).into_iter().next())
}
