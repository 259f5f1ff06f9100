//! TLS, HTTP/1.1 and HTTP/2 on a listener. Connections are bounded, handshakes and headers have deadlines;
//! watches have none but their own.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    authn::Peer,
    body::{Body, RequestBody},
    guard::guarded,
    handler, kubelet,
    metrics::Open,
    server::ApiServer,
};

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

/// What a listener is for.
#[derive(Clone)]
enum Purpose {
    /// The API.
    Api,
    /// What the agent of a node has to say at its own port.
    Node(Arc<str>),
}

impl ApiServer {
    /// Serves until the future is dropped; connections that are open then go on to their end. The TLS
    /// configuration brings the certificate and, for client certificates, the verifier; ALPN is set here.
    ///
    /// # Errors
    /// None but that of a semaphore which is never closed.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: ServerConfig) -> io::Result<()> {
        self.accept(listener, tls, Purpose::Api).await
    }

    /// Serves the agent of a node as its kubelet would at port 10250, to whom the API knows.
    ///
    /// # Errors
    /// As [`ApiServer::serve`].
    pub async fn serve_node(self: Arc<Self>, node: &str, listener: TcpListener, tls: ServerConfig) -> io::Result<()> {
        self.accept(listener, tls, Purpose::Node(node.into())).await
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, mut tls: ServerConfig, purpose: Purpose) -> io::Result<()> {
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
            let (server, acceptor, purpose) = (self.clone(), acceptor.clone(), purpose.clone());
            tokio::spawn(async move {
                let open = Open::count(&server.metrics.connections);
                connection(server, purpose, socket, from, acceptor).await;
                drop((open, slot));
            });
        }
    }
}

/// One connection, from the handshake to its end. What is large is boxed: an idle connection should cost little,
/// and a state machine keeps room for all its states at once.
async fn connection(
    server: Arc<ApiServer>,
    purpose: Purpose,
    socket: TcpStream,
    from: SocketAddr,
    acceptor: TlsAcceptor,
) {
    let _ = socket.set_nodelay(true);
    // Whoever asks and then neither reads nor goes away does not keep the answer in memory.
    let unread = u32::try_from(server.config.unread_timeout.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = setsockopt(&socket, TcpUserTimeout, &unread) {
        tracing::debug!(%from, %error, "a client that stops reading will keep its connection");
    }
    let accepting = async move { acceptor.accept(socket).await.map(Box::new) };
    let stream = match Box::pin(tokio::time::timeout(HANDSHAKE, accepting)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "no TLS"),
        Err(_) => return tracing::debug!(%from, "the TLS handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    let front = Front { server, purpose, peer: Peer::of_certificates(session.peer_certificates()) };
    let ended = if session.alpn_protocol() == Some(b"h2") {
        Box::pin(http2(front, stream)).await
    } else {
        Box::pin(http1(front, stream)).await
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a connection ended early");
    }
}

async fn http1(front: Front, stream: Box<TlsStream<TcpStream>>) -> hyper::Result<()> {
    conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER_BYTES)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service_fn(move |request| front.handled(request)))
        .with_upgrades()
        .await
}

async fn http2(front: Front, stream: Box<TlsStream<TcpStream>>) -> hyper::Result<()> {
    conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(BUFFER_BYTES)
        .max_header_list_size(BUFFER_BYTES as u32)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .serve_connection(TokioIo::new(stream), service_fn(move |request| front.handled(request)))
        .await
}

/// What requests of one connection are answered with.
struct Front {
    server: Arc<ApiServer>,
    purpose: Purpose,
    peer: Peer,
}

impl Front {
    /// The handling of one request, which exists only as long as there is one.
    fn handled(&self, request: Request<Incoming>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let (server, request, peer) = (self.server.clone(), request.map(RequestBody::Wire), self.peer.clone());
        match &self.purpose {
            Purpose::Api => guarded(handler::handle(server, request, peer)).map(Ok).boxed(),
            Purpose::Node(node) => guarded(kubelet::handle(server, request, peer, node.clone())).map(Ok).boxed(),
        }
    }
}

/// Three quarters of the limit on open files, so that the store, agents and streams have theirs.
fn connection_limit() -> usize {
    const UNKNOWN: u64 = 1024;
    let limit =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(UNKNOWN, |(soft, _)| soft);
    (limit.clamp(64, 1 << 20) * 3 / 4) as usize
}
