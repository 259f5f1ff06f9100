//! How a call ended (gRPC over HTTP2, "Responses").

use http::{HeaderMap, HeaderValue};

/// A code and words. It reads as Go's gRPC says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", self.name())]
pub struct Status {
    /// gRPC's code; 0 is success.
    pub code: u32,
    /// The other side's words.
    pub message: String,
}

impl Status {
    /// `OK`
    pub const OK: u32 = 0;
    /// `Unknown`
    pub const UNKNOWN: u32 = 2;
    /// `DeadlineExceeded`
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// `NotFound`
    pub const NOT_FOUND: u32 = 5;
    /// `Unimplemented`
    pub const UNIMPLEMENTED: u32 = 12;
    /// `Internal`
    pub const INTERNAL: u32 = 13;
    /// `Unavailable`
    pub const UNAVAILABLE: u32 = 14;

    /// A status.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The status in an answer's headers or trailers.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let message = headers.get("grpc-message").and_then(|v| v.to_str().ok()).unwrap_or_default();
        Some(Self { code, message: decode(message) })
    }

    /// As trailers.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code));
        if let Some(message) = Some(encode(&self.message)).filter(|m| !m.is_empty()) {
            // Percent-encoded text is visible ASCII.
            trailers
                .extend(HeaderValue::from_str(&message).map(|m| (http::HeaderName::from_static("grpc-message"), m)));
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
}
