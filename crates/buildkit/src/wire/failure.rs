//! Failures as statuses, with the place in the Dockerfile (`errdefs.Source`), which clients show.

use base64::Engine as _;
use grpc::{Fields, Status};
use serde_json::json;

/// BuildKit's name for the detail, and its encoding.
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// Lines of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub file: String,
    pub text: String,
    /// The first and the last line, from 1.
    pub lines: (usize, usize),
}

/// A failure at a place, if it has one.
pub(crate) fn failure(code: u32, message: impl Into<String>, place: Option<&Place>) -> Status {
    let status = Status::new(code, message);
    let Some(place) = place else { return status };
    // Statuses travel in a header, which has its limits; an excerpt of a text without end helps nobody.
    if place.text.len() > 64 << 10 {
        return status;
    }
    let data = base64::engine::general_purpose::STANDARD.encode(&place.text);
    let detail = json!({
        "info": {"filename": place.file, "data": data, "language": "Dockerfile"},
        "ranges": [{"start": {"line": place.lines.0}, "end": {"line": place.lines.1}}],
    });
    status.with_detail(SOURCE, detail.to_string().as_bytes())
}

/// An encoded `google.rpc.Status`.
pub(crate) fn status_of(message: &[u8]) -> Status {
    let fields = Fields::read(message);
    let mut status = Status::new(fields.number(1) as u32, fields.text(2));
    if fields.all(3).next().is_some() {
        status.details = message.to_vec();
    }
    status
}
