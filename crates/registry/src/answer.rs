//! Answers that are no errors.

use std::io;

use bytes::Bytes;
use engine::content::Digest;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
    response::Builder,
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Says which blob or manifest it is about.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Bytes in memory as a body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer whose headers are all known to be fine.
pub(crate) fn finish(builder: Builder, body: Body) -> Response<Body> {
    builder.body(body).expect("headers come from checked names, digests and numbers")
}

/// A document.
pub(crate) fn json(value: &serde_json::Value, content_type: &'static str) -> Document {
    Document { bytes: value.to_string(), builder: Response::builder().header(CONTENT_TYPE, content_type) }
}

/// A document whose headers may still change.
pub(crate) struct Document {
    bytes: String,
    builder: Builder,
}

impl Document {
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub fn done(self) -> Response<Body> {
        let builder = self.builder.header(CONTENT_LENGTH, self.bytes.len());
        finish(builder, full(self.bytes))
    }
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Builder {
    Response::builder().status(status).header(CONTENT_LENGTH, 0)
}

/// Something was made.
pub(crate) fn created(location: &str, digest: &Digest) -> Builder {
    empty(StatusCode::CREATED).header(LOCATION, location).header(CONTENT_DIGEST, digest.as_str())
}
