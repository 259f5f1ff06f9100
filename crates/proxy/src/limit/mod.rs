//! Rate limits: who is counted, by which numbers, here or at the replica that counts them.

pub mod count;
mod keys;
mod peers;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{self, LimitBy, RateLimit};
use crate::http1::Request;
use crate::pool::{digest, now_millis};

pub use count::{Decision, Numbers};
use keys::Keys;
pub use peers::Ring;

/// All limits of a site.
pub struct Limits {
    limits: Vec<Limit>,
    peers: Option<Arc<Ring>>,
}

/// One limit at work.
pub(crate) struct Limit {
    config: RateLimit,
    pub(crate) keys: Arc<Keys>,
    allowed: AtomicU64,
    refused: AtomicU64,
}

/// What a limit may look at.
pub struct Asked<'a> {
    /// The request.
    pub request: &'a Request,
    /// The client's address.
    pub client: IpAddr,
    /// The subject of its certificate.
    pub identity: Option<&'a str>,
}

/// What the limits say.
pub struct Verdict {
    /// None refuses.
    pub allowed: bool,
    /// The limit that refuses, else the one that leaves the fewest; `None` where there is none.
    pub standing: Option<Standing>,
}

/// Where a client stands with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit's number of requests.
    pub limit: u64,
    /// What was decided of this one.
    pub decision: Decision,
}

impl Standing {
    /// As header fields; times in whole seconds, rounded up.
    pub fn fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let seconds = |millis: u64| millis.div_ceil(1000).max(1).to_string().into_bytes();
        let Decision { allowed, remaining, retry_millis, reset_millis } = self.decision;
        let mut fields = vec![
            ("x-ratelimit-limit", self.limit.to_string().into_bytes()),
            ("x-ratelimit-remaining", if allowed { remaining } else { 0 }.to_string().into_bytes()),
            ("x-ratelimit-reset", seconds(reset_millis)),
        ];
        if !allowed {
            fields.push(("retry-after", seconds(retry_millis)));
        }
        fields
    }
}

impl Limits {
    /// Limits that have counted nothing.
    ///
    /// # Errors
    /// When the file of the replicas' secret cannot be used.
    pub fn new(limits: &[RateLimit], peers: Option<&config::Peers>) -> Result<Self, String> {
        let limit = |config: &RateLimit| Limit {
            keys: Arc::new(Keys::new(config.keys)),
            config: config.clone(),
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        let peers = peers.map(Ring::new).transpose()?.map(Arc::new);
        Ok(Self { limits: limits.iter().map(limit).collect(), peers })
    }

    /// Answers the other replicas, and follows who they are, until the limits are replaced.
    pub fn start(self: &Arc<Self>, serving: &serving::Serving, names: &names::Names) {
        if let Some(ring) = &self.peers {
            ring.start(Arc::downgrade(self), serving, names);
        }
    }

    /// Counts a request against the limits of these names. The first that refuses ends it.
    pub async fn ask(&self, names: &[String], asked: &Asked<'_>) -> Verdict {
        let mut fewest: Option<Standing> = None;
        for limit in names.iter().filter_map(|name| self.limits.iter().find(|l| l.config.name == *name)) {
            let (key, numbers) = limit.key_and_numbers(asked);
            let decision = match &self.peers {
                Some(ring) if limit.config.shared => ring.take(limit, key, numbers).await,
                _ => limit.take(key, numbers),
            };
            let standing = Standing { limit: numbers.requests, decision };
            if !decision.allowed {
                limit.refused.fetch_add(1, Ordering::Relaxed);
                return Verdict { allowed: false, standing: Some(standing) };
            }
            limit.allowed.fetch_add(1, Ordering::Relaxed);
            if fewest.as_ref().is_none_or(|fewest| decision.remaining < fewest.decision.remaining) {
                fewest = Some(standing);
            }
        }
        Verdict { allowed: true, standing: fewest }
    }

    /// Counts one for another replica.
    pub(crate) fn take_for(&self, name: &str, key: u64, numbers: Numbers) -> Option<Decision> {
        Some(self.limits.iter().find(|l| l.config.name == name)?.take(key, numbers))
    }

    /// Limit, whether allowed, how many.
    pub fn counts(&self) -> Vec<(String, bool, u64)> {
        let each = |l: &Limit| {
            [
                (l.config.name.clone(), true, l.allowed.load(Ordering::Relaxed)),
                (l.config.name.clone(), false, l.refused.load(Ordering::Relaxed)),
            ]
        };
        self.limits.iter().flat_map(each).collect()
    }
}

impl Limit {
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    pub(crate) fn take(&self, key: u64, numbers: Numbers) -> Decision {
        self.keys.take(key, numbers, now_millis())
    }

    fn key_and_numbers(&self, asked: &Asked<'_>) -> (u64, Numbers) {
        let numbers = |requests: u64, burst: Option<u64>| Numbers {
            algorithm: self.config.algorithm,
            requests,
            per_millis: self.config.per.0.as_millis().max(1) as u64,
            burst: burst.unwrap_or(requests),
        };
        let tier = self.config.tiers.iter().enumerate().find(|(_, tier)| {
            let value = asked.request.header(&tier.header.as_deref().unwrap_or("authorization").to_ascii_lowercase());
            value.is_some_and(|value| tier.values.is_empty() || tier.values.iter().any(|v| v.as_bytes() == value))
        });
        let mut key = Vec::with_capacity(64);
        // Tiers count apart, so that who becomes known begins anew.
        key.push(tier.map_or(0, |(i, _)| i as u8 + 1));
        for by in &self.config.by {
            match by {
                LimitBy::Address => push_address(&mut key, asked.client),
                LimitBy::Header(name) => {
                    key.extend_from_slice(asked.request.header(&name.to_ascii_lowercase()).unwrap_or_default())
                }
                LimitBy::Path => key.extend_from_slice(asked.request.path()),
                LimitBy::Identity => match identity(asked) {
                    Some(identity) => key.extend_from_slice(identity),
                    None => push_address(&mut key, asked.client),
                },
            }
            // What is counted apart stays apart: no byte of a header's value is 0.
            key.push(0);
        }
        let numbers = match tier {
            Some((_, tier)) => numbers(tier.requests, tier.burst),
            None => numbers(self.config.requests, self.config.burst),
        };
        (digest(&key), numbers)
    }
}

fn push_address(key: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => key.extend_from_slice(&v4.octets()),
        // A household has a /64; each of its addresses apart would be no limit at all.
        IpAddr::V6(v6) => key.extend_from_slice(&v6.octets()[..8]),
    }
}

/// The certificate's subject, else what `Authorization` says: for `Basic` the user with the password, so that nobody uses up
/// another's share by a name alone.
fn identity<'a>(asked: &'a Asked<'_>) -> Option<&'a [u8]> {
    asked.identity.map(str::as_bytes).or_else(|| {
        let fields = &asked.request.fields;
        fields
            .iter()
            .find(|f| f.name.of(&asked.request.text).eq_ignore_ascii_case(b"authorization"))
            .map(|f| f.value.of(&asked.request.text))
    })
}
