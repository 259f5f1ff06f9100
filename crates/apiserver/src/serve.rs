//! TLS, HTTP/1.1 and HTTP/2 on a listener. Connections are bounded, handshakes and headers have deadlines;
//! watches have none but their own.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use crate::{authn::Peer, body::RequestBody, handler, metrics::Open, server::ApiServer};

/// A TLS handshake must be done by then.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the end of an answer to the end of the next request's headers: idle connections end here. Longer
/// than the 90 s after which clients close theirs, so that a request seldom meets a closing connection.
const IDLE: Duration = Duration::from_secs(120);
/// Buffered for a connection at most, each way: it bounds the head of a request and what a slow watcher costs.
const BUFFER_BYTES: usize = 256 * 1024;
/// Requests at a time on one HTTP/2 connection (upstream's default).
const STREAMS: u32 = 100;
/// Pause after `accept` failed for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

impl ApiServer {
    /// Serves until the future is dropped; connections that are open then go on to their end. The TLS
    /// configuration brings the certificate and, for client certificates, the verifier; ALPN is set here.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: ServerConfig) -> io::Result<()> {
        let mut tls = tls;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let slots = Arc::new(Semaphore::new(self.config.max_connections.unwrap_or_else(connection_limit)));
        loop {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (socket, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let open = Open::count(&server.metrics.connections);
                connection(server, socket, from, acceptor).await;
                drop((open, slot));
            });
        }
    }
}

async fn connection(server: Arc<ApiServer>, socket: TcpStream, from: SocketAddr, acceptor: TlsAcceptor) {
    let _ = socket.set_nodelay(true);
    // Boxed, because its state is large and an idle connection has no use for it.
    let handshake = Box::pin(tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "no TLS"),
        Err(_) => return tracing::debug!(%from, "the TLS handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    let peer = Peer::of_certificates(session.peer_certificates());
    let http2 = session.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let handling = handler::handle(server.clone(), request.map(RequestBody::Wire), peer.clone());
        // The state of a request is large; boxed, it exists only while there is one.
        let handling = Box::pin(handling);
        async move { Ok::<_, Infallible>(handling.await) }
    });
    let io = TokioIo::new(stream);
    let ended = if http2 {
        conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_send_buf_size(BUFFER_BYTES)
            .max_header_list_size(BUFFER_BYTES as u32)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .serve_connection(io, service)
            .await
    } else {
        conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(BUFFER_BYTES)
            .half_close(true)
            .serve_connection(io, service)
            .with_upgrades()
            .await
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a connection ended early");
    }
}

/// Three quarters of the limit on open files, so that the store, agents and streams have theirs.
fn connection_limit() -> usize {
    const UNKNOWN: u64 = 1024;
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(UNKNOWN, |(soft, _)| soft);
    (limit.clamp(64, 1 << 20) * 3 / 4) as usize
}
