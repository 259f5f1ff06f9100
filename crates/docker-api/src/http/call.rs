//! One request, taken apart.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Socket, Version, loose};
use crate::error::{ApiError, Result};
use crate::filters::Filters;

/// More than this of JSON is refused.
const MAX_JSON: usize = 4 << 20;
/// Pieces of a body that wait to be written.
const PIECES: usize = 32;
/// How long a client may take to send what nobody reads, and how much that may be.
const MAX_DRAIN: Duration = Duration::from_secs(5);
const MAX_DRAINED: usize = 1 << 30;

/// A request.
pub(crate) struct Call {
    pub version: Version,
    /// Values of the path's `{names}`.
    pub params: BTreeMap<&'static str, String>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Option<Incoming>,
    /// Present when the client asked to leave HTTP.
    pub upgrade: Option<OnUpgrade>,
    /// Its connection's.
    pub socket: Option<Socket>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            drain(body);
        }
    }
}

/// A client that is answered before it has sent all would see a broken pipe instead of the answer: what nobody wants
/// to read is read and thrown away, within limits.
pub(super) fn drain(body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    let mut body = Limited::new(body, MAX_DRAINED);
    tokio::spawn(tokio::time::timeout(MAX_DRAIN, async move { while let Some(Ok(_)) = body.frame().await {} }));
}

impl Call {
    /// A value of the path; routes name those they have.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// The first value of a query's key, unless empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a query's key.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Docker's idea of true: anything but nothing, 0, no, false and none.
    pub fn flag(&self, name: &str) -> bool {
        self.query(name)
            .is_some_and(|text| !matches!(text.to_ascii_lowercase().trim(), "" | "0" | "no" | "false" | "none"))
    }

    /// A flag that is on unless switched off.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.query(name).is_none() { default } else { self.flag(name) }
    }

    /// A number of the query.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.query(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| ApiError::bad(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
    }

    /// The `filters` query.
    pub fn filters(&self) -> Result<Filters> {
        Filters::parse(self.query("filters"))
    }

    /// The whole body, if it is not too much for JSON.
    pub async fn bytes(&mut self) -> Result<Bytes> {
        let Some(body) = self.body.take() else { return Ok(Bytes::new()) };
        match Limited::new(body, MAX_JSON).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(ApiError::bad(format!("read the request: {error}"))),
        }
    }

    /// Refuses a body that is said to be something else, or of which nothing is said.
    fn must_be_json(&self) -> Result<()> {
        let kind = self.headers.get(header::CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()));
        let essence = kind.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match essence {
            "" if self.body.as_ref().is_none_or(Body::is_end_stream) => Ok(()),
            "" => Err(ApiError::bad("malformed Content-Type header (): mime: no media type")),
            kind if kind.eq_ignore_ascii_case("application/json") => Ok(()),
            kind => Err(ApiError::bad(format!("unsupported Content-Type header ({kind}): must be 'application/json'"))),
        }
    }

    /// The body as JSON; `null`s count as absent, as they do in Go.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.must_be_json()?;
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Err(ApiError::bad("invalid JSON: got EOF while reading request body"));
        }
        parse(&bytes)
    }

    /// The body as JSON that is two things at once, whose fields stand side by side.
    pub async fn json_twice<A: DeserializeOwned, B: DeserializeOwned>(&mut self) -> Result<(A, B)> {
        let value: Value = self.json().await?;
        Ok((loose::read(value.clone())?, loose::read(value)?))
    }

    /// The body as JSON, or the default when there is none.
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        self.must_be_json()?;
        let bytes = self.bytes().await?;
        if bytes.is_empty() { Ok(T::default()) } else { parse(&bytes) }
    }

    /// The body into a file of `directory` that goes with the handle.
    pub async fn spool(&mut self, directory: &Path) -> Result<tempfile::NamedTempFile> {
        self.pour(tempfile::NamedTempFile::new_in(directory)?).await
    }

    /// The body into a writer, which may block.
    pub async fn pour<W: io::Write + Send + 'static>(&mut self, mut writer: W) -> Result<W> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(PIECES);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(bytes) = receiver.blocking_recv() {
                writer.write_all(&bytes)?;
            }
            writer.flush()?;
            Ok::<_, io::Error>(writer)
        });
        // It stays in the call: what is not read because of a full disk is drained when that goes.
        if let Some(body) = &mut self.body {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(io::Error::other)?;
                if let Ok(data) = frame.into_data()
                    && sender.send(data).await.is_err()
                {
                    break;
                }
            }
        }
        drop(sender);
        Ok(writing.await.map_err(io::Error::other)??)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let mut value = documents.next().unwrap_or(Ok(Value::Null)).map_err(|error| wrong(bytes, &error))?;
    if !bytes[documents.byte_offset()..].iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::bad("unexpected content after JSON"));
    }
    drop_nulls(&mut value);
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    Ok(loose::read(value)?)
}

/// What is wrong with a document, in the words of Go's decoder where it is a character in the wrong place.
fn wrong(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    if error.is_eof() {
        return ApiError::bad("invalid JSON: unexpected EOF");
    }
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = error.column().saturating_sub(1).min(line.len());
    let Some(found) = line.get(at) else { return ApiError::bad(format!("invalid JSON: {error}")) };
    let before = line[..at].iter().rev().find(|byte| !byte.is_ascii_whitespace());
    let what = match before {
        Some(b'{') => "looking for beginning of object key string",
        Some(b'"') => "after object key",
        Some(b':' | b'[' | b',') | None => "looking for beginning of value",
        Some(_) => "in literal or after a value",
    };
    ApiError::bad(format!("invalid JSON: invalid character {:?} {what}", char::from(*found)))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
