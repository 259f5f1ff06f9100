//! One request carried to an endpoint, and its response back.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::Poll;

use h2::RecvStream;
use h2::client::ResponseFuture;
use tokio::time::Instant;

use super::deliver::Delivered;
use super::exchange::{Exchange, Purpose};
use super::heads::{Head, read_head};
use super::reply::Reply;
use super::senders::connection;
use crate::config::{Balance, HttpVersion};
use crate::http1::{Framing, Response};
use crate::io::{BodyError, BodyIn, BodyOut, Deadline, PumpError, Stream, about_now, give, pump, take};
use crate::pool::{ConnectError, Idle, Lease, Wish, reuse, shelve};
use crate::site::{Route, Target, key_of};

/// Bodies up to this size that are here as a whole are sent with the head, and can be sent again.
pub(super) const WHOLE: usize = 64 << 10;
/// Response heads.
pub(super) const HEAD: usize = 64 << 10;

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no endpoint of the pool is well")]
    NoEndpoint,
    #[error("the pool is full")]
    Full,
    #[error("no connection to the endpoint: {0}")]
    Connect(ConnectError),
    #[error("the endpoint took too long")]
    Timeout,
    #[error("the endpoint's answer is broken: {0}")]
    Broken(String),
    /// The client's own doing, with the status that says so.
    #[error("{1}")]
    Client(u16, &'static str),
    /// After the response began: nothing more can be said.
    #[error("broken off: {0}")]
    BrokenOff(String),
}

impl Failure {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::NoEndpoint | Self::Full => 503,
            Self::Connect(ConnectError::Timeout(_)) | Self::Timeout => 504,
            Self::Connect(_) | Self::Broken(_) | Self::BrokenOff(_) => 502,
            Self::Client(status, _) => *status,
        }
    }
}

/// What became of a request.
pub(super) enum Served {
    /// Answered. `clean`: the request's body was read to its end.
    Answered { clean: bool },
    /// The protocol was switched: the endpoint's side of the tunnel.
    Switched(Idle),
    /// The purpose took the response for itself; nothing was said to the client.
    Swallowed,
}

/// Carries a request to a target of its route, to another endpoint where one fails and that is safe.
pub(super) async fn forward(
    x: &Exchange<'_>,
    route: &Route,
    prefix: &str,
    target: &Target,
    body: &mut BodyIn<'_>,
    reply: &mut Reply<'_>,
    purpose: &mut Purpose<'_>,
) -> Result<Served, Failure> {
    let pool = &target.pool;
    let _permit = pool.admit().await.map_err(|_| Failure::Full)?;
    let sticky =
        pool.config.sticky.as_ref().map(|s| {
            x.request.cookie(&s.cookie).and_then(|c| u64::from_str_radix(std::str::from_utf8(c).ok()?, 16).ok())
        });
    let point = match pool.config.balance {
        Balance::Hash => {
            let key = pool.config.hash.as_ref().and_then(|key| key_of(key, x.request));
            key.map_or_else(
                || pool.config.ring.point(x.client.to_string().as_bytes()),
                |key| pool.config.ring.point(key),
            )
        }
        _ => 0,
    };
    let mut tried: Vec<u64> = Vec::new();
    let mut scratch = Scratch(SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default());
    let response = &mut scratch.0;
    let end = (!route.config.timeout.0.is_zero()).then(|| about_now() + route.config.timeout.0);
    let mut last = Failure::NoEndpoint;
    let retry = &route.config.retry;
    // Attempts that failed once something was sent.
    let mut sent = 0;
    loop {
        let wish = Wish { point, sticky: sticky.flatten(), tried: &tried };
        let lease = match pool.choose(&wish) {
            Some(lease) => lease,
            // Where no other is left, the same may be tried again.
            None if !tried.is_empty() && tried.len() <= retry.attempts as usize => {
                match pool.choose(&Wish { tried: &[], ..wish }) {
                    Some(lease) => lease,
                    None => return Err(last),
                }
            }
            None => return Err(last),
        };
        if !tried.is_empty() {
            pool.retries.fetch_add(1, Ordering::Relaxed);
        }
        let again = sent < retry.attempts;
        let job = Job {
            x,
            route,
            prefix,
            target,
            lease: &lease,
            again,
            end,
            sticky: sticky.is_some() && sticky.flatten() != Some(lease.endpoint.digest),
        };
        x.tally.upstream(&lease.endpoint);
        let result = job.attempt(response, body, reply, purpose).await;
        match result {
            Ok(served) => return Ok(served),
            Err(Attempted { failure, repeatable }) => {
                let theirs = !matches!(failure, Failure::Client(..));
                if theirs {
                    pool.failed(&lease.endpoint);
                }
                let out_of_time = end.is_some_and(|end| Instant::now() >= end);
                if !repeatable || reply.started() || !theirs || out_of_time {
                    return Err(failure);
                }
                tried.push(lease.endpoint.id);
                // Where nothing was sent, nobody does anything twice.
                let unsent = matches!(failure, Failure::Connect(_));
                sent += u32::from(!unsent);
                let most = if unsent { retry.connects.max(retry.attempts) } else { retry.attempts };
                if retry.attempts == 0 || sent > retry.attempts || tried.len() > most as usize {
                    return Err(failure);
                }
                last = failure;
            }
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Response>> = const { RefCell::new(Vec::new()) };
}

/// A response's head whose memory is used again; its text goes back to the shelf.
struct Scratch(Response);

impl Drop for Scratch {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0.text));
        self.0.clear();
        let head = std::mem::take(&mut self.0);
        let _ = SCRATCH.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < 64 {
                kept.push(head);
            }
        });
    }
}

/// One attempt.
pub(super) struct Job<'a> {
    pub(super) x: &'a Exchange<'a>,
    pub(super) route: &'a Route,
    pub(super) prefix: &'a str,
    pub(super) target: &'a Target,
    pub(super) lease: &'a Lease,
    /// Another attempt would be made.
    pub(super) again: bool,
    pub(super) end: Option<Instant>,
    /// The client is to be told which endpoint it sticks to.
    pub(super) sticky: bool,
}

struct Attempted {
    failure: Failure,
    /// Nothing was sent, or what was sent may be sent again.
    repeatable: bool,
}

/// What a response is read from.
pub(super) enum Source<'a> {
    One { stream: &'a Stream, input: &'a mut crate::io::Input },
    Two { response: ResponseFuture, body: Option<RecvStream> },
}

pub(super) type Upload<'a> = Option<Pin<&'a mut dyn Future<Output = Result<(), PumpError>>>>;

impl Job<'_> {
    async fn attempt(
        &self,
        response: &mut Response,
        body: &mut BodyIn<'_>,
        reply: &mut Reply<'_>,
        purpose: &mut Purpose<'_>,
    ) -> Result<Served, Attempted> {
        if self.target.pool.config.http == HttpVersion::Http2 {
            return self.attempt_two(response, body, reply, purpose).await;
        }
        let pool = &self.target.pool;
        let endpoint = &self.lease.endpoint;
        let kept = if pool.config.send_proxy_protocol.is_some() || self.x.request.upgrade {
            None
        } else {
            reuse(pool, endpoint)
        };
        let mut idle = match kept {
            Some(idle) => idle,
            None => {
                let stream = pool.connector.connect(endpoint, self.x.conn.peer, self.x.conn.local).await;
                let stream =
                    stream.map_err(|error| Attempted { failure: Failure::Connect(error), repeatable: true })?;
                Idle { stream, input: crate::io::Input::default() }
            }
        };
        let mut out = take();
        self.write_request(&mut out, purpose);
        let Idle { stream, input } = &mut idle;
        let stream = &*stream;
        let whole = body.whole().filter(|whole| whole.len() <= WHOLE).map(<[u8]>::len);
        let served = if let Some(whole) = whole {
            let repeatable = self.x.request.is_idempotent();
            self.set_deadline(self.end);
            let sent = {
                let data = body.whole().unwrap_or_default();
                self.x.tally.add_in(data.len() as u64);
                self.x.deadline.guard(stream.write_all(&out, data)).await
            };
            let lost = |reason: String| Attempted { failure: Failure::Broken(reason), repeatable };
            match sent {
                Ok(Ok(())) => {}
                // It may have answered before it closed: an answer to a part of a request is one.
                Ok(Err(_)) if whole > 0 => {}
                Ok(Err(error)) => return Err(lost(error.to_string())),
                Err(_) => return Err(Attempted { failure: Failure::Timeout, repeatable }),
            }
            give(out);
            let mut source = Source::One { stream, input };
            self.receive(&mut source, response, reply, &mut None, repeatable).await?;
            if !self.wants_another(response, repeatable) {
                body.skip_whole();
            } else {
                return Err(Attempted {
                    failure: Failure::Broken(format!("status {}", response.status)),
                    repeatable: true,
                });
            }
            self.deliver(source, response, reply, &mut None, purpose).await
        } else {
            let mut body_out = match self.x.request.framing {
                Framing::Length(_) => BodyOut::Plain { stream, out: &mut out },
                _ => BodyOut::Chunked { stream, out: &mut out },
            };
            let mut done = pin!(self.upload(body, &mut body_out));
            let mut upload: Upload<'_> = Some(done.as_mut());
            let mut source = Source::One { stream, input };
            self.receive(&mut source, response, reply, &mut upload, false).await?;
            self.deliver(source, response, reply, &mut upload, purpose).await
        };
        match served {
            Ok(Delivered { clean, reusable }) => {
                if response.status == 101 {
                    return Ok(Served::Switched(idle));
                }
                if reusable && response.keep_alive && pool.config.send_proxy_protocol.is_none() {
                    shelve(pool, &self.lease.endpoint, idle);
                }
                Ok(if purpose.swallowed() { Served::Swallowed } else { Served::Answered { clean } })
            }
            Err(failure) => Err(Attempted { failure, repeatable: false }),
        }
    }

    async fn attempt_two(
        &self,
        response: &mut Response,
        body: &mut BodyIn<'_>,
        reply: &mut Reply<'_>,
        purpose: &mut Purpose<'_>,
    ) -> Result<Served, Attempted> {
        let failed = |failure: Failure| Attempted { failure, repeatable: true };
        let mut sender =
            connection(&self.target.pool, self.lease, self.x).await.map_err(|e| failed(Failure::Connect(e)))?;
        let request = self
            .request_two(purpose)
            .map_err(|reason| Attempted { failure: Failure::Client(400, reason), repeatable: false })?;
        self.set_deadline(self.end);
        let sent = sender.send_request(request, body.is_end());
        let (answer, stream) = sent.map_err(|e| failed(Failure::Broken(e.to_string())))?;
        let mut source = Source::Two { response: answer, body: None };
        let repeatable = self.x.request.is_idempotent() && body.is_end();
        if body.is_end() {
            self.receive(&mut source, response, reply, &mut None, repeatable).await?;
            if self.wants_another(response, repeatable) {
                return Err(failed(Failure::Broken(format!("status {}", response.status))));
            }
            let delivered = self.deliver(source, response, reply, &mut None, purpose).await;
            return finish_two(delivered, purpose);
        }
        let mut body_out = BodyOut::Two { stream: Some(stream) };
        let mut done = pin!(self.upload(body, &mut body_out));
        let mut upload: Upload<'_> = Some(done.as_mut());
        self.receive(&mut source, response, reply, &mut upload, false).await?;
        let delivered = self.deliver(source, response, reply, &mut upload, purpose).await;
        finish_two(delivered, purpose)
    }

    /// Passes the request's body on, within the limits of its listener.
    fn upload<'b>(
        &'b self,
        body: &'b mut BodyIn<'_>,
        body_out: &'b mut BodyOut<'_>,
    ) -> impl Future<Output = Result<(), PumpError>> + 'b {
        let limit = self.x.listener.config.limits.body_bytes.map_or(u64::MAX, |limit| limit.0);
        let patience = self.x.listener.config.limits.idle_body_timeout.0;
        let (deadline, tally) = (self.x.deadline, self.x.tally);
        // From now on, not only once it is polled: the response may be awaited first.
        deadline.set(patience);
        async move {
            let result = pump(body, body_out, |data| {
                deadline.set(patience);
                tally.copy(data);
                if tally.add_in(data.len() as u64) > limit { Err(BodyError::TooLarge) } else { Ok(()) }
            })
            .await;
            // The endpoint's time begins when it has been told all, however long that took to come.
            self.set_deadline(self.end.map(|_| about_now() + self.route.config.timeout.0));
            result
        }
    }

    /// By when the response must begin.
    fn set_deadline(&self, end: Option<Instant>) {
        let far = || about_now() + std::time::Duration::from_secs(7 * 86_400);
        let mut at = end.unwrap_or_else(far);
        if let Some(attempt) = self.route.config.retry.attempt_timeout.filter(|_| self.again) {
            at = at.min(about_now() + attempt.0);
        }
        self.x.deadline.set_at(at);
    }

    fn wants_another(&self, response: &Response, repeatable: bool) -> bool {
        self.again && repeatable && self.route.config.retry.statuses.contains(&response.status)
    }

    /// Waits for the response's head, while the request's body goes on. Interim ones are passed on. Ends early when the
    /// client lets its stream go.
    async fn receive(
        &self,
        source: &mut Source<'_>,
        response: &mut Response,
        reply: &mut Reply<'_>,
        upload: &mut Upload<'_>,
        repeatable: bool,
    ) -> Result<(), Attempted> {
        let to_head = self.x.request.method() == b"HEAD";
        let switching = self.x.request.upgrade;
        loop {
            let waited = {
                let mut head = pin!(read_head(source, response, to_head, switching));
                let both = std::future::poll_fn(|cx| {
                    if let Some(future) = upload.as_mut()
                        && let Poll::Ready(result) = future.as_mut().poll(cx)
                    {
                        *upload = None;
                        // What the endpoint does not want to read it may still answer.
                        if let Err(PumpError::From(error)) = result {
                            return Poll::Ready(Err(client_failure(&error)));
                        }
                    }
                    match head.as_mut().poll(cx) {
                        Poll::Pending if reply.is_gone(cx) => Poll::Ready(Err(Failure::Client(0, "the client left"))),
                        polled => polled.map_err(Failure::Broken),
                    }
                });
                self.x.deadline.guard(both).await
            };
            match waited {
                Ok(Ok(Head::Final)) => return Ok(()),
                Ok(Ok(Head::Interim)) => {
                    let sent = self.x.deadline.guard(reply.interim(response)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return Err(Attempted { failure: Failure::Client(0, "the client left"), repeatable: false });
                    }
                }
                Ok(Err(failure)) => return Err(Attempted { failure, repeatable }),
                Err(_) if upload.is_some() => {
                    let failure = Failure::Client(408, "the request body stalled");
                    return Err(Attempted { failure, repeatable: false });
                }
                Err(_) => return Err(Attempted { failure: Failure::Timeout, repeatable }),
            }
        }
    }
}

fn finish_two(delivered: Result<Delivered, Failure>, purpose: &Purpose<'_>) -> Result<Served, Attempted> {
    match delivered {
        Ok(_) if purpose.swallowed() => Ok(Served::Swallowed),
        Ok(Delivered { clean, .. }) => Ok(Served::Answered { clean }),
        Err(failure) => Err(Attempted { failure, repeatable: false }),
    }
}

fn client_failure(error: &BodyError) -> Failure {
    match error {
        BodyError::TooLarge => Failure::Client(413, "the request body is larger than allowed"),
        BodyError::Broken(_) => Failure::Client(400, "the request body is broken"),
        BodyError::Io(_) | BodyError::Stream(_) => Failure::Client(0, "the client left"),
    }
}

/// For copies of requests that a mirror gets later.
pub(super) fn deadline() -> Deadline {
    Deadline::new(std::time::Duration::from_secs(60))
}
