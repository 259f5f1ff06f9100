//! Active health checks: each endpoint is asked in its own time.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, Pool, now_millis};
use crate::config::Health;
use crate::http1::{Response, parse_response};
use crate::tls;

/// Follows a pool's endpoints and asks each one, until the pool ends.
pub(super) fn start(pool: &Arc<Pool>, ended: CancellationToken) {
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = follow(pool) => {}
        }
    });
}

async fn follow(pool: Weak<Pool>) {
    let mut counts: HashMap<u64, (Verdict, Instant)> = HashMap::new();
    // What the pool was told does not change as long as it lives.
    let client = pool.upgrade().and_then(|pool| pool.config.tls.as_ref().map(|tls| tls::client(tls, false)));
    loop {
        let mut next = Instant::now() + Duration::from_secs(1);
        {
            let Some(pool) = pool.upgrade() else { return };
            let Some(health) = pool.config.health.clone() else { return };
            let members = pool.members();
            counts.retain(|id, _| members.endpoints.iter().any(|e| e.id == *id));
            let now = Instant::now();
            let due: Vec<_> = members
                .endpoints
                .iter()
                .filter(|e| counts.get(&e.id).is_none_or(|(_, at)| *at <= now))
                .cloned()
                .collect();
            let results =
                futures::future::join_all(due.iter().map(|endpoint| check(&pool, &health, client.as_ref(), endpoint)))
                    .await;
            for (endpoint, result) in due.iter().zip(results) {
                let entry = counts.entry(endpoint.id).or_insert_with(|| (Verdict::default(), now));
                if let Err(reason) = &result {
                    tracing::debug!(pool = pool.config.name, endpoint = %endpoint.address, reason, "health check failed");
                }
                if let Some(well) = entry.0.count(result.is_ok(), &health)
                    && endpoint.set_health(well, now_millis())
                {
                    let reason = result.err().unwrap_or_default();
                    tracing::info!(pool = pool.config.name, endpoint = %endpoint.address, well, reason, "health changed");
                }
                let tenth = health.interval.0.as_secs_f64() * (0.9 + 0.2 * rand::random::<f64>());
                entry.1 = now + Duration::from_secs_f64(tenth);
            }
            if let Some(soonest) = counts.values().map(|(_, at)| *at).min() {
                // New endpoints are to be asked soon, too.
                next = soonest.min(Instant::now() + health.interval.0);
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

/// Checks in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Verdict {
    good: u32,
    bad: u32,
}

impl Verdict {
    /// Counts one. Returns what the endpoint is from now on, if enough speak for it.
    fn count(&mut self, good: bool, health: &Health) -> Option<bool> {
        if good {
            self.good = self.good.saturating_add(1);
            self.bad = 0;
            (self.good >= health.healthy.max(1)).then_some(true)
        } else {
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
            (self.bad >= health.unhealthy.max(1)).then_some(false)
        }
    }
}

/// How endpoints are spoken to with TLS, or why they cannot be.
type Client = Result<Arc<rustls::ClientConfig>, String>;

/// Asks once.
async fn check(pool: &Pool, health: &Health, client: Option<&Client>, endpoint: &Endpoint) -> Result<(), String> {
    let asked = tokio::time::timeout(health.timeout.0, ask(pool, health, client, endpoint)).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {}", health.timeout)))
}

async fn ask(pool: &Pool, health: &Health, client: Option<&Client>, endpoint: &Endpoint) -> Result<(), String> {
    let stream = TcpStream::connect(endpoint.address).await.map_err(|e| e.to_string())?;
    let Some(path) = &health.path else { return Ok(()) };
    let host = health.host.as_deref().unwrap_or(&endpoint.authority);
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: hythe-health\r\nconnection: close\r\n\r\n");
    let status = match pool.config.tls.as_ref().zip(client) {
        None => exchange(stream, &request).await?,
        Some((config, client)) => {
            let client = Arc::clone(client.as_ref().map_err(Clone::clone)?);
            let name = config.server_name.clone().unwrap_or_else(|| endpoint.host.clone());
            let name = rustls_pki_types::ServerName::try_from(name).map_err(|e| e.to_string())?;
            let stream =
                tokio_rustls::TlsConnector::from(client).connect(name, stream).await.map_err(|e| e.to_string())?;
            exchange(stream, &request).await?
        }
    };
    let well =
        if health.statuses.is_empty() { (200..400).contains(&status) } else { health.statuses.contains(&status) };
    if well { Ok(()) } else { Err(format!("status {status}")) }
}

async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &str) -> Result<u16, String> {
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut response = Response::default();
    loop {
        if stream.read_buf(&mut response.text).await.map_err(|e| e.to_string())? == 0 {
            return Err("the connection ended before the answer".into());
        }
        if parse_response(&mut response, false, 64 << 10).map_err(|e| e.to_string())?.is_some() {
            return Ok(response.status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_so_many_checks_in_a_row_to_change_a_verdict() {
        let health = Health { healthy: 2, unhealthy: 3, ..Default::default() };
        let mut verdict = Verdict::default();
        let said: Vec<_> =
            [false, false, true, false, false, false, true, true].map(|good| verdict.count(good, &health)).to_vec();
        assert_eq!(said, [None, None, None, None, None, Some(false), None, Some(true)]);
    }
}
