//! gRPC, as far as the node speaks it: to CSI drivers, to and from device plugins, and to what has a gRPC probe. Calls
//! are rare, so each has a connection of its own and nothing stays open. What a failure is called is each caller's own.

mod client;
mod frame;
mod message;
mod server;
mod status;

pub use client::{CallError, Target, call, stream};
pub use message::{Fields, Message};
pub use server::serve;
pub use status::Status;

/// The largest message that is taken, in bytes.
const LARGEST: usize = 4 << 20;
