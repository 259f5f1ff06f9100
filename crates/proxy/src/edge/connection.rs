//! A connection's beginning: who the client is, TLS, which HTTP.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::{Worker, listen, one, two};
use crate::io::{Input, Stream};
use crate::metrics::ListenerMetrics;
use crate::proxy_protocol;
use crate::site::{Listener, Site};

/// What is known of a connection.
pub(crate) struct Conn {
    pub(crate) worker: Rc<Worker>,
    /// The listener's address.
    pub(crate) at: SocketAddr,
    /// The client, as the connection or its PROXY protocol header tells.
    pub(crate) peer: SocketAddr,
    /// The same address as text.
    pub(crate) peer_text: String,
    /// Our own end.
    pub(crate) local: SocketAddr,
    /// TLS is spoken.
    pub(crate) tls: bool,
    /// The subject of the client's certificate.
    pub(crate) identity: Option<String>,
}

impl Conn {
    /// The site in force and this connection's listener in it; `None` once the listener is gone.
    pub(crate) fn now(&self) -> Option<(Arc<Site>, Arc<Listener>)> {
        let site = self.worker.site();
        let listener = Arc::clone(listen::find(&site, self.at)?);
        Some((site, listener))
    }

    /// Whether the container is about to end: then connections are closed in good order.
    pub(crate) fn is_ending(&self) -> bool {
        let serving = &self.worker.shared.serving;
        serving.leaving().is_cancelled() || serving.stopping().is_cancelled()
    }
}

thread_local! {
    static OPEN: Cell<usize> = const { Cell::new(0) };
    static ENDED: RefCell<Rc<Notify>> = RefCell::new(Rc::new(Notify::new()));
}

/// Connections of this thread.
pub(super) fn open_here() -> usize {
    OPEN.get()
}

/// Waits until one of this thread's connections has ended.
pub(super) async fn one_ended() {
    let ended = ENDED.with_borrow(Rc::clone);
    ended.notified().await;
}

/// Counts a connection as long as it is open.
pub(crate) struct Open {
    metrics: Arc<ListenerMetrics>,
    _guard: serving::Guard,
}

impl Open {
    pub(super) fn new(metrics: Arc<ListenerMetrics>, guard: serving::Guard) -> Self {
        OPEN.set(OPEN.get() + 1);
        Self { metrics, _guard: guard }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.open.fetch_sub(1, Ordering::Relaxed);
        // The thread-locals may be gone when a thread ends.
        let _ = OPEN.try_with(|open| open.set(open.get() - 1));
        let _ = ENDED.try_with(|ended| ended.borrow().notify_one());
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, at: SocketAddr, stream: TcpStream, peer: SocketAddr, open: Open) {
    let Some((stream, conn)) = establish(worker, at, stream, peer).await else { return };
    let (stream, alpn) = stream;
    if alpn {
        two::serve(Rc::new(conn), stream, Input::default(), open).await;
    } else {
        one::serve(Rc::new(conn), stream, open).await;
    }
}

/// PROXY protocol and TLS. Returns the stream, and whether HTTP/2 was agreed on.
pub(super) async fn establish(
    worker: Rc<Worker>,
    at: SocketAddr,
    mut stream: TcpStream,
    mut peer: SocketAddr,
) -> Option<((Stream, bool), Conn)> {
    let local = stream.local_addr().ok()?;
    let site = worker.site();
    let listener = Arc::clone(listen::find(&site, at)?);
    drop(site);
    let patience = listener.config.limits.header_timeout.0;
    if listener.config.accept_proxy_protocol && listener.trusts_proxy_header(peer.ip()) {
        match tokio::time::timeout(patience, proxy_header(&mut stream)).await {
            Ok(Ok(client)) => peer = client.unwrap_or(peer),
            _ => {
                listener.metrics.bad_requests.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
    }
    let mut conn =
        Conn { worker, at, peer, peer_text: peer.ip().to_canonical().to_string(), local, tls: false, identity: None };
    let Some((tls, _)) = &listener.tls else { return Some(((stream.into(), false), conn)) };
    let accepted =
        tokio::time::timeout(patience.max(Duration::from_secs(1)), TlsAcceptor::from(Arc::clone(tls)).accept(stream))
            .await;
    let Ok(Ok(stream)) = accepted else {
        listener.metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    let session = stream.get_ref().1;
    conn.tls = true;
    conn.identity = session.peer_certificates().and_then(|chain| crate::tls::subject(chain.first()?));
    let two = session.alpn_protocol() == Some(b"h2");
    Some(((stream.into(), two), conn))
}

/// Reads a PROXY protocol header and not a byte more.
async fn proxy_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut seen = [0u8; 4096];
    let mut last = 0;
    loop {
        let length = stream.peek(&mut seen).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match proxy_protocol::read(&seen[..length]).map_err(|_| broken())? {
            Some(told) => {
                tokio::io::AsyncReadExt::read_exact(stream, &mut seen[..told.length]).await?;
                return Ok(told.client);
            }
            None if length > last => last = length,
            // `peek` returns at once as long as anything is there: wait for the rest in small steps, bounded by the caller.
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
