//! Heads between the proxy and an endpoint: the request's as it is passed on, the response's as it is read.

use super::exchange::Purpose;
use super::forwarded;
use super::reply::itoa;
use super::upstream::{HEAD, Job, Source};
use crate::http1::{Framing, Known, Response, parse_response};
use crate::io::take;
use crate::site::{Sink, write_edited};

impl Job<'_> {
    /// The request's head as HTTP/1.1.
    pub(super) fn write_request(&self, out: &mut Vec<u8>, purpose: &Purpose<'_>) {
        let request = self.x.request;
        out.extend_from_slice(request.method());
        out.push(b' ');
        match self.target.rewritten(request, self.prefix) {
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
    pub(super) fn request_two(&self, purpose: &Purpose<'_>) -> Result<http::Request<()>, &'static str> {
        let request = self.x.request;
        let target = self.target.rewritten(request, self.prefix).unwrap_or_else(|| request.target().to_vec());
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
        match self.target.host().or_else(|| self.target.request_edits.sets("host")) {
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
        sink.field(b"traceparent", &self.x.trace().header());
    }
}

/// What kind of head was read.
pub(super) enum Head {
    /// More heads follow it (100, 103).
    Interim,
    /// The response's own.
    Final,
}

/// Reads a response's head.
pub(super) async fn read_head(
    source: &mut Source<'_>,
    response: &mut Response,
    to_head: bool,
    switching: bool,
) -> Result<Head, String> {
    match source {
        Source::One { stream, input } => {
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
                101 if switching => Ok(Head::Final),
                101 => Err("it switches protocols unasked".into()),
                100..=199 => Ok(Head::Interim),
                _ => Ok(Head::Final),
            }
        }
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
            Ok(Head::Final)
        }
    }
}
