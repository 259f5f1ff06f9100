//! One endpoint: where it is, and what is known of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Member, NEXT_ID};
use crate::io::about_now;

/// Milliseconds since the process began, never 0: what the pools' clocks show.
pub fn now_millis() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(about_now);
    about_now().saturating_duration_since(*START).as_millis() as u64 + 1
}

/// An endpoint. Threads share it, so it is all counters.
#[derive(Debug)]
pub struct Endpoint {
    /// Tells its connections from others'.
    pub id: u64,
    /// Where it is.
    pub address: SocketAddr,
    /// What it is called.
    pub host: String,
    /// `host:port` as `Host` has it.
    pub authority: String,
    /// A digest of address and name, the same in every replica: for hashing, and in sticky cookies.
    pub digest: u64,
    weight: AtomicU32,
    drain: AtomicBool,
    unhealthy: AtomicBool,
    /// When it became fit, for its slow start; 0: long ago.
    since: AtomicU64,
    ejected_until: AtomicU64,
    ejections: AtomicU32,
    failures: AtomicU32,
    active: AtomicU32,
    /// Requests or connections it was given.
    pub requests: AtomicU64,
    /// How many of them failed.
    pub errors: AtomicU64,
}

impl Endpoint {
    /// An endpoint nothing is known of. A fresh one starts slowly.
    pub fn new(member: &Member, fresh: bool) -> Self {
        let bare = if member.address.is_ipv6() && member.host.contains(':') {
            format!("[{}]:{}", member.host, member.address.port())
        } else {
            format!("{}:{}", member.host, member.address.port())
        };
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address: member.address,
            host: member.host.clone(),
            digest: digest(member.address.to_string().as_bytes()),
            authority: bare,
            weight: AtomicU32::new(member.weight),
            drain: AtomicBool::new(member.drain),
            unhealthy: AtomicBool::new(false),
            since: AtomicU64::new(if fresh { now_millis() } else { 0 }),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            active: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// As configuration or discovery named it.
    pub fn member(&self) -> Member {
        let drain = self.drain.load(Ordering::Relaxed);
        Member { address: self.address, host: self.host.clone(), weight: self.weight(), drain }
    }

    pub(super) fn set(&self, weight: u32, drain: bool) {
        self.weight.store(weight, Ordering::Relaxed);
        self.drain.store(drain, Ordering::Relaxed);
    }

    /// Its share.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Requests or connections in flight.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether it answers, as far as is known.
    pub fn is_well(&self, now: u64) -> bool {
        !self.unhealthy.load(Ordering::Relaxed) && !self.is_ejected(now)
    }

    /// Whether it is left out for what it did.
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// Whether it may get something new.
    pub fn is_open(&self, now: u64) -> bool {
        self.weight() > 0 && !self.drain.load(Ordering::Relaxed) && self.is_well(now)
    }

    /// Which part of its share it gets by now, 0.1 to 1.
    pub fn warmth(&self, now: u64, slow_start: Duration) -> f64 {
        let since = self.since.load(Ordering::Relaxed).max(self.ejected_until.load(Ordering::Relaxed));
        if since == 0 || slow_start.is_zero() {
            return 1.0;
        }
        (now.saturating_sub(since) as f64 / slow_start.as_millis() as f64).clamp(0.1, 1.0)
    }

    /// What its checks say. Returns whether that is news.
    pub fn set_health(&self, well: bool, now: u64) -> bool {
        let was = !self.unhealthy.swap(!well, Ordering::Relaxed);
        if well && !was {
            self.since.store(now, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
        was != well
    }

    /// It served a request.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// It failed one. Returns whether these are enough in a row.
    pub(super) fn failed(&self, enough: u32) -> bool {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= enough && enough > 0
    }

    pub(super) fn eject(&self, now: u64, time: Duration) {
        let times = (self.ejections.fetch_add(1, Ordering::Relaxed) + 1).min(10);
        self.failures.store(0, Ordering::Relaxed);
        self.ejected_until.store(now + (time.as_millis() as u64) * u64::from(times), Ordering::Relaxed);
    }
}

/// A request or connection in flight to an endpoint.
pub struct Lease {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
}

impl Lease {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        endpoint.requests.fetch_add(1, Ordering::Relaxed);
        Self { endpoint }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stable digest (FNV-1a, mixed so that near keys lie apart): the same on every machine and in every version.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
