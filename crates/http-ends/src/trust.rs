//! Whose certificates are believed.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Authorities that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("certificate authorities in {file}: {reason}")]
pub struct TrustError {
    file: String,
    reason: String,
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
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                }
            }
            Self::File(file) => {
                let told = |reason: String| TrustError { file: file.display().to_string(), reason };
                let text = std::fs::read(file).map_err(|error| told(error.to_string()))?;
                for certificate in CertificateDer::pem_slice_iter(&text) {
                    let certificate = certificate.map_err(|error| told(error.to_string()))?;
                    roots.add(certificate).map_err(|error| told(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(told("no certificate".to_owned()));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // The provider offers suites for both versions.
        let builder = versions.expect("ring speaks TLS 1.2 and 1.3");
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}
