//! Answers to a client, over whichever HTTP it speaks.

use std::task::Context;

use bytes::Bytes;
use h2::server::SendResponse;
use http::HeaderMap;

use super::dated;
use crate::http1::{Field, Framing, Known, Response};
use crate::io::{BodyError, BodyOut, Stream};
use crate::site::{Edits, Sink, write_edited};

/// Where an answer goes.
pub(crate) enum Reply<'a> {
    /// Over HTTP/1.
    One {
        stream: &'a Stream,
        /// Gathers what goes out together.
        out: &'a mut Vec<u8>,
        /// The request's version.
        version: u8,
        /// The connection will take another request.
        keep_alive: bool,
        /// The request was HEAD.
        head: bool,
        started: bool,
    },
    /// Over HTTP/2.
    Two { respond: &'a mut SendResponse<Bytes>, head: bool, started: bool },
    /// Nobody is interested: a mirror, a revalidation.
    Nobody,
}

/// What is told beside the fields of a response.
#[derive(Default)]
pub(crate) struct Extra<'a> {
    /// Fields to add.
    pub(crate) fields: &'a [(&'static str, Vec<u8>)],
    /// Name of a field that `fields` replaces.
    pub(crate) instead: Option<&'static str>,
}

impl Reply<'_> {
    /// Whether the head has gone out: from then on a failure can only be shown by breaking off.
    pub(crate) fn started(&self) -> bool {
        match self {
            Self::One { started, .. } | Self::Two { started, .. } => *started,
            Self::Nobody => false,
        }
    }

    /// Whether the connection can take another request after this answer.
    pub(crate) fn keeps_alive(&self) -> bool {
        matches!(self, Self::One { keep_alive: true, .. } | Self::Two { .. })
    }

    /// Whether the client has let its stream go before an answer began. HTTP/1 clients tell so only by closing, which may
    /// as well mean that they have said all.
    pub(crate) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Two { respond, started: false, .. } => respond.poll_reset(cx).is_ready(),
            _ => false,
        }
    }

    /// The connection closes after this answer.
    pub(crate) fn close(&mut self) {
        if let Self::One { keep_alive, .. } = self {
            *keep_alive = false;
        }
    }

    /// Passes an interim response on (100, 103).
    pub(crate) async fn interim(&mut self, response: &Response) -> Result<(), BodyError> {
        if let Self::One { stream, out, version: 11, started: false, .. } = self {
            out.extend_from_slice(format!("HTTP/1.1 {} ", response.status).as_bytes());
            out.extend_from_slice(response.reason.of(&response.text));
            out.extend_from_slice(b"\r\n");
            write_edited(*out, &response.text, &response.fields, &Edits::default(), |_| false);
            out.extend_from_slice(b"\r\n");
            stream.write_all(out, &[]).await?;
            out.clear();
        }
        Ok(())
    }

    /// Writes a response's head, to go out with the first of its body.
    pub(crate) fn head(
        &mut self,
        response: &Response,
        edits: &Edits,
        extra: &Extra<'_>,
    ) -> Result<BodyOut<'_>, BodyError> {
        self.head_of(
            response.status,
            response.reason.of(&response.text),
            &response.text,
            &response.fields,
            response.framing,
            edits,
            extra,
        )
    }

    /// The same from its parts.
    #[allow(clippy::too_many_arguments, reason = "they are the parts of a head")]
    pub(crate) fn head_of(
        &mut self,
        status: u16,
        reason: &[u8],
        text: &[u8],
        fields: &[Field],
        framing: Framing,
        edits: &Edits,
        extra: &Extra<'_>,
    ) -> Result<BodyOut<'_>, BodyError> {
        let replaced = |field: &Field| {
            field.known == Known::ContentLength
                || extra.instead.is_some_and(|name| field.name.of(text).eq_ignore_ascii_case(name.as_bytes()))
        };
        let has_date = status < 200
            || edits.drops(b"date")
            || edits.sets("date").is_some()
            || fields.iter().any(|field| field.known == Known::Date)
            || extra.fields.iter().any(|(name, _)| *name == "date");
        match self {
            Self::Nobody => Ok(BodyOut::Discard),
            Self::One { stream, out, version, keep_alive, head, started } => {
                *started = true;
                push_status(out, status, reason);
                write_edited(*out, text, fields, edits, replaced);
                for (name, value) in extra.fields {
                    out.field(name.as_bytes(), value);
                }
                if !has_date {
                    dated::now(|now| out.field(b"date", now));
                }
                let bodiless = *head || matches!(status, 204 | 304) || status < 200;
                let mut chunked = false;
                match framing {
                    Framing::Length(length) => push_length(out, length),
                    // What HEAD or 304 say about a body that is not there is passed on as it is.
                    Framing::None if bodiless && status != 204 => {
                        if let Some(length) = fields.iter().find(|f| f.known == Known::ContentLength) {
                            out.field(b"content-length", length.value.of(text));
                        }
                    }
                    Framing::None if status >= 200 && status != 204 => push_length(out, 0),
                    Framing::None => {}
                    Framing::Chunked | Framing::UntilClose if *version == 11 => {
                        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                        chunked = true;
                    }
                    Framing::Chunked | Framing::UntilClose => *keep_alive = false,
                }
                if status == 101 {
                    out.extend_from_slice(b"connection: upgrade\r\n");
                    if let Some(protocol) = fields.iter().find(|f| f.known == Known::Upgrade) {
                        out.field(b"upgrade", protocol.value.of(text));
                    }
                } else if !*keep_alive {
                    out.extend_from_slice(b"connection: close\r\n");
                } else if *version == 10 {
                    out.extend_from_slice(b"connection: keep-alive\r\n");
                }
                out.extend_from_slice(b"\r\n");
                Ok(match () {
                    () if bodiless => BodyOut::Nothing { stream, out },
                    () if chunked => BodyOut::Chunked { stream, out },
                    () => BodyOut::Plain { stream, out },
                })
            }
            Self::Two { respond, head, started } => {
                *started = true;
                let mut map = HeaderMap::with_capacity(fields.len() + extra.fields.len() + 1);
                write_edited(&mut map, text, fields, edits, replaced);
                for (name, value) in extra.fields {
                    map.field(name.as_bytes(), value);
                }
                if !has_date {
                    dated::now(|now| map.field(b"date", now));
                }
                if let Framing::Length(length) = framing {
                    map.field(b"content-length", itoa(length, &mut [0; 20]));
                }
                let mut answer = http::Response::new(());
                *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
                *answer.headers_mut() = map;
                let empty = *head || matches!(framing, Framing::None | Framing::Length(0));
                let stream = respond.send_response(answer, empty)?;
                Ok(BodyOut::Two { stream: (!empty).then_some(stream) })
            }
        }
    }

    /// An answer of the proxy's own, whole.
    pub(crate) async fn own(
        &mut self,
        status: u16,
        fields: &[(&'static str, Vec<u8>)],
        body: &[u8],
        edits: &Edits,
    ) -> Result<(), BodyError> {
        let framing = if matches!(status, 204 | 304) { Framing::None } else { Framing::Length(body.len() as u64) };
        let extra = Extra { fields, instead: None };
        let mut out = self.head_of(status, b"", &[], &[], framing, edits, &extra)?;
        if !body.is_empty() {
            out.write(body).await?;
        }
        out.end(&HeaderMap::new()).await
    }

    /// Says why there is no other answer.
    pub(crate) async fn error(
        &mut self,
        status: u16,
        why: &str,
        fields: &[(&'static str, Vec<u8>)],
    ) -> Result<(), BodyError> {
        let mut all = vec![("content-type", b"text/plain; charset=utf-8".to_vec())];
        all.extend(fields.iter().cloned());
        self.own(status, &all, format!("{why}\n").as_bytes(), &Edits::default()).await
    }
}

fn push_status(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa(u64::from(status), &mut [0; 20]));
    out.push(b' ');
    if reason.is_empty() {
        let known = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
        out.extend_from_slice(known.as_bytes());
    } else {
        out.extend_from_slice(reason);
    }
    out.extend_from_slice(b"\r\n");
}

fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa(length, &mut [0; 20]));
    out.extend_from_slice(b"\r\n");
}

/// A number's digits.
pub(crate) fn itoa(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
