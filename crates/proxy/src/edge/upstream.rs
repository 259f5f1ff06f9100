//! One request carried to an endpoint, and its response back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use tokio::time::Instant;

use super::exchange::{Exchange, Purpose};
use super::forwarded;
use super::reply::{Extra, Reply, itoa};
use crate::config::{Balance, HttpVersion};
use crate::http1::{Framing, Known, Response, parse_response};
use crate::io::{BodyError, BodyIn, BodyOut, Deadline, PumpError, Stream, give, pump, take};
use crate::pool::{ConnectError, Idle, Lease, Pool, Wish, reuse, shelve};
use crate::site::{Route, Sink, Target, key_of, write_edited};

/// Bodies up to this size that are here as a whole are sent with the head, and can be sent again.
pub(super) const WHOLE: usize = 64 << 10;
/// Response heads.
const HEAD: usize = 64 << 10;

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
    let end = (!route.config.timeout.0.is_zero()).then(|| Instant::now() + route.config.timeout.0);
    let mut last = Failure::NoEndpoint;
    for attempt in 0..=route.config.retry.attempts {
        let wish = Wish { point, sticky: sticky.flatten(), tried: &tried };
        let lease = match pool.choose(&wish) {
            Some(lease) => lease,
            // Where no other is left, the same may be tried again.
            None if !tried.is_empty() => match pool.choose(&Wish { tried: &[], ..wish }) {
                Some(lease) => lease,
                None => return Err(last),
            },
            None => return Err(last),
        };
        if attempt > 0 {
            pool.retries.fetch_add(1, Ordering::Relaxed);
        }
        let again = attempt < route.config.retry.attempts;
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
                last = failure;
            }
        }
    }
    Err(last)
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
struct Job<'a> {
    x: &'a Exchange<'a>,
    route: &'a Route,
    prefix: &'a str,
    target: &'a Target,
    lease: &'a Lease,
    /// Another attempt would be made.
    again: bool,
    end: Option<Instant>,
    /// The client is to be told which endpoint it sticks to.
    sticky: bool,
}

struct Attempted {
    failure: Failure,
    /// Nothing was sent, or what was sent may be sent again.
    repeatable: bool,
}

/// What a response is read from.
enum Source<'a> {
    One { stream: &'a Stream, input: &'a mut crate::io::Input },
    Two { response: ResponseFuture, body: Option<RecvStream> },
}

type Upload<'a> = Option<Pin<&'a mut dyn Future<Output = Result<(), PumpError>>>>;

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
            self.set_deadline();
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
        self.set_deadline();
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
            self.set_deadline();
            result
        }
    }

    /// By when the response must begin.
    fn set_deadline(&self) {
        let far = Instant::now() + std::time::Duration::from_secs(7 * 86_400);
        let mut at = self.end.unwrap_or(far);
        if let Some(attempt) = self.route.config.retry.attempt_timeout.filter(|_| self.again) {
            at = at.min(Instant::now() + attempt.0);
        }
        self.x.deadline.set_at(at);
    }

    fn wants_another(&self, response: &Response, repeatable: bool) -> bool {
        self.again && repeatable && self.route.config.retry.statuses.contains(&response.status)
    }

    /// The request's head as HTTP/1.1.
    fn write_request(&self, out: &mut Vec<u8>, purpose: &Purpose<'_>) {
        let request = self.x.request;
        out.extend_from_slice(request.method());
        out.push(b' ');
        match self.route.rewritten(request, self.prefix) {
            Some(target) => out.extend_from_slice(&target),
            None => {
                // A target without a path, `http://host?query`, has one here.
                if !matches!(request.target().first(), Some(b'/' | b'*')) {
                    out.push(b'/');
                }
                out.extend_from_slice(request.target());
            }
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.field(b"host", self.host());
        self.write_fields(out, purpose, false);
        match request.framing {
            Framing::Length(length) => out.field(b"content-length", itoa(length, &mut [0; 20])),
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            _ => {}
        }
        if request.upgrade
            && let Some(protocol) = request.known(Known::Upgrade)
        {
            out.extend_from_slice(b"connection: upgrade\r\n");
            out.field(b"upgrade", protocol);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The request's head for HTTP/2.
    fn request_two(&self, purpose: &Purpose<'_>) -> Result<http::Request<()>, &'static str> {
        let request = self.x.request;
        let target = self.route.rewritten(request, self.prefix).unwrap_or_else(|| request.target().to_vec());
        let target: &[u8] = if target.is_empty() { b"/" } else { &target };
        let scheme = if self.target.pool.connector.is_tls() { "https" } else { "http" };
        let uri = http::Uri::builder().scheme(scheme).authority(self.host()).path_and_query(target).build();
        let mut made = http::Request::new(());
        *made.uri_mut() = uri.map_err(|_| "host and path make no address")?;
        *made.method_mut() = http::Method::from_bytes(request.method()).map_err(|_| "the method is none")?;
        *made.version_mut() = http::Version::HTTP_2;
        let headers = made.headers_mut();
        self.write_fields(headers, purpose, true);
        if let Framing::Length(length) = request.framing {
            headers.field(b"content-length", itoa(length, &mut [0; 20]));
        }
        if request
            .fields
            .iter()
            .any(|f| f.known == Known::Te && f.value.of(&request.text).eq_ignore_ascii_case(b"trailers"))
        {
            headers.field(b"te", b"trailers");
        }
        Ok(made)
    }

    fn host(&self) -> &[u8] {
        let rewritten = self
            .route
            .config
            .filters
            .rewrite
            .as_ref()
            .and_then(|r| r.host.as_deref())
            .or_else(|| self.target.request_edits.sets("host"));
        match rewritten {
            Some(host) => host.as_bytes(),
            // HTTP/1.0 needs none.
            None if self.route.config.preserve_host && !self.x.request.host.is_empty() => {
                self.x.request.host.of(&self.x.request.text)
            }
            None => self.lease.endpoint.authority.as_bytes(),
        }
    }

    fn write_fields(&self, sink: &mut impl Sink, purpose: &Purpose<'_>, two: bool) {
        let request = self.x.request;
        let edits = &self.target.request_edits;
        write_edited(sink, &request.text, &request.fields, edits, |field| {
            matches!(field.known, Known::Host | Known::ContentLength | Known::TraceParent)
                || (two && field.known == Known::Expect)
                || forwarded::is_one(field.known)
                || purpose.hides(field.name.of(&request.text))
        });
        for (name, value) in purpose.request_fields() {
            sink.field(name.as_bytes(), value);
        }
        forwarded::write(sink, self.x.conn, self.x.listener, request, self.x.client);
        sink.field(b"traceparent", self.x.trace().to_string().as_bytes());
    }

    /// Waits for the response's head, while the request's body goes on.
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
        let waited = {
            let mut head = pin!(read_head(source, response, reply, to_head, switching));
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
                head.as_mut().poll(cx).map_err(Failure::Broken)
            });
            self.x.deadline.guard(both).await
        };
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(Attempted { failure, repeatable }),
            Err(_) if upload.is_some() => {
                Err(Attempted { failure: Failure::Client(408, "the request body stalled"), repeatable: false })
            }
            Err(_) => Err(Attempted { failure: Failure::Timeout, repeatable }),
        }
    }

    /// Passes a response on.
    async fn deliver(
        &self,
        source: Source<'_>,
        response: &mut Response,
        reply: &mut Reply<'_>,
        upload: &mut Upload<'_>,
        purpose: &mut Purpose<'_>,
    ) -> Result<Delivered, Failure> {
        let endpoint = &self.lease.endpoint;
        if matches!(response.status, 502..=504) {
            self.target.pool.failed(endpoint);
        } else {
            endpoint.succeeded();
        }
        self.x.tally.status.set(response.status);
        let swallow = purpose.head(response, self.x);
        if upload.is_some() {
            // The rest of the request may never be read: the connection cannot be trusted to begin another.
            if matches!(reply, Reply::One { .. }) && response.status >= 300 {
                reply.close();
            }
        }
        let mut extra = purpose.response_fields();
        if self.sticky
            && let Some(sticky) = &self.target.pool.config.sticky
        {
            let mut cookie =
                format!("{}={:016x}; Path={}; HttpOnly; SameSite=Lax", sticky.cookie, endpoint.digest, sticky.path);
            if let Some(age) = sticky.max_age {
                cookie.push_str(&format!("; Max-Age={}", age.0.as_secs()));
            }
            if self.x.conn.tls {
                cookie.push_str("; Secure");
            }
            extra.push(("set-cookie", cookie.into_bytes()));
        }
        let patience = self.x.listener.config.limits.idle_body_timeout.0;
        let off = |reason: String| Failure::BrokenOff(reason);
        let mut out = if swallow {
            BodyOut::Discard
        } else {
            let extra = Extra { fields: &extra, instead: purpose.replaces() };
            reply.head(response, &self.target.response_edits, &extra).map_err(|e| off(e.to_string()))?
        };
        let mut kept;
        let mut incoming = match source {
            Source::One { stream, input } => BodyIn::one(response.framing, stream, input),
            Source::Two { body, .. } => {
                kept = body;
                kept.as_mut().map_or(BodyIn::End, BodyIn::two)
            }
        };
        let (deadline, tally) = (self.x.deadline, self.x.tally);
        deadline.set(patience);
        let result = {
            let mut download = pin!(pump(&mut incoming, &mut out, |data| {
                deadline.set(patience);
                tally.bytes_out.set(tally.bytes_out.get() + data.len() as u64);
                purpose.data(data);
                Ok(())
            }));
            let both = std::future::poll_fn(|cx| {
                if let Some(future) = upload.as_mut()
                    && future.as_mut().poll(cx).is_ready()
                {
                    *upload = None;
                }
                download.as_mut().poll(cx)
            });
            deadline.guard(both).await
        };
        purpose.end(matches!(result, Ok(Ok(()))));
        match result {
            Ok(Ok(())) => Ok(Delivered { clean: upload.is_none(), reusable: upload.is_none() }),
            Ok(Err(PumpError::From(error))) => {
                self.target.pool.failed(endpoint);
                Err(off(error.to_string()))
            }
            Ok(Err(PumpError::To(error))) => {
                Err(Failure::Client(0, if error.to_string().is_empty() { "left" } else { "the client left" }))
            }
            Err(_) => Err(off("nothing moved for too long".into())),
        }
    }
}

struct Delivered {
    clean: bool,
    reusable: bool,
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

/// Reads a response's head; interim ones are passed on.
async fn read_head(
    source: &mut Source<'_>,
    response: &mut Response,
    reply: &mut Reply<'_>,
    to_head: bool,
    switching: bool,
) -> Result<(), String> {
    match source {
        Source::One { stream, input } => loop {
            response.clear();
            if input.rest().is_empty() {
                if response.text.capacity() == 0 {
                    response.text = take();
                }
            } else {
                input.move_into(&mut response.text);
            }
            let length = loop {
                if !response.text.is_empty()
                    && let Some(length) = parse_response(response, to_head, HEAD).map_err(|e| e.to_string())?
                {
                    break length;
                }
                if response.text.len() == response.text.capacity() {
                    response.text.reserve(8 << 10);
                }
                if stream.read(&mut response.text).await.map_err(|e| e.to_string())? == 0 {
                    return Err("the connection ended before the response's head did".into());
                }
            };
            input.put_back(&response.text[length..]);
            response.text.truncate(length);
            match response.status {
                101 if switching => return Ok(()),
                101 => return Err("it switches protocols unasked".into()),
                100..=199 => reply.interim(response).await.map_err(|e| e.to_string())?,
                _ => return Ok(()),
            }
        },
        Source::Two { response: answer, body } => {
            let (head, stream) = answer.await.map_err(|e| e.to_string())?.into_parts();
            response.clear();
            response.status = head.status.as_u16();
            response.version = 20;
            response.keep_alive = true;
            let mut length = None;
            for (name, value) in &head.headers {
                response.push_field(name.as_str().as_bytes(), value.as_bytes());
                if name == http::header::CONTENT_LENGTH {
                    length = value.to_str().ok().and_then(|v| v.parse().ok());
                }
            }
            response.framing = match length {
                _ if to_head || matches!(response.status, 204 | 304) => Framing::None,
                Some(length) => Framing::Length(length),
                None if stream.is_end_stream() => Framing::Length(0),
                None => Framing::Chunked,
            };
            *body = Some(stream);
            Ok(())
        }
    }
}

thread_local! {
    static SENDERS: RefCell<HashMap<(u64, u64), SendRequest<Bytes>>> = RefCell::new(HashMap::new());
}

/// This thread's HTTP/2 connection to an endpoint.
async fn connection(pool: &Arc<Pool>, lease: &Lease, x: &Exchange<'_>) -> Result<SendRequest<Bytes>, ConnectError> {
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

/// For copies of requests that a mirror gets later.
pub(super) fn deadline() -> Deadline {
    Deadline::new(std::time::Duration::from_secs(60))
}
