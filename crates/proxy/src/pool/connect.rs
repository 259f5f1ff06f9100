//! Connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Endpoint;
use crate::config::{self, HttpVersion, ProxyVersion};
use crate::io::Stream;
use crate::{proxy_protocol, tls};

/// Why there is no connection. Nothing of a request was sent, so another endpoint may be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It was refused or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// How the endpoints of a pool are connected to.
pub struct Connector {
    tls: Option<(Arc<ClientConfig>, Option<String>)>,
    timeout: Duration,
    proxy: Option<ProxyVersion>,
    /// Connections given up because the endpoint's certificate is not to be trusted: expired, for another name, unknown.
    pub refused: AtomicU64,
    /// Why the last one was, so that each reason is told of once.
    told: Mutex<String>,
}

impl Connector {
    /// Reads what TLS needs.
    ///
    /// # Errors
    /// When a file cannot be read, with its name and the reason.
    pub fn new(config: &config::Pool) -> Result<Self, String> {
        let tls = match &config.tls {
            Some(tls) => Some((tls::client(tls, config.http == HttpVersion::Http2)?, tls.server_name.clone())),
            None => None,
        };
        Ok(Self {
            tls,
            timeout: config.connect_timeout.0,
            proxy: config.send_proxy_protocol,
            refused: AtomicU64::new(0),
            told: Mutex::default(),
        })
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects. `client` and `local` are told in a PROXY protocol header, where one is sent.
    ///
    /// # Errors
    /// When there is no connection within the time allowed.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        client: SocketAddr,
        local: SocketAddr,
    ) -> Result<Stream, ConnectError> {
        let stream = tokio::time::timeout(self.timeout, self.open(endpoint, client, local));
        Ok(stream.await.map_err(|_| ConnectError::Timeout(self.timeout))??)
    }

    async fn open(&self, endpoint: &Endpoint, client: SocketAddr, local: SocketAddr) -> io::Result<Stream> {
        let mut stream = TcpStream::connect(endpoint.address).await?;
        stream.set_nodelay(true)?;
        if let Some(version) = self.proxy {
            let header = proxy_protocol::write(version, client, local);
            tokio::io::AsyncWriteExt::write_all(&mut stream, &header).await?;
        }
        let Some((tls, name)) = &self.tls else { return Ok(stream.into()) };
        let name = name.as_deref().unwrap_or(&endpoint.host).to_owned();
        let name = ServerName::try_from(name).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        match TlsConnector::from(Arc::clone(tls)).connect(name, stream).await {
            Ok(stream) => Ok(stream.into()),
            Err(error) => {
                self.refuse(endpoint, &error);
                Err(error)
            }
        }
    }

    fn refuse(&self, endpoint: &Endpoint, error: &io::Error) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if !matches!(inner, Some(rustls::Error::InvalidCertificate(_))) {
            return;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let reason = format!("{} {error}", endpoint.address);
        let mut told = self.told.lock();
        if *told != reason {
            tracing::error!(endpoint = %endpoint.address, host = endpoint.host, %error, "the endpoint's certificate is refused");
            *told = reason;
        }
    }
}
