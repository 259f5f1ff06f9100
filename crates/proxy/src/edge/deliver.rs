//! A response passed on to the client, while the rest of the request may still be under way.

use std::pin::pin;

use super::exchange::Purpose;
use super::reply::{Extra, Reply};
use super::upstream::{Failure, Job, Source, Upload};
use crate::http1::Response;
use crate::io::{BodyIn, BodyOut, PumpError, pump};

/// What became of it.
pub(super) struct Delivered {
    /// The request was read to its end.
    pub(super) clean: bool,
    /// The connection to the endpoint can carry another.
    pub(super) reusable: bool,
}

impl Job<'_> {
    /// Passes a response on.
    pub(super) async fn deliver(
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
        self.x.tally.tell(&response.fields, &response.text, &mut extra);
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
