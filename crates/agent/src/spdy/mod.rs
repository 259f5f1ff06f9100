//! SPDY/3.1, the server's side, as far as Kubernetes' streaming uses it: streams with headers, data both ways,
//! half-close, reset, ping. Spoken after an upgrade, or within WebSocket messages.

mod connection;
mod dictionary;
mod frame;
mod header_block;
mod stream;

pub use connection::{Connection, Incoming};
pub use stream::Writer;
