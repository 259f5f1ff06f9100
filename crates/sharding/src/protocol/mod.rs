//! What clients and servers say: Redis' RESP and memcached's text and meta protocols.
//!
//! Nothing here does I/O or allocates by what the other side announces: lengths are limits to wait for, never sizes to reserve.

pub mod memcached;
pub mod redis;
pub mod resp;

/// A part of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

impl Span {
    /// The part of `buffer`.
    #[must_use]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start..self.end]
    }
}

/// Bytes that break the protocol; the connection they came over cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Protocol error: {0}")]
pub struct Broken(pub &'static str);
