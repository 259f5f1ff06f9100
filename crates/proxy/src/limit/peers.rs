//! Limits that replicas share: each key is counted by the replica a consistent hash names, which the others ask.
//!
//! `POST /v1/take?limit=NAME&key=HEX&algorithm=…&requests=…&per=…&burst=…` answers `ALLOWED REMAINING RETRY RESET`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::count::{Decision, Numbers};
use super::{Limit, Limits};
use crate::config::{Algorithm, Peers};
use crate::pool::{digest, discovery, now_millis};

/// How long a replica that did not answer is not asked again, in milliseconds.
const SPARED: u64 = 1000;

/// The replicas.
pub struct Ring {
    config: Peers,
    own: Option<SocketAddr>,
    members: RwLock<Arc<Vec<Replica>>>,
    ended: CancellationToken,
    /// Questions that this replica answered itself because the one to ask did not.
    pub fallbacks: AtomicU64,
}

struct Replica {
    address: SocketAddr,
    digest: u64,
    spared_until: AtomicU64,
}

impl Ring {
    pub(super) fn new(config: &Peers) -> Self {
        let port = crate::address::bind(&config.address).map_or(0, |a| a.port());
        let own = config.own.as_ref().and_then(|own| own.parse().ok());
        let own = own.or_else(|| Some(SocketAddr::new(std::env::var("POD_IP").ok()?.parse().ok()?, port)));
        let members = config.members.iter().filter_map(|m| m.parse().ok());
        let ring = Self {
            config: config.clone(),
            own,
            members: RwLock::default(),
            ended: CancellationToken::new(),
            fallbacks: AtomicU64::new(0),
        };
        ring.set(members.collect());
        ring
    }

    fn set(&self, mut addresses: Vec<SocketAddr>) {
        addresses.sort();
        addresses.dedup();
        let replica = |address: &SocketAddr| Replica {
            address: *address,
            digest: digest(address.to_string().as_bytes()),
            spared_until: AtomicU64::new(0),
        };
        *self.members.write() = Arc::new(addresses.iter().map(replica).collect());
    }

    pub(super) fn start(self: &Arc<Self>, limits: Weak<Limits>, serving: &serving::Serving) {
        if let Some(found) = self.config.discovery.clone() {
            let (ring, ended) = (Arc::downgrade(self), self.ended.clone());
            tokio::spawn(async move {
                let mut resolver = None;
                loop {
                    let (members, valid) = discovery::discover(&mut resolver, &found).await;
                    let Some(ring) = ring.upgrade() else { return };
                    if let Some(members) = members {
                        ring.set(members.into_iter().map(|m| m.address).collect());
                    }
                    drop(ring);
                    tokio::select! {
                        () = ended.cancelled() => return,
                        () = tokio::time::sleep(valid.max(std::time::Duration::from_secs(1))) => {}
                    }
                }
            });
        }
        let Some(address) = crate::address::bind(&self.config.address) else { return };
        let (ended, stopping) = (self.ended.clone(), serving.stopping().clone());
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
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let limits = limits.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = answer(&limits, request.uri());
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

    /// Counts one where its key is counted.
    pub(super) async fn take(&self, limit: &Limit, key: u64, numbers: Numbers) -> Decision {
        let members = Arc::clone(&self.members.read());
        let owner = members.iter().max_by_key(|replica| digest(&(replica.digest ^ key).to_le_bytes()));
        let Some(owner) = owner.filter(|o| Some(o.address) != self.own) else { return limit.take(key, numbers) };
        let now = now_millis();
        if owner.spared_until.load(Ordering::Relaxed) <= now {
            match tokio::time::timeout(self.config.timeout.0, ask(owner.address, limit.name(), key, numbers)).await {
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

fn answer(limits: &Weak<Limits>, uri: &http::Uri) -> Response<Full<Bytes>> {
    let say = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
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

thread_local! {
    static CONNECTIONS: RefCell<HashMap<SocketAddr, Vec<TcpStream>>> = RefCell::default();
}

async fn ask(address: SocketAddr, limit: &str, key: u64, numbers: Numbers) -> std::io::Result<Decision> {
    let kept = CONNECTIONS.with_borrow_mut(|all| all.get_mut(&address).and_then(Vec::pop));
    let reused = kept.is_some();
    let mut stream = match kept {
        Some(stream) => stream,
        None => connect(address).await?,
    };
    let decision = match question(&mut stream, address, limit, key, numbers).await {
        // It may have been closed while it waited.
        Err(_) if reused => {
            stream = connect(address).await?;
            question(&mut stream, address, limit, key, numbers).await?
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

async fn question(
    stream: &mut TcpStream,
    address: SocketAddr,
    limit: &str,
    key: u64,
    numbers: Numbers,
) -> std::io::Result<Decision> {
    let name = percent_encoding::utf8_percent_encode(limit, percent_encoding::NON_ALPHANUMERIC);
    let algorithm = match numbers.algorithm {
        Algorithm::TokenBucket => "token_bucket",
        Algorithm::SlidingWindow => "sliding_window",
    };
    let Numbers { requests, per_millis, burst, .. } = numbers;
    let text = format!(
        "POST /v1/take?limit={name}&key={key:x}&algorithm={algorithm}&requests={requests}&per={per_millis}&burst={burst} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await?;
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut response = crate::http1::Response::default();
    let length = loop {
        if stream.read_buf(&mut response.text).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(head) = crate::http1::parse_response(&mut response, false, 4096).map_err(|_| broken())?
            && let crate::http1::Framing::Length(body) = response.framing
            && response.text.len() >= head + body as usize
        {
            break head;
        }
    };
    let text = std::str::from_utf8(&response.text[length..]).map_err(|_| broken())?;
    let mut words = text.split(' ').map(|word| word.trim().parse::<u64>().map_err(|_| broken()));
    let mut next = || words.next().unwrap_or_else(|| Err(broken()));
    Ok(Decision { allowed: next()? == 1, remaining: next()?, retry_millis: next()?, reset_millis: next()? })
}
