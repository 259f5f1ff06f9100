//! gRPC over hyper's HTTP/2, with a page of protocol buffers (docs/decisions/0012-csi-calls.md).
//!
//! Node services (CSI drivers, device plugins, probes) are called rarely: [`call`] and [`stream`] open a connection each
//! and nothing stays open. BuildKit's clients keep one: a [`Channel`] is the calling end of a connection, [`connection`]
//! the answering end, and both carry many calls at a time, each way. What a failure is called is each caller's own.

mod body;
mod channel;
mod client;
mod frame;
mod message;
mod server;
mod status;

pub use channel::{Channel, Closing, Duplex, Receiving, Sending};
pub use client::{CallError, Target, call, stream};
pub use message::{Fields, Message};
pub use server::{Call, Reply, connection, serve};
pub use status::Status;

/// The largest message that is taken, in bytes. Go's default; BuildKit's clients cut what is larger.
pub const LARGEST: usize = 4 << 20;
