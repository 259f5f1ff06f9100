//! Limits that replicas share: each key is counted by the replica a consistent hash names, which the others ask.
//!
//! `POST /v1/take?limit=NAME&key=HEX&algorithm=…&requests=…&per=…&burst=…` answers `ALLOWED REMAINING RETRY RESET`. Only
//! replicas may ask: those who know the shared secret, or where there is none, those at a member's address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use hash_ring::{Hash, Placement};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use names::Names;
use parking_lot::RwLock;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::count::{Decision, Numbers};
use super::{Limit, Limits};
use crate::config::{Algorithm, Endpoint, Peers};
use crate::pool::discovery::{self, Source};
use crate::pool::{Member, now_millis};
use crate::replica;

/// How long a replica that did not answer is not asked again, in milliseconds.
const SPARED: u64 = 1000;

/// The replicas.
pub struct Ring {
    config: Peers,
    own: Option<SocketAddr>,
    secret: Option<String>,
    members: RwLock<Arc<Members>>,
    ended: CancellationToken,
    /// Questions that this replica answered itself because the one to ask did not.
    pub fallbacks: AtomicU64,
}

#[derive(Default)]
struct Members {
    replicas: Vec<Replica>,
    places: Option<hash_ring::Ring>,
}

struct Replica {
    address: SocketAddr,
    spared_until: AtomicU64,
}

impl Ring {
    /// Reads the secret, if there is one.
    pub(super) fn new(config: &Peers) -> Result<Self, String> {
        let port = crate::address::bind(&config.address).map_or(0, |a| a.port());
        let own = config.own.as_ref().and_then(|own| own.parse().ok());
        let own = own.or_else(|| Some(SocketAddr::new(std::env::var("POD_IP").ok()?.parse().ok()?, port)));
        let secret = match &config.secret {
            None => None,
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
                let secret = text.trim().to_owned();
                if secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(format!("{}: holds no secret of one printable word", file.display()));
                }
                Some(secret)
            }
        };
        let ring = Self {
            config: config.clone(),
            own,
            secret,
            members: RwLock::default(),
            ended: CancellationToken::new(),
            fallbacks: AtomicU64::new(0),
        };
        ring.set(ring.fixed().iter().map(|member| member.address).collect());
        Ok(ring)
    }

    /// The members that need no looking up.
    fn fixed(&self) -> Vec<Member> {
        let fixed = self.config.members.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
        fixed.map(|address| Member { address, host: address.ip().to_string(), weight: 1, drain: false }).collect()
    }

    fn set(&self, mut addresses: Vec<SocketAddr>) {
        addresses.sort();
        addresses.dedup();
        let replica = |address: &SocketAddr| Replica { address: *address, spared_until: AtomicU64::new(0) };
        let named: Vec<_> = addresses.iter().map(|a| hash_ring::Member::new(a.to_string(), 1)).collect();
        *self.members.write() = Arc::new(Members {
            replicas: addresses.iter().map(replica).collect(),
            places: Some(hash_ring::Ring::new(Placement::NginxConsistent, &named)),
        });
    }

    pub(super) fn start(self: &Arc<Self>, limits: Weak<Limits>, serving: &serving::Serving, names: &Names) {
        let named = |text: &String| Endpoint { address: text.clone(), ..Endpoint::default() };
        let endpoints: Vec<Endpoint> = self.config.members.iter().map(named).collect();
        let sources = Source::all(&endpoints, self.config.discovery.as_ref(), &[]);
        let ring = Arc::downgrade(self);
        discovery::follow(names, self.fixed(), sources, &self.ended, move |members| {
            if let Some(ring) = ring.upgrade() {
                ring.set(members.iter().map(|member| member.address).collect());
            }
        });
        let Some(address) = crate::address::bind(&self.config.address) else { return };
        let (ended, stopping) = (self.ended.clone(), serving.stopping().clone());
        let ring = Arc::downgrade(self);
        tokio::spawn(async move {
            // The limits before these may still be letting go of the address.
            let listener = loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(error) => {
                        tracing::warn!(%address, %error, "other replicas cannot ask this one, trying again");
                        tokio::select! {
                            () = ended.cancelled() => return,
                            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
                        }
                    }
                }
            };
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = ended.cancelled() => return,
                    () = stopping.cancelled() => return,
                };
                let Ok((stream, peer)) = accepted else { continue };
                let Some(secret) = ring.upgrade().and_then(|ring| ring.admits(peer.ip())) else { continue };
                let _ = stream.set_nodelay(true);
                let limits = limits.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let shown = request.headers().get(http::header::AUTHORIZATION).map(|value| value.as_bytes());
                        let answer = answer(&limits, request.uri(), secret.as_deref(), shown);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service);
                    let _ = connection.await;
                });
            }
        });
    }

    /// Whether somebody at an address may ask, and the secret that each of its questions must then show.
    fn admits(&self, address: IpAddr) -> Option<Option<String>> {
        if let Some(secret) = &self.secret {
            return Some(Some(format!("Bearer {secret}")));
        }
        let address = address.to_canonical();
        let known = self.members.read().replicas.iter().any(|replica| replica.address.ip().to_canonical() == address);
        if !known {
            // A new replica may be learnt of a little later here than there: it counts by itself until then.
            tracing::debug!(%address, "is no replica of this limiter: its questions are not answered");
        }
        known.then_some(None)
    }

    /// Counts one where its key is counted.
    pub(super) async fn take(&self, limit: &Limit, key: u64, numbers: Numbers) -> Decision {
        let members = Arc::clone(&self.members.read());
        let place = members.places.as_ref().and_then(|ring| ring.lookup(Hash::Crc32a.of(&key.to_le_bytes())));
        let owner = place.map(|place| &members.replicas[place]);
        let Some(owner) = owner.filter(|o| Some(o.address) != self.own) else { return limit.take(key, numbers) };
        let now = now_millis();
        if owner.spared_until.load(Ordering::Relaxed) <= now {
            let question = Question { limit: limit.name(), secret: self.secret.as_deref(), key, numbers };
            match tokio::time::timeout(self.config.timeout.0, ask(owner.address, &question)).await {
                Ok(Ok(decision)) => return decision,
                _ => owner.spared_until.store(now + SPARED, Ordering::Relaxed),
            }
        }
        // A limit that is a little too generous for a while is better than no service.
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
        limit.take(key, numbers)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

fn answer(limits: &Weak<Limits>, uri: &http::Uri, secret: Option<&str>, shown: Option<&[u8]>) -> Response<Full<Bytes>> {
    let say = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    if secret.is_some_and(|secret| !same(secret.as_bytes(), shown.unwrap_or_default())) {
        return say(StatusCode::UNAUTHORIZED, "the replicas' secret is needed\n".into());
    }
    if uri.path() != "/v1/take" {
        return say(StatusCode::NOT_FOUND, "there is nothing here\n".into());
    }
    let query: HashMap<&str, &str> =
        uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
    let number = |name: &str| query.get(name).and_then(|v| v.parse::<u64>().ok());
    let decided = || {
        let numbers = Numbers {
            algorithm: if *query.get("algorithm")? == "sliding_window" {
                Algorithm::SlidingWindow
            } else {
                Algorithm::TokenBucket
            },
            requests: number("requests")?,
            per_millis: number("per")?.max(1),
            burst: number("burst")?,
        };
        let name = percent_encoding::percent_decode_str(query.get("limit")?).decode_utf8().ok()?;
        limits.upgrade()?.take_for(&name, u64::from_str_radix(query.get("key")?, 16).ok()?, numbers)
    };
    match decided() {
        Some(d) => say(
            StatusCode::OK,
            format!("{} {} {} {}", u8::from(d.allowed), d.remaining, d.retry_millis, d.reset_millis),
        ),
        None => say(StatusCode::BAD_REQUEST, "limit, key, algorithm, requests, per and burst are needed\n".into()),
    }
}

/// Compares in a time that does not tell how much is the same.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

thread_local! {
    static CONNECTIONS: RefCell<HashMap<SocketAddr, Vec<TcpStream>>> = RefCell::default();
}

/// What is asked of the replica that counts a key.
struct Question<'a> {
    limit: &'a str,
    secret: Option<&'a str>,
    key: u64,
    numbers: Numbers,
}

async fn ask(address: SocketAddr, question: &Question<'_>) -> std::io::Result<Decision> {
    let kept = CONNECTIONS.with_borrow_mut(|all| all.get_mut(&address).and_then(Vec::pop));
    let reused = kept.is_some();
    let mut stream = match kept {
        Some(stream) => stream,
        None => connect(address).await?,
    };
    let decision = match question.put(&mut stream, address).await {
        // It may have been closed while it waited.
        Err(_) if reused => {
            stream = connect(address).await?;
            question.put(&mut stream, address).await?
        }
        other => other?,
    };
    CONNECTIONS.with_borrow_mut(|all| {
        let list = all.entry(address).or_default();
        if list.len() < 32 {
            list.push(stream);
        }
    });
    Ok(decision)
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Question<'_> {
    async fn put(&self, stream: &mut TcpStream, address: SocketAddr) -> std::io::Result<Decision> {
        let name = percent_encoding::utf8_percent_encode(self.limit, percent_encoding::NON_ALPHANUMERIC);
        let algorithm = match self.numbers.algorithm {
            Algorithm::TokenBucket => "token_bucket",
            Algorithm::SlidingWindow => "sliding_window",
        };
        let Numbers { requests, per_millis, burst, .. } = self.numbers;
        let authorization =
            self.secret.map_or_else(String::new, |secret| format!("authorization: Bearer {secret}\r\n"));
        let text = format!(
            "POST /v1/take?limit={name}&key={:x}&algorithm={algorithm}&requests={requests}&per={per_millis}&burst={burst} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n{authorization}\r\n",
            self.key
        );
        let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let answer = replica::ask(stream, text.as_bytes()).await?;
        if answer.status != 200 {
            return Err(broken());
        }
        let text = std::str::from_utf8(&answer.body).map_err(|_| broken())?;
        let mut words = text.split(' ').map(|word| word.trim().parse::<u64>().map_err(|_| broken()));
        let mut next = || words.next().unwrap_or_else(|| Err(broken()));
        Ok(Decision { allowed: next()? == 1, remaining: next()?, retry_millis: next()?, reset_millis: next()? })
    }
}
