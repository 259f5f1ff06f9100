//! HTTP/1.1 framing (RFC 9112), strict: what two readers could read differently is refused, never repaired.

pub mod body;
pub mod head;

pub use body::{Chunked, Step};
pub use head::{Broken, Field, Framing, Known, Request, Response, Span, parse_request, parse_response};
