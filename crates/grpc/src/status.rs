//! How a call ended (gRPC over HTTP2, "Responses").

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Message;

const DETAILS: &str = "grpc-status-details-bin";

/// A code and words. It reads as Go's gRPC says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", self.name())]
pub struct Status {
    /// gRPC's code; 0 is success.
    pub code: u32,
    /// The other side's words.
    pub message: String,
    /// What programs are told beside: encoded `google.rpc.Status`; mostly empty.
    pub details: Vec<u8>,
}

impl Status {
    /// `OK`
    pub const OK: u32 = 0;
    /// `Canceled`
    pub const CANCELED: u32 = 1;
    /// `Unknown`
    pub const UNKNOWN: u32 = 2;
    /// `InvalidArgument`
    pub const INVALID_ARGUMENT: u32 = 3;
    /// `DeadlineExceeded`
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// `NotFound`
    pub const NOT_FOUND: u32 = 5;
    /// `ResourceExhausted`
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// `FailedPrecondition`
    pub const FAILED_PRECONDITION: u32 = 9;
    /// `Aborted`
    pub const ABORTED: u32 = 10;
    /// `OutOfRange`
    pub const OUT_OF_RANGE: u32 = 11;
    /// `Unimplemented`
    pub const UNIMPLEMENTED: u32 = 12;
    /// `Internal`
    pub const INTERNAL: u32 = 13;
    /// `Unavailable`
    pub const UNAVAILABLE: u32 = 14;

    /// A status.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// With one more detail: its type's URL and its value (`google.protobuf.Any`).
    pub fn with_detail(mut self, kind: &str, value: &[u8]) -> Self {
        if self.details.is_empty() {
            self.details = Message::default().number(1, u64::from(self.code)).text(2, &self.message).0;
        }
        let any = Message::default().text(1, kind).data(2, value);
        self.details.extend(Message::default().message(3, &any).0);
        self
    }

    /// The status in an answer's headers or trailers.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let message = headers.get("grpc-message").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let details = headers.get(DETAILS).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let details = STANDARD_NO_PAD.decode(details.trim_end_matches('=')).unwrap_or_default();
        Some(Self { code, message: decode(message), details })
    }

    /// As trailers.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code));
        if let Some(message) = Some(encode(&self.message)).filter(|m| !m.is_empty()) {
            // Percent-encoded text is visible ASCII.
            trailers.extend(HeaderValue::from_str(&message).map(|m| (HeaderName::from_static("grpc-message"), m)));
        }
        if !self.details.is_empty() {
            let text = STANDARD.encode(&self.details);
            trailers.extend(HeaderValue::from_str(&text).map(|text| (HeaderName::from_static(DETAILS), text)));
        }
        trailers
    }

    fn name(&self) -> String {
        const NAMES: [&str; 17] = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        NAMES.get(self.code as usize).map_or_else(|| format!("Code({})", self.code), |name| (*name).to_owned())
    }
}

/// Percent encoding of all but visible ASCII.
fn encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | ..0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            visible => out.push(char::from(visible)),
        }
    }
    out
}

fn decode(message: &str) -> String {
    let mut out = Vec::new();
    let mut rest = message.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *byte == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_those_of_gos_grpc() {
        let error = Status::new(13, decode("no%20disk: 100%"));
        assert_eq!(error.to_string(), "rpc error: code = Internal desc = no disk: 100%");
        assert_eq!(Status::new(40, "odd").to_string(), "rpc error: code = Code(40) desc = odd");
    }

    #[test]
    fn words_of_any_kind_survive_the_way() {
        for message in ["", "plain", "100% für\nzwei"] {
            let status = Status::new(2, message);
            assert_eq!(Status::of(&status.trailers()), Some(status));
        }
        assert_eq!(Status::of(&HeaderMap::new()), None);
    }

    #[test]
    fn details_survive_the_way() {
        let status = Status::new(2, "no").with_detail("a/b", b"{}").with_detail("c", b"");
        assert_eq!(Status::of(&status.trailers()), Some(status.clone()));
        let fields = crate::Fields::read(&status.details);
        assert_eq!((fields.number(1), fields.text(2), fields.all(3).count()), (2, "no".to_owned(), 2));
    }
}
