//! Answers.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::Value;

use crate::error::ApiError;

/// A body: whole or streamed.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub(crate) type Response = http::Response<Body>;

fn whole(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response {
    let body = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// A JSON document.
pub(crate) fn json(value: &impl Serialize) -> Response {
    json_with(StatusCode::OK, value)
}

/// A JSON document about something new.
pub(crate) fn created(value: &impl Serialize) -> Response {
    json_with(StatusCode::CREATED, value)
}

fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec(value).expect("answers are maps with text keys");
    text.push(b'\n');
    whole(status, "application/json", text)
}

/// Plain text.
pub(crate) fn plain(text: impl Into<Bytes>) -> Response {
    whole(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// A refusal where a stream was to begin.
pub(crate) fn raw(status: StatusCode, text: String) -> Response {
    whole(status, "application/vnd.docker.raw-stream", text)
}

/// Done, nothing to say.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = whole(status, "text/plain", Bytes::new());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

/// Bytes as they come.
pub(crate) fn streamed(kind: &'static str, stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    let mut response = http::Response::new(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// One JSON document a line, as they come.
pub(crate) fn json_stream(stream: impl Stream<Item = Value> + Send + 'static) -> Response {
    streamed("application/json", stream.map(|value| Ok(Bytes::from(format!("{value}\r\n")))))
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Self {
        if error.status == StatusCode::NOT_MODIFIED {
            return empty(error.status);
        }
        json_with(error.status, &serde_json::json!({"message": error.message}))
    }
}
