//! The root of scatter/gather: fan out, hedge, merge.
//!
//! A request goes to every leaf (or its words to the leaves in turn), each a replicated service. What comes back by the
//! deadline is merged; what does not is named. A leaf that is slower than its own 95th percentile is asked a second time,
//! within a budget. A leaf may be a root itself: the deadline goes down in a header, what is missing comes up.

pub mod budget;
mod command;
pub mod config;
pub mod latency;
pub mod leaf;
pub mod merge;
mod metrics;
pub mod plan;
pub mod replica;
mod root;
mod secure;

pub use command::{Arguments, MANUAL, main, serve};
pub use metrics::Metrics;
pub use root::{Incoming, MISSING_HEADER, Outgoing, PARTIAL_HEADER, Root, TIMEOUT_HEADER};
pub use secure::Secured;
