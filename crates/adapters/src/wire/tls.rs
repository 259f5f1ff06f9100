//! TLS to what is asked, where its address wants it. The server's certificate is always judged.

use std::{path::PathBuf, sync::Arc};

use http_ends::Trust;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{Address, Stream, WireError};

impl Address {
    /// Whether it is asked over TLS: `rediss://`, `?tls=true`, or what libpq calls `sslmode=require` and stricter.
    #[must_use]
    pub fn wants_tls(&self) -> bool {
        let told = |name, values: &[&str]| self.parameter(name).is_some_and(|value| values.contains(&value));
        matches!(self.scheme.as_str(), "rediss" | "memcacheds")
            || told("tls", &["", "true", "1", "require"])
            || told("sslmode", &["require", "verify-ca", "verify-full"])
    }

    /// Whose certificates are believed: `ca=FILE` or `sslrootcert=FILE`, or the system's authorities.
    fn trust(&self) -> Trust {
        let file = self.parameter("ca").or_else(|| self.parameter("sslrootcert"));
        file.map_or(Trust::System, |file| Trust::File(PathBuf::from(file)))
    }
}

/// Begins TLS on a connection. The certificate must be for `servername`, or else for the host.
pub(super) async fn begin(stream: Box<dyn Stream>, address: &Address) -> Result<Box<dyn Stream>, WireError> {
    let wrong = |reason: String| WireError::Tls(address.host.clone(), reason);
    let name = address.parameter("servername").unwrap_or(&address.host);
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|error| wrong(error.to_string()))?;
    let trust = address.trust();
    // Files are read here, and the system's are many.
    let configuration = tokio::task::spawn_blocking(move || trust.configuration()).await;
    let configuration = configuration.map_err(|error| wrong(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(configuration.map_err(|error| wrong(error.to_string()))?));
    let secured = connector.connect(name, stream).await.map_err(|error| wrong(error.to_string()))?;
    Ok(Box::new(secured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whether_tls_is_wanted() {
        for (text, wanted) in [
            ("rediss://h", true),
            ("redis://h", false),
            ("redis://h?tls=true", true),
            ("mysql://h?tls", true),
            ("mysql://h?tls=false", false),
            ("postgres://h/d?sslmode=verify-full", true),
            ("postgres://h/d?sslmode=prefer", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().wants_tls(), wanted, "{text}");
        }
    }
}
