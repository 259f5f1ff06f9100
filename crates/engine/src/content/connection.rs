//! How registries are spoken to: which protocol, whose certificates, and which way.

use std::{net::IpAddr, time::Duration};

use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};

use super::{ContentError, PullOptions};

/// A client for one registry; it connects to nothing yet. Registries of this machine and those named insecure are
/// asked without TLS, as Docker does, and what is on this machine is never asked by way of a proxy.
///
/// # Errors
/// When a root certificate or a proxy's address can't be read.
pub fn registry_client(registry: &str, options: &PullOptions, read_timeout: Duration) -> Result<Client, ContentError> {
    let local = is_loopback(registry);
    let plain = local || options.insecure_registries.iter().any(|insecure| insecure == registry);
    // reqwest wants the process's default provider; a second call only reports that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = |pem: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() };
    let mut config = ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(Duration::from_secs(10)),
        read_timeout: Some(read_timeout),
        user_agent: concat!("hythe/", env!("CARGO_PKG_VERSION")),
        extra_root_certificates: options.extra_roots.iter().map(certificate).collect(),
        // A blob in one request: registries pay for each part with a write to the disk.
        use_monolithic_push: true,
        ..ClientConfig::default()
    };
    if local {
        // Naming a proxy keeps the client from those of the environment, and this one is for nobody.
        config.http_proxy = Some("http://localhost".into());
        config.no_proxy = Some("*,0.0.0.0/0,::/0".into());
    }
    Client::try_from(config)
        .map_err(|e| ContentError::Registry { reference: registry.to_owned(), message: e.to_string() })
}

/// Whether a registry, as in `localhost:5000`, is on this machine by its name alone.
#[must_use]
pub fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => registry,
    };
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn registries_of_this_machine_are_known_by_their_names() {
        for local in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000", "::1"] {
            assert!(is_loopback(local), "{local}");
        }
        for other in ["docker.io", "localhost.example.org:5000", "10.0.0.1:5000", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
