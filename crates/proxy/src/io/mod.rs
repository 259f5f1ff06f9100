//! Bytes in and out: streams, buffers, deadlines, and bodies in whatever framing.

mod body;
mod buffer;
mod clock;
mod deadline;
mod stream;

pub use body::{BodyError, BodyIn, BodyOut, PumpError, pump};
pub use buffer::{Input, give, take};
pub use clock::about_now;
pub use deadline::Deadline;
pub use stream::Stream;
