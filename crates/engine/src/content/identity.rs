//! Registries that ask who their clients are (mutual TLS): `HOST[:PORT]/NAME.cert` and `NAME.key` beside the authorities.
//!
//! The library that speaks to registries has no way to show a certificate. So it goes by a proxy of this process, which
//! ends its TLS and begins another towards the registry, with the certificate; connections to other hosts, as to a
//! server of tokens, are passed on as they are. The proxy listens on loopback, lets in who knows its password, and ends
//! with its owner.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use base64::Engine as _;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use trust::{Identity, Trust};

use super::{ContentError, connection::CONNECTING};

/// A request for a tunnel has no more bytes than this.
const LONGEST_HEAD: usize = 8 << 10;
/// How long a client may take to ask.
const ASKING: Duration = Duration::from_secs(10);

/// The certificate in a registry's directory, if there is one; the first by name, where there are several.
///
/// # Errors
/// When a certificate has no key or a key no certificate, in dockerd's words.
pub(super) fn identity(directory: &Path) -> Result<Option<Identity>, ContentError> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let of = |kind: &'static str| files.iter().filter(move |path| path.extension().is_some_and(|own| own == kind));
    for key in of("key") {
        let certificate = key.with_extension("cert");
        if !files.contains(&certificate) {
            let (certificate, key) = (name(&certificate), name(key));
            return Err(ContentError::Invalid(format!("missing client certificate {certificate} for key {key}")));
        }
    }
    for certificate in of("cert") {
        let key = certificate.with_extension("key");
        if !files.contains(&key) {
            return Err(ContentError::Invalid(format!(
                "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                name(&key),
                name(certificate)
            )));
        }
    }
    Ok(of("cert")
        .next()
        .map(|certificate| Identity { certificate: certificate.clone(), key: certificate.with_extension("key") }))
}

/// The proxy.
pub(super) struct Tunnel {
    address: SocketAddr,
    password: String,
    /// Who signed the certificate that it shows, PEM: for its client alone.
    pub authority: Vec<u8>,
    task: AbortHandle,
    failure: Arc<Mutex<Option<String>>>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnel {
    /// Begins to listen for clients of one registry, `HOST[:PORT]`. The registry's own certificate is believed if an
    /// authority of the system or of `roots` (PEM) signed it, or whoever did, if it is `insecure`.
    ///
    /// # Errors
    /// When a certificate or the key can't be read, or there is no port.
    pub async fn open(
        (host, port): (&str, u16),
        own: &Identity,
        roots: &[Vec<u8>],
        insecure: bool,
    ) -> Result<Self, ContentError> {
        let invalid = |error: &dyn std::error::Error| ContentError::Invalid(error.to_string());
        let outside = towards_registry(own, roots, insecure)?;
        let shown = rcgen::generate_simple_self_signed([host.to_owned()]).map_err(|error| invalid(&error))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(shown.signing_key.serialize_der()));
        let inside = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![shown.cert.der().clone()], key))
            .map_err(|error| invalid(&error))?;
        let fail = |error| ContentError::io("listen", Path::new("127.0.0.1"), error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let password = uuid::Uuid::new_v4().simple().to_string();
        let failure = Arc::new(Mutex::new(None));
        let way = Arc::new(Way {
            failure: failure.clone(),
            name: ServerName::try_from(host.to_owned()).map_err(|error| invalid(&error))?,
            target: authority(host, port),
            allowed: format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("hythe:{password}"))),
            inside: TlsAcceptor::from(Arc::new(inside)),
            outside: TlsConnector::from(Arc::new(outside)),
        });
        let task = tokio::spawn(async move {
            // They end with the listener.
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let way = way.clone();
                clients.spawn(async move {
                    if let Err(error) = way.serve(client).await {
                        tracing::warn!(registry = way.target, %error, "a connection with a client's certificate failed");
                    }
                });
                while clients.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, password, authority: shown.cert.pem().into_bytes(), task: task.abort_handle(), failure })
    }

    /// Why the last connection failed, if one did since this was asked: its client was told nothing but that.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().take()
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        format!("http://hythe:{}@{}", self.password, self.address)
    }
}

/// From a client to a registry.
struct Way {
    name: ServerName<'static>,
    /// `HOST:PORT`, as the client asks for it.
    target: String,
    /// What a client says that may come in.
    allowed: String,
    inside: TlsAcceptor,
    outside: TlsConnector,
    failure: Arc<Mutex<Option<String>>>,
}

impl Way {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut answered = false;
        let served = self.carry(&mut client, &mut answered).await;
        // One that has only come to an end, as idle ones do, tells nothing.
        if let Err(error) = &served
            && error.get_ref().is_some()
        {
            // Known before the client learns that its connection is gone.
            *self.failure.lock() = Some(words(error));
        }
        if served.is_err() && !answered {
            let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
        }
        served
    }

    /// `answered` tells whether the client was told that there is a way, or that there is none for it.
    async fn carry(&self, client: &mut TcpStream, answered: &mut bool) -> io::Result<()> {
        let head = timeout(ASKING, read_head(client)).await??;
        let Some(target) = asked(&head, &self.allowed) else {
            *answered = true;
            return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        };
        let late = |what: String| move |_| io::Error::new(io::ErrorKind::TimedOut, what);
        let dial = |error: io::Error| io::Error::new(error.kind(), format!("dial tcp {target}: {error}"));
        let server = timeout(CONNECTING, TcpStream::connect(target)).await;
        let mut server = server.map_err(late(format!("dial tcp {target}: i/o timeout")))?.map_err(dial)?;
        let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
        let found = b"HTTP/1.1 200 OK\r\n\r\n";
        if target != self.target {
            *answered = true;
            client.write_all(found).await?;
            return copy_bidirectional(client, &mut server).await.map(drop);
        }
        let server = timeout(CONNECTING, self.outside.connect(self.name.clone(), server)).await;
        let mut server = server.map_err(late("net/http: TLS handshake timeout".into()))??;
        *answered = true;
        client.write_all(found).await?;
        let mut client = self.inside.accept(client).await?;
        match copy_bidirectional(&mut client, &mut server).await {
            // Clients and servers of HTTP rarely take leave.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Why a connection failed, as dockerd's users know it.
fn words(error: &io::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => {
            let said = match alert {
                Alert::CertificateRequired => "certificate required".into(),
                Alert::BadCertificate => "bad certificate".into(),
                Alert::UnsupportedCertificate => "unsupported certificate".into(),
                Alert::CertificateRevoked => "revoked certificate".into(),
                Alert::CertificateExpired => "expired certificate".into(),
                Alert::CertificateUnknown => "unknown certificate".into(),
                Alert::UnknownCA => "unknown certificate authority".into(),
                Alert::AccessDenied => "access denied".into(),
                Alert::DecryptError => "error decrypting message".into(),
                Alert::HandshakeFailure => "handshake failure".into(),
                other => format!("{other:?}"),
            };
            format!("remote error: tls: {said}")
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".into()
        }
        Some(Error::InvalidCertificate(other)) => format!("tls: failed to verify certificate: x509: {other}"),
        Some(other) => format!("tls: {other}"),
        None => error.to_string(),
    }
}

/// What comes before the empty line; a client says nothing more before it is answered.
async fn read_head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > LONGEST_HEAD || client.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Where a request leads, if its client may come in.
fn asked<'a>(head: &'a str, allowed: &str) -> Option<&'a str> {
    let mut lines = head.lines();
    let target = lines.next()?.strip_prefix("CONNECT ")?.split(' ').next()?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let said = fields.find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))?.1.trim();
    (said == allowed).then_some(target)
}

fn towards_registry(own: &Identity, roots: &[Vec<u8>], insecure: bool) -> Result<ClientConfig, ContentError> {
    let invalid = |error: &dyn std::error::Error| ContentError::Invalid(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?;
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(trust::anyone())
    } else {
        let mut believed = Trust::System.roots().map_err(|error| invalid(&error))?;
        for root in roots.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
            believed.add(root.map_err(|error| invalid(&error))?).map_err(|error| invalid(&error))?;
        }
        builder.with_root_certificates(believed)
    };
    own.shown_by(builder).map_err(|error| invalid(&error))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// As a client names it that wants to go there.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_belong_together() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str| std::fs::write(directory.path().join(name), "").expect("written");
        let said = || identity(directory.path()).expect_err("refused").to_string();
        assert_eq!(identity(&directory.path().join("none")).expect("fine"), None);
        write("ca.crt");
        assert_eq!(identity(directory.path()).expect("fine"), None);
        write("client.cert");
        assert!(said().contains("missing key client.key for client certificate client.cert"), "{}", said());
        write("client.key");
        let both =
            Identity { certificate: directory.path().join("client.cert"), key: directory.path().join("client.key") };
        assert_eq!(identity(directory.path()).expect("fine"), Some(both));
        write("other.key");
        assert!(said().contains("missing client certificate other.cert for key other.key"), "{}", said());
    }

    #[test]
    fn a_tunnel_is_for_those_who_know_its_password() {
        let head = |more: &str| format!("CONNECT reg.lab:443 HTTP/1.1\r\nhost: reg.lab:443\r\n{more}\r\n");
        assert_eq!(asked(&head("Proxy-Authorization: Basic abc\r\n"), "Basic abc"), Some("reg.lab:443"));
        assert_eq!(asked(&head("Proxy-Authorization: Basic abd\r\n"), "Basic abc"), None);
        assert_eq!(asked(&head(""), "Basic abc"), None);
        assert_eq!(asked("GET / HTTP/1.1\r\nProxy-Authorization: Basic abc\r\n\r\n", "Basic abc"), None);
    }
}
