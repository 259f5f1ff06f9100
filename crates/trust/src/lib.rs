//! Whose certificates are believed.

mod anyone;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub use anyone::{anyone, encryption_only};

/// Certificates or keys that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct TrustError {
    file: String,
    reason: String,
}

impl TrustError {
    fn new(file: &Path, reason: impl ToString) -> Self {
        Self { file: file.display().to_string(), reason: reason.to_string() }
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), and where there are none, as in an
    /// image of one file, Mozilla's that are compiled in.
    #[default]
    System,
    /// Those in a PEM file alone.
    File(PathBuf),
}

impl Trust {
    /// What a TLS client works with.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn configuration(&self) -> Result<ClientConfig, TrustError> {
        self.configuration_of(None)
    }

    /// What a TLS client works with that shows who it is.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should.
    pub fn configuration_of(&self, own: Option<&Identity>) -> Result<ClientConfig, TrustError> {
        let roots = self.roots()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // The provider offers suites for both versions.
        let builder = versions.expect("ring speaks TLS 1.2 and 1.3").with_root_certificates(roots);
        let Some(own) = own else { return Ok(builder.with_no_client_auth()) };
        own.shown_by(builder)
    }

    /// The authorities.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn roots(&self) -> Result<RootCertStore, TrustError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                }
            }
            Self::File(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|error| TrustError::new(file, error))?;
                }
            }
        }
        Ok(roots)
    }
}

/// A client's own certificate: PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Identity {
    /// What a TLS client works with that shows this one, whomever it believes.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should.
    pub fn shown_by(&self, builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Result<ClientConfig, TrustError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TrustError::new(&self.key, error))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| TrustError::new(&self.certificate, error))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let text = std::fs::read(file).map_err(|error| TrustError::new(file, error))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| TrustError::new(file, error))?;
    if all.is_empty() {
        return Err(TrustError::new(file, "no certificate"));
    }
    Ok(all)
}
