//! Connections to endpoints that speak HTTP/2: one a thread, which carries many requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;

use super::exchange::Exchange;
use crate::pool::{ConnectError, Lease, Pool};

thread_local! {
    static SENDERS: RefCell<HashMap<(u64, u64), SendRequest<Bytes>>> = RefCell::new(HashMap::new());
}

/// This thread's HTTP/2 connection to an endpoint.
pub(super) async fn connection(
    pool: &Arc<Pool>,
    lease: &Lease,
    x: &Exchange<'_>,
) -> Result<SendRequest<Bytes>, ConnectError> {
    let key = (pool.id, lease.endpoint.id);
    let kept = SENDERS.with_borrow(|senders| senders.get(&key).cloned());
    if let Some(kept) = kept
        && let Ok(Ok(ready)) = tokio::time::timeout(pool.config.connect_timeout.0, kept.ready()).await
    {
        return Ok(ready);
    }
    let stream = pool.connector.connect(&lease.endpoint, x.conn.peer, x.conn.local).await?;
    let lost = |error: h2::Error| ConnectError::Io(std::io::Error::other(error));
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20).enable_push(false);
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.map_err(lost)?;
    tokio::task::spawn_local(async move {
        // How it ended is told to each of its streams.
        let _ = connection.await;
        SENDERS.with_borrow_mut(|senders| senders.remove(&key));
    });
    let sender = sender.ready().await.map_err(lost)?;
    SENDERS.with_borrow_mut(|senders| senders.insert(key, sender.clone()));
    Ok(sender)
}
