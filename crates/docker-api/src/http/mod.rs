//! HTTP: connections, calls, answers and hijacked streams.

mod answer;
mod call;
mod hijack;
mod loose;
mod serve;
mod version;
mod websocket;

pub(crate) use answer::{Response, created, empty, json, json_stream, plain, raw, streamed};
pub(crate) use call::Call;
pub(crate) use hijack::{Frames, Hijacked, Pending, Socket, hijack};
pub use serve::is_answering;
pub(crate) use serve::serve;
pub(crate) use version::{API_VERSION, MIN_API_VERSION, Version};
pub(crate) use websocket::websocket;
