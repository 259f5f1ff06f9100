//! Answers that come of the proxy itself rather than of an endpoint.

use super::exchange::Exchange;
use super::reply::{Extra, Reply};
use super::upstream::{Failure, Served};
use crate::http1::{Framing, Response};
use crate::io::BodyError;
use crate::site::Route;

/// An answer of the proxy's own.
pub(super) async fn answer(
    x: &Exchange<'_>,
    reply: &mut Reply<'_>,
    status: u16,
    why: &str,
    fields: &[(&'static str, Vec<u8>)],
) -> Result<Served, Failure> {
    x.tally.status.set(status);
    x.deadline.set(x.listener.config.limits.idle_body_timeout.0);
    if x.request.framing != Framing::None {
        reply.close();
    }
    let mut fields = fields.to_vec();
    x.tally.tell_origins(&mut fields);
    sent(x, reply.error(status, why, &fields)).await
}

/// An answer with fields and a body of its own.
pub(super) async fn own(
    x: &Exchange<'_>,
    reply: &mut Reply<'_>,
    status: u16,
    mut fields: Vec<(&'static str, Vec<u8>)>,
    body: &[u8],
    route: &Route,
) -> Result<Served, Failure> {
    x.tally.tell(&[], b"", &mut fields);
    x.tally.status.set(status);
    x.tally.bytes_out.set(body.len() as u64);
    x.deadline.set(x.listener.config.limits.idle_body_timeout.0);
    if x.request.framing != Framing::None {
        reply.close();
    }
    sent(x, reply.own(status, &fields, body, &route.response_edits)).await
}

/// The answer that a route is configured to give.
pub(super) async fn respond(
    x: &Exchange<'_>,
    reply: &mut Reply<'_>,
    fixed: &crate::config::Respond,
    route: &Route,
) -> Result<Served, Failure> {
    x.tally.status.set(fixed.status);
    x.tally.bytes_out.set(fixed.body.len() as u64);
    x.deadline.set(x.listener.config.limits.idle_body_timeout.0);
    if x.request.framing != Framing::None {
        reply.close();
    }
    let mut head = Response::default();
    for header in &fixed.headers {
        head.push_field(header.name.as_bytes(), header.value.as_bytes());
    }
    if head.header("content-type").is_none() && !fixed.body.is_empty() {
        head.push_field(b"content-type", b"text/plain; charset=utf-8");
    }
    head.status = fixed.status;
    head.framing =
        if matches!(fixed.status, 204 | 304) { Framing::None } else { Framing::Length(fixed.body.len() as u64) };
    let mut fields = Vec::new();
    x.tally.tell(&head.fields, &head.text, &mut fields);
    let whole = async {
        let mut out = reply.head(&head, &route.response_edits, &Extra { fields: &fields, instead: None })?;
        out.write(fixed.body.as_bytes()).await?;
        out.end(&Default::default()).await
    };
    sent(x, whole).await
}

/// Sends an answer, as long as its client takes some of it in time.
pub(super) async fn sent(
    x: &Exchange<'_>,
    answer: impl Future<Output = Result<(), BodyError>>,
) -> Result<Served, Failure> {
    match x.deadline.guard(answer).await {
        Ok(Ok(())) => Ok(Served::Answered { clean: true }),
        _ => Err(Failure::Client(0, "the client left")),
    }
}
