//! A listener: HTTP/1.1 and HTTP/2, in the clear or over TLS. Connections are bounded, and nobody may keep one waiting.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{handler::handle, registry::Registry, stall::Stall};

/// A TLS handshake, or the first bytes of a request, must be there by then.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the end of an answer to the end of the next request's headers. Longer than the 90 s after which Go's clients
/// close idle connections themselves, so that a request seldom meets a closing one.
const IDLE: Duration = Duration::from_secs(120);
/// Buffered for a connection each way; it bounds the head of a request too.
const BUFFER: usize = 256 << 10;
/// HTTP/2: requests at a time on one connection, and what a client may send before it is read.
const STREAMS: u32 = 64;
const WINDOW: u32 = 1 << 20;
/// After `accept` failed for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A certificate and its key.
#[derive(Clone)]
pub struct Tls(Arc<rustls::ServerConfig>);

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text holds no certificate or no key.
    #[error("read PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The key does not fit, or is of an unknown kind.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl Tls {
    /// From a chain of certificates and a private key, both PEM.
    ///
    /// # Errors
    /// As [`TlsError`] says.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(config.into())
    }
}

impl From<rustls::ServerConfig> for Tls {
    /// Its ALPN protocols are set here.
    fn from(mut config: rustls::ServerConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

impl Registry {
    /// Serves until the future is dropped, and its connections with it: uploads can be resumed, whatever was
    /// acknowledged is on the disk.
    ///
    /// # Errors
    /// None at present; what befalls one connection ends only that.
    pub async fn serve(&self, listener: TcpListener, tls: Option<Tls>) -> io::Result<()> {
        let slots = Arc::new(Semaphore::new(self.config().connections));
        let mut connections = JoinSet::new();
        // What was left by the last time.
        self.sweep();
        loop {
            while connections.try_join_next().is_some() {}
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (socket, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let (registry, tls) = (self.clone(), tls.clone());
            connections.spawn(async move {
                registry.connection(socket, from, tls).await;
                drop(slot);
            });
        }
    }

    async fn connection(self, socket: TcpStream, from: SocketAddr, tls: Option<Tls>) {
        let _ = socket.set_nodelay(true);
        let patience = self.config().patience;
        match tls {
            None => match tokio::time::timeout(HANDSHAKE, is_http2(&socket)).await {
                Ok(Ok(http2)) => self.speak(Stall::new(socket, patience), http2, from).await,
                _ => tracing::debug!(%from, "no request came"),
            },
            Some(tls) => match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls.0).accept(socket)).await {
                Ok(Ok(stream)) => {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    self.speak(Stall::new(stream, patience), http2, from).await;
                }
                Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS"),
                Err(_) => tracing::debug!(%from, "the TLS handshake took too long"),
            },
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool, from: SocketAddr) {
        let service = service_fn(move |request| {
            let handling = Box::pin(handle(self.clone(), request));
            async move { Ok::<_, Infallible>(handling.await) }
        });
        let io = TokioIo::new(stream);
        let ended = if http2 {
            conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(4 * WINDOW)
                .max_frame_size(64 << 10)
                .max_send_buf_size(BUFFER)
                .max_header_list_size(64 << 10)
                .keep_alive_interval(Some(Duration::from_secs(30)))
                .serve_connection(io, service)
                .await
        } else {
            conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .max_buf_size(BUFFER)
                .half_close(true)
                .serve_connection(io, service)
                .await
        };
        if let Err(error) = ended {
            tracing::debug!(%from, %error, "a connection ended early");
        }
    }
}

/// Whether a client begins with HTTP/2's preface (RFC 9113 §3.3, prior knowledge). No method begins like it.
async fn is_http2(socket: &TcpStream) -> io::Result<bool> {
    let mut head = [0; 4];
    let n = socket.peek(&mut head).await?;
    Ok(&head[..n] == b"PRI ")
}
