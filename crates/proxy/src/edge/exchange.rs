//! A request from its head to the end of its answer: route, limits, filters, cache, endpoint, log.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serving::{Record, TraceContext};
use tokio::time::Instant;

use super::answers::{answer, own, respond};
use super::caching::Change;
use super::connection::Conn;
use super::forwarded;
use super::mirroring::mirror;
use super::reply::Reply;
use super::upstream::{self, Failure, Served, forward};
use crate::cache::Fetch;
use crate::config::Redirect;
use crate::http1::{Field, Framing, Known, Request, Response};
use crate::io::{BodyIn, Deadline};
use crate::limit::Asked;
use crate::pool::{Endpoint, Idle};
use crate::site::{Listener, Route, Site, cors, location};

/// Bodies up to this size are copied for mirrors.
const COPIED: usize = 1 << 20;

/// What one request is served with.
pub(crate) struct Exchange<'a> {
    pub(crate) conn: &'a Rc<Conn>,
    pub(crate) site: &'a Arc<Site>,
    pub(crate) listener: &'a Arc<Listener>,
    pub(crate) deadline: &'a Deadline,
    pub(crate) request: &'a Request,
    pub(crate) client: IpAddr,
    pub(crate) tally: &'a Tally,
    trace: OnceCell<TraceContext>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        (conn, site, listener): (&'a Rc<Conn>, &'a Arc<Site>, &'a Arc<Listener>),
        deadline: &'a Deadline,
        request: &'a Request,
        client: IpAddr,
        tally: &'a Tally,
    ) -> Self {
        Self { conn, site, listener, deadline, request, client, tally, trace: OnceCell::new() }
    }

    pub(crate) fn trace(&self) -> TraceContext {
        *self.trace.get_or_init(|| TraceContext::continued(self.request.known(Known::TraceParent)))
    }
}

/// What is counted of one request.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) status: Cell<u16>,
    pub(crate) bytes_in: Cell<u64>,
    pub(crate) bytes_out: Cell<u64>,
    pub(crate) cached: Cell<bool>,
    /// What the client is told of where it stands with the limits that it has passed.
    standing: RefCell<cors::Fields>,
    /// What its browser is told about pages of other origins.
    cors: RefCell<cors::Fields>,
    upstream: RefCell<Option<Arc<Endpoint>>>,
    error: RefCell<Option<String>>,
    /// What passed of a body that a mirror is to have; `None` if none is, or it became too large.
    copy: RefCell<Option<Vec<u8>>>,
}

impl Tally {
    /// Counts body bytes; returns how many there were by now.
    pub(crate) fn add_in(&self, bytes: u64) -> u64 {
        self.bytes_in.set(self.bytes_in.get() + bytes);
        self.bytes_in.get()
    }

    pub(crate) fn copy(&self, data: &[u8]) {
        let mut copy = self.copy.borrow_mut();
        if let Some(kept) = copy.as_mut() {
            if kept.len() + data.len() > COPIED {
                *copy = None;
            } else {
                kept.extend_from_slice(data);
            }
        }
    }

    /// Adds to the fields of a response what is told of other origins, and where its client stands with limits, unless
    /// it tells of other limits itself.
    pub(crate) fn tell(&self, response: &[Field], text: &[u8], fields: &mut cors::Fields) {
        self.tell_origins(fields);
        let mut standing = self.standing.borrow_mut();
        let names_one = |field: &Field| field.name.of(text).eq_ignore_ascii_case(b"x-ratelimit-limit");
        if !standing.is_empty() && !response.iter().any(names_one) {
            fields.append(&mut standing);
        }
    }

    /// Adds what is told of other origins alone.
    pub(crate) fn tell_origins(&self, fields: &mut cors::Fields) {
        fields.append(&mut self.cors.borrow_mut());
    }

    pub(crate) fn upstream(&self, endpoint: &Arc<Endpoint>) {
        *self.upstream.borrow_mut() = Some(Arc::clone(endpoint));
    }
}

/// What a response is for, beside the client.
pub(crate) enum Purpose<'a> {
    /// Nothing.
    Plain,
    /// A cache.
    Cache(&'a mut Fetch),
    /// A cache that forgets what the request changes.
    Change(&'a Change<'a>),
}

impl Purpose<'_> {
    /// Fields of the request that are not passed on.
    pub(super) fn hides(&self, name: &[u8]) -> bool {
        match self {
            Self::Plain | Self::Change(_) => false,
            Self::Cache(fetch) => fetch.hides(name),
        }
    }

    /// Fields that the request gets.
    pub(super) fn request_fields(&self) -> &[(&'static str, Vec<u8>)] {
        match self {
            Self::Plain | Self::Change(_) => &[],
            Self::Cache(fetch) => fetch.request_fields(),
        }
    }

    /// Sees a response's head. Returns whether it is not for the client.
    pub(super) fn head(&mut self, response: &Response, x: &Exchange<'_>) -> bool {
        match self {
            Self::Plain => false,
            Self::Cache(fetch) => fetch.head(response, x.request),
            Self::Change(change) => {
                change.head(response);
                false
            }
        }
    }

    pub(super) fn data(&mut self, data: &[u8]) {
        if let Self::Cache(fetch) = self {
            fetch.data(data);
        }
    }

    pub(super) fn end(&mut self, complete: bool) {
        if let Self::Cache(fetch) = self {
            fetch.end(complete);
        }
    }

    /// Fields that the response gets.
    pub(super) fn response_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        match self {
            Self::Plain | Self::Change(_) => Vec::new(),
            Self::Cache(fetch) => fetch.response_fields(),
        }
    }

    /// A field of the response that these replace.
    pub(super) fn replaces(&self) -> Option<&'static str> {
        None
    }

    pub(super) fn swallowed(&self) -> bool {
        match self {
            Self::Plain | Self::Change(_) => false,
            Self::Cache(fetch) => fetch.swallowed(),
        }
    }
}

/// What the connection does next.
pub(crate) enum Next {
    /// Another request.
    KeepAlive,
    /// It closes.
    Close,
    /// The answer broke off: the client must see that it is not whole.
    Broken,
    /// It is a tunnel from now on.
    Tunnel(Idle, Arc<Listener>),
}

/// Serves one request.
pub(crate) async fn serve(
    conn: &Rc<Conn>,
    site: &Arc<Site>,
    listener: &Arc<Listener>,
    deadline: &Deadline,
    request: &Request,
    mut body: BodyIn<'_>,
    mut reply: Reply<'_>,
) -> Next {
    let started = Instant::now();
    let tally = Tally::default();
    let client = forwarded::client(conn, listener, request);
    let x = Exchange::new((conn, site, listener), deadline, request, client, &tally);
    let found = listener.find(request);
    let result = match &found {
        None => answer(&x, &mut reply, 404, "no route fits", &[]).await,
        Some(found) => route(&x, found.route, found.prefix, &mut body, &mut reply, started).await,
    };
    let next = match result {
        Ok(Served::Switched(idle)) => Next::Tunnel(idle, Arc::clone(listener)),
        Ok(Served::Answered { clean }) if clean && body.is_end() && reply.keeps_alive() => Next::KeepAlive,
        Ok(_) => Next::Close,
        Err(failure) => {
            tally.status.set(failure.status());
            *tally.error.borrow_mut() = Some(failure.to_string());
            if reply.started() || failure.status() == 0 {
                Next::Broken
            } else {
                if !body.is_end() {
                    reply.close();
                }
                deadline.set(Duration::from_secs(10));
                let why = match &failure {
                    // What is wrong inside is told in the log, not to the client.
                    Failure::Broken(_) | Failure::Connect(_) => "the endpoint gave no good answer".to_owned(),
                    other => other.to_string(),
                };
                let sent = deadline.guard(reply.error(failure.status(), &why, &[])).await;
                if matches!(sent, Ok(Ok(()))) && body.is_end() && reply.keeps_alive() {
                    Next::KeepAlive
                } else {
                    Next::Close
                }
            }
        }
    };
    finish(&x, found.as_ref().map(|f| f.route), started);
    next
}

/// Counts and logs.
fn finish(x: &Exchange<'_>, route: Option<&Arc<Route>>, started: Instant) {
    let (tally, took) = (x.tally, started.elapsed());
    match route {
        Some(route) => route.metrics.count(tally.status.get(), tally.bytes_in.get(), tally.bytes_out.get(), took),
        None => {
            x.listener.metrics.bad_requests.fetch_add(1, Ordering::Relaxed);
        }
    }
    let log = &x.conn.worker.shared.log;
    if log.is_on() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let upstream = if tally.cached.get() {
            "cache".to_owned()
        } else {
            tally.upstream.borrow().as_ref().map(|e| e.address.to_string()).unwrap_or_default()
        };
        log.write(Record {
            protocol: match x.request.version {
                10 => "http/1.0",
                11 => "http/1.1",
                _ => "h2",
            },
            client: x.client.to_string(),
            method: text(x.request.method()),
            host: text(x.request.host.of(&x.request.text)),
            path: text(x.request.target()),
            status: (tally.status.get() > 0).then(|| tally.status.get()),
            bytes_in: tally.bytes_in.get(),
            bytes_out: tally.bytes_out.get(),
            duration_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
            upstream,
            trace_id: x.trace().trace_id(),
            error: tally.error.borrow_mut().take().unwrap_or_default(),
            ..Record::default()
        });
    }
}

async fn route(
    x: &Exchange<'_>,
    route: &Arc<Route>,
    prefix: &str,
    body: &mut BodyIn<'_>,
    reply: &mut Reply<'_>,
    started: Instant,
) -> Result<Served, Failure> {
    if let (Framing::Length(length), Some(limit)) = (x.request.framing, x.listener.config.limits.body_bytes)
        && length > limit.0
    {
        return answer(x, reply, 413, "the request body is larger than allowed", &[]).await;
    }
    if let Some(sharing) = &route.config.filters.cors {
        match cors::asked(sharing, x.request) {
            cors::Asked::Preflight(fields) => return own(x, reply, 204, fields, b"", route).await,
            cors::Asked::Answer(fields) => *x.tally.cors.borrow_mut() = fields,
        }
    }
    if !route.config.rate_limits.is_empty() {
        let asked = Asked { request: x.request, client: x.client, identity: x.conn.identity.as_deref() };
        let verdict = x.site.limits.ask(&route.config.rate_limits, &asked).await;
        let fields = verdict.standing.map(|standing| standing.fields()).unwrap_or_default();
        if !verdict.allowed {
            return answer(x, reply, 429, "too many requests", &fields).await;
        }
        *x.tally.standing.borrow_mut() = fields;
    }
    let filters = &route.config.filters;
    if let Some(redirect) = &filters.redirect {
        return elsewhere(x, redirect, route, prefix, reply).await;
    }
    if let Some(fixed) = &filters.respond {
        return respond(x, reply, fixed, route).await;
    }
    if route.targets.is_empty() {
        return answer(x, reply, 503, "the route leads nowhere", &[]).await;
    }
    let Some(target) = route.target(x.request, x.client) else {
        return answer(x, reply, 500, "the route has no target with a share", &[]).await;
    };
    if let Some(status) = target.status {
        return answer(x, reply, status, "this backend of the route is not there", &[]).await;
    }
    if let Some(redirect) = &target.redirect {
        return elsewhere(x, redirect, route, prefix, reply).await;
    }
    let mirrors = !route.mirrors.is_empty();
    if mirrors && !body.is_end() {
        let known = body.whole().filter(|whole| whole.len() <= upstream::WHOLE).map(<[u8]>::to_vec);
        *x.tally.copy.borrow_mut() = Some(known.unwrap_or_default());
    }
    let whole = body.whole().is_some();
    let result = match &route.cache {
        Some(cache) => super::caching::through(cache, x, route, prefix, target, body, reply).await,
        None => forward(x, route, prefix, target, body, reply, &mut Purpose::Plain).await,
    };
    if mirrors {
        let production = (result.as_ref().map_or_else(Failure::status, |_| x.tally.status.get()), started.elapsed());
        let copy = x.tally.copy.borrow_mut().take();
        let complete = whole || body.is_end();
        for i in 0..route.mirrors.len() {
            mirror(x, (route, prefix), i, copy.as_deref(), complete, production);
        }
    }
    result
}

/// Answers with a redirect.
async fn elsewhere(
    x: &Exchange<'_>,
    redirect: &Redirect,
    route: &Route,
    prefix: &str,
    reply: &mut Reply<'_>,
) -> Result<Served, Failure> {
    let (status, location) = location(redirect, x.request, prefix, x.conn.tls, x.listener.port());
    own(x, reply, status, vec![("location", location)], b"", route).await
}
