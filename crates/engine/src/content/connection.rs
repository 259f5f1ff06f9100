//! How registries are spoken to: which protocol, whose certificates, and which way.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    ContentError, PullOptions,
    identity::{Tunnel, identity},
};

/// Where administrators put the certificates of registries, as for dockerd: `HOST[:PORT]/NAME.crt`.
const CERTIFICATES: &str = "/etc/docker/certs.d";
/// How long a registry that may or may not speak TLS is waited for to show which.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a registry may take to take a connection.
pub(super) const CONNECTING: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("hythe/", env!("CARGO_PKG_VERSION"));

/// How one registry is spoken to.
pub struct Connection {
    /// For questions, manifests and downloads.
    pub client: Client,
    /// `http` or `https`.
    pub scheme: &'static str,
    local: bool,
    insecure: bool,
    roots: Vec<Vec<u8>>,
    read_timeout: Duration,
    /// The way to a registry that asks for a certificate of its clients.
    tunnel: Option<Tunnel>,
    registry: String,
}

impl Connection {
    /// Finds out how to speak to a registry. Those of this machine and those named insecure are asked over TLS, whoever
    /// signed their certificates, if they speak it, and else without, as Docker does; what is on this machine is never
    /// asked by way of a proxy.
    ///
    /// # Errors
    /// When a certificate, a key or a proxy's address can't be read.
    pub async fn open(registry: &str, options: &PullOptions, read_timeout: Duration) -> Result<Self, ContentError> {
        Self::open_with(registry, options, read_timeout, &Path::new(CERTIFICATES).join(registry)).await
    }

    async fn open_with(
        registry: &str,
        options: &PullOptions,
        read_timeout: Duration,
        directory: &Path,
    ) -> Result<Self, ContentError> {
        let local = is_loopback(registry);
        let insecure = is_insecure(registry, &options.insecure_registries);
        let plain = insecure && !speaks_tls(registry).await;
        // reqwest wants the process's default provider; a second call only reports that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = options.extra_roots.clone();
        if !insecure {
            roots.extend(certificates(directory));
        }
        let tunnel = match identity(directory)?.filter(|_| !plain) {
            Some(own) => {
                let (host, port) = host_and_port(registry);
                Some(Tunnel::open((host, port.unwrap_or(443)), &own, &roots, insecure).await?)
            }
            None => None,
        };
        roots.extend(tunnel.as_ref().map(|tunnel| tunnel.authority.clone()));
        let certificate = |data: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() };
        let mut config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            accept_invalid_certificates: insecure,
            connect_timeout: Some(CONNECTING),
            read_timeout: Some(read_timeout),
            user_agent: USER_AGENT,
            extra_root_certificates: roots.iter().map(certificate).collect(),
            ..ClientConfig::default()
        };
        if let Some(tunnel) = &tunnel {
            config.https_proxy = Some(tunnel.url());
        } else if local {
            // Naming a proxy keeps the client from those of the environment, and this one is for nobody.
            config.http_proxy = Some("http://localhost".into());
            config.https_proxy = Some("http://localhost".into());
            config.no_proxy = Some("*,0.0.0.0/0,::/0".into());
        }
        let client = Client::try_from(config).map_err(|e| failed(registry, &e))?;
        let (scheme, registry) = (if plain { "http" } else { "https" }, registry.to_owned());
        Ok(Self { client, scheme, local, insecure, roots, read_timeout, tunnel, registry })
    }

    /// Why a request of one of this connection's clients failed: where a certificate is shown, in the words of the
    /// registry that did not take it.
    #[must_use]
    pub fn explain(&self, error: &dyn std::error::Error) -> String {
        match self.tunnel.as_ref().and_then(Tunnel::failure) {
            Some(reason) => format!("Get \"{}://{}/v2/\": {reason}", self.scheme, self.registry),
            None => causes(error),
        }
    }

    /// A client of the same kind for requests that the registry's own has no words for: mounts and uploads.
    ///
    /// # Errors
    /// When a root certificate or a proxy's address of the environment can't be read.
    pub fn uploads(&self) -> Result<reqwest::Client, ContentError> {
        let fail = |error| failed("uploads", &error);
        let mut builder = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(self.insecure)
            .connect_timeout(CONNECTING)
            .read_timeout(self.read_timeout)
            .user_agent(USER_AGENT);
        for root in &self.roots {
            builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(root).map_err(fail)?);
        }
        if let Some(tunnel) = &self.tunnel {
            builder = builder.proxy(reqwest::Proxy::https(tunnel.url()).map_err(fail)?);
        } else if self.local {
            builder = builder.no_proxy();
        }
        builder.build().map_err(fail)
    }
}

/// An error with its causes, which is where the network's own words are.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

fn failed(registry: &str, error: &dyn std::error::Error) -> ContentError {
    ContentError::Registry { reference: registry.to_owned(), message: error.to_string() }
}

/// Whether a registry, as in `localhost:5000`, is on this machine by its name alone.
#[must_use]
pub fn is_loopback(registry: &str) -> bool {
    let (host, _) = host_and_port(registry);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a registry may be spoken to without knowing for sure that it is the one: those of this machine, and those
/// listed as `HOST[:PORT]` or, for addresses, as `ADDRESS/LENGTH`.
fn is_insecure(registry: &str, listed: &[String]) -> bool {
    let (host, _) = host_and_port(registry);
    let within = |range: &str| {
        let (Some((network, length)), Ok(address)) = (range.split_once('/'), host.parse::<IpAddr>()) else {
            return false;
        };
        let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let ((network, width), (address, own)) = (bits(network), bits(address));
        let mask = u128::MAX.checked_shl(128 - length.min(width)).unwrap_or(0);
        width == own && length <= width && network & mask == address & mask
    };
    is_loopback(registry) || listed.iter().any(|one| one == registry || one == host || within(one))
}

/// `host`, `host:port`, `[::1]:port`.
fn host_and_port(registry: &str) -> (&str, Option<u16>) {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && (host.ends_with(']') || !host.contains(':')) => {
            (host, port.parse().ok())
        }
        _ => (registry, None),
    };
    (host.trim_matches(['[', ']']), port)
}

/// Whether what listens there answers a client's greeting of TLS with a record of TLS. No password was sent by then.
async fn speaks_tls(registry: &str) -> bool {
    let (host, port) = host_and_port(registry);
    let Some(greeting) = greeting(host) else { return false };
    let ask = async {
        let mut stream = TcpStream::connect((host, port.unwrap_or(443))).await?;
        stream.write_all(&greeting).await?;
        // Servers of other protocols may wait for the end of a line: there is none.
        stream.shutdown().await?;
        stream.read_u8().await
    };
    // A record of the handshake, or an alert.
    matches!(tokio::time::timeout(PATIENCE, ask).await, Ok(Ok(0x15 | 0x16)))
}

fn greeting(host: &str) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = host.to_owned().try_into().ok()?;
    let mut greeting = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut greeting).ok()?;
    Some(greeting)
}

/// The authorities named in a directory; none if there is no such directory.
fn certificates(directory: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "crt"))
        .filter_map(|path| {
            std::fs::read(&path)
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a certificate can't be read"))
                .ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_this_machine_are_known_by_their_names() {
        for local in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000", "::1"] {
            assert!(is_loopback(local), "{local}");
        }
        for other in ["docker.io", "localhost.example.org:5000", "10.0.0.1:5000", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    /// A registry that answers whoever shows a certificate of an authority with an empty page, one request a connection.
    async fn closed_registry(directory: &Path) -> String {
        use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = |pair: &rcgen::KeyPair| PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let server = rcgen::generate_simple_self_signed(["localhost.localdomain".to_owned()]).expect("a certificate");
        let client = rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).expect("written");
        write("ca.crt", server.cert.pem());
        write("client.cert", client.cert.pem());
        write("client.key", client.signing_key.serialize_pem());
        let mut clients = rustls::RootCertStore::empty();
        clients.add(client.cert.der().clone()).expect("a certificate");
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![server.cert.der().clone()], key(&server.signing_key))
            .expect("its own certificate");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut said = [0; 4096];
                let _ = stream.read(&mut said).await;
                let digest = format!("sha256:{}", "0".repeat(64));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        format!("127.0.0.1:{port}")
    }

    #[tokio::test]
    async fn a_registry_that_asks_for_a_certificate_is_shown_the_one_in_its_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let registry = closed_registry(directory.path()).await;
        let ask = async |directory: &Path| {
            let patience = Duration::from_secs(20);
            let connection = Connection::open_with(&registry, &PullOptions::default(), patience, directory).await;
            let connection = connection.expect("a connection");
            assert_eq!(connection.scheme, "https");
            let image = oci_client::Reference::with_tag(registry.clone(), "app".into(), "1".into());
            let anonymous = oci_client::secrets::RegistryAuth::Anonymous;
            let asked = connection.client.fetch_manifest_digest(&image, &anonymous).await;
            let uploads = connection.uploads().expect("a client for uploads");
            let sent = uploads.post(format!("https://{registry}/v2/app/blobs/uploads/")).send().await;
            (asked.is_ok(), sent.is_ok_and(|answer| answer.status() == 200))
        };
        assert_eq!(ask(directory.path()).await, (true, true));
        assert_eq!(ask(&directory.path().join("none")).await, (false, false), "without one nobody comes in");

        // One of somebody else's authority: its user is told what the registry said.
        let other = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
        let write = |name: &str, text: String| std::fs::write(other.path().join(name), text).expect("written");
        write("client.cert", made.cert.pem());
        write("client.key", made.signing_key.serialize_pem());
        let options = PullOptions::default();
        let opened = Connection::open_with(&registry, &options, Duration::from_secs(20), other.path()).await;
        let connection = opened.expect("a connection");
        let image = oci_client::Reference::with_tag(registry.clone(), "app".into(), "1".into());
        let anonymous = oci_client::secrets::RegistryAuth::Anonymous;
        let refused = connection.client.fetch_manifest_digest(&image, &anonymous).await.expect_err("refused");
        let told = connection.explain(&refused);
        let start = format!("Get \"https://{registry}/v2/\": remote error: tls: ");
        assert!(told.starts_with(&start), "{told}");
    }

    #[test]
    fn insecure_registries_are_listed_by_name_or_range() {
        let listed = ["reg.lab:5000", "other.lab", "10.1.0.0/16", "fd00::/8"].map(str::to_owned);
        for insecure in ["localhost:1", "reg.lab:5000", "other.lab:9", "10.1.2.3:5000", "10.1.255.1", "[fd12::1]:5000"]
        {
            assert!(is_insecure(insecure, &listed), "{insecure}");
        }
        for secure in ["reg.lab", "reg.lab:5001", "10.2.0.1:5000", "[fe80::1]:5000", "docker.io"] {
            assert!(!is_insecure(secure, &listed), "{secure}");
        }
        assert!(
            is_insecure("8.8.8.8", &["0.0.0.0/0".to_owned()]) && !is_insecure("8.8.8.8", &["8.8.8.8/33".to_owned()])
        );
    }

    #[tokio::test]
    async fn what_speaks_tls_is_told_from_what_does_not() {
        // Answers what it is told to whoever says something.
        let serve = async |answer: &'static [u8]| {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("its address").to_string();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let mut said = Vec::new();
                let _ = stream.read_to_end(&mut said).await;
                let _ = stream.write_all(answer).await;
            });
            address
        };
        assert!(speaks_tls(&serve(b"\x16\x03\x03").await).await, "a handshake");
        assert!(speaks_tls(&serve(b"\x15\x03\x01\x00\x02\x02\x46").await).await, "an alert");
        assert!(!speaks_tls(&serve(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await, "HTTP");
        assert!(!speaks_tls(&serve(b"").await).await, "nothing");
        assert!(!speaks_tls("127.0.0.1:1").await, "nobody");
    }
}
