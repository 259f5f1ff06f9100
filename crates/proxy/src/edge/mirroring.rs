//! Copies of requests for mirrors, beside everything: production never waits for them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::exchange::{Exchange, Purpose, Tally};
use super::reply::Reply;
use super::upstream::{self, forward};
use crate::http1::Framing;
use crate::io::BodyIn;
use crate::site::{Mirror, Route, Target};

/// Copies of one mirror under way at once, on one thread or all.
const COPIES: u64 = 256;

/// Sends a copy to a mirror, beside everything: production's answer is under way or gone already.
pub(super) fn mirror(
    x: &Exchange<'_>,
    (route, prefix): (&Arc<Route>, &str),
    index: usize,
    copy: Option<&[u8]>,
    complete: bool,
    production: (u16, Duration),
) {
    let mirror = &route.mirrors[index];
    let Mirror { config, comparison, .. } = mirror;
    if config.percent < 100.0 && rand::random::<f64>() * 100.0 >= config.percent {
        return;
    }
    let bodiless = x.request.framing == Framing::None || x.request.framing == Framing::Length(0);
    if (!bodiless && (copy.is_none() || !complete))
        || comparison.active.load(Ordering::Relaxed) >= COPIES
        || x.request.upgrade
    {
        comparison.skipped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    comparison.copied.fetch_add(1, Ordering::Relaxed);
    comparison.active.fetch_add(1, Ordering::Relaxed);
    let body = Bytes::copy_from_slice(copy.unwrap_or_default());
    let mut request = x.request.duplicate();
    request.framing = if bodiless { Framing::None } else { Framing::Length(body.len() as u64) };
    let (conn, site, listener, client) = (Rc::clone(x.conn), Arc::clone(x.site), Arc::clone(x.listener), x.client);
    let (route, prefix) = (Arc::clone(route), prefix.to_owned());
    tokio::task::spawn_local(async move {
        let mirror = &route.mirrors[index];
        let (deadline, tally) = (upstream::deadline(), Tally::default());
        let x = Exchange::new((&conn, &site, &listener), &deadline, &request, client, &tally);
        let target = Target::of_copies(&route, &mirror.pool);
        let started = Instant::now();
        let mut body = if body.is_empty() { BodyIn::End } else { BodyIn::Memory(body) };
        let result = forward(&x, &route, &prefix, &target, &mut body, &mut Reply::Nobody, &mut Purpose::Plain).await;
        let status = if result.is_ok() { tally.status.get() } else { 0 };
        mirror.comparison.active.fetch_sub(1, Ordering::Relaxed);
        if mirror.config.compare {
            let name = || {
                format!("{} {}", String::from_utf8_lossy(request.method()), String::from_utf8_lossy(request.target()))
            };
            mirror.comparison.record(name, production, (status, started.elapsed()));
        }
    });
}
