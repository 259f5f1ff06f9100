//! Bodies and answers in `application/vnd.kubernetes.protobuf`, which Go clients (kubectl's typed ones among them) send
//! and ask for.
//!
//! The wire is that of upstream's `generated.proto`: `k8s\0`, then a `runtime.Unknown` that names the kind and holds the
//! object. Both directions follow one table, [`Type::message`]: numbers with the fields of the JSON schema behind them.
//! Upstream writes zero values of fields that are no pointers; they count as absent, as in JSON, and are not written here.

mod answer;
mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod wire;

#[cfg(doc)]
use api::schema::Type;

pub(crate) use answer::{event, list, whole};
pub(crate) use decode::decode;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch.
pub(crate) const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const MAGIC: &[u8] = b"k8s\0";
/// Messages nested deeper are refused.
const MAX_DEPTH: usize = 100;

/// Why a body is no object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("proto: illegal or truncated message")]
    Truncated,
    #[error("proto: field {0} has the wrong wire type")]
    WireType(u64),
    #[error("proto: a string is not valid UTF-8")]
    Text,
    #[error("proto: no message type of that name is known: {0}")]
    Unknown(&'static str),
    #[error("proto: messages are nested too deep")]
    Depth,
}
