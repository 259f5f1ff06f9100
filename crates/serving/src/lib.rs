//! What every pattern container shares, so that each behaves as the others do.
//!
//! - [`run`]: one way to start, to answer signals and to end: on SIGTERM or SIGINT readiness turns false, listeners close,
//!   work under way is given [`Flags::drain`] to finish.
//! - [`Admin`]: `/metrics` (OpenMetrics text), `/healthz`, `/readyz`, `POST /-/reload`, and what a container adds.
//! - [`Live`]: a configuration file that is followed; a broken one is refused with line and reason and the old goes on.
//! - [`AccessLog`]: one JSON line a request on standard output, never at the expense of the request.
//! - [`TraceContext`]: W3C trace context, taken from a request and handed on.
//! - [`Manual`]: the container's parameters, ports and endpoints, as data for `--help`, image labels and documentation.

mod access_log;
mod activity;
mod admin;
mod config_error;
mod file_watch;
mod live;
mod manual;
mod process;
mod run;
mod span;
mod trace;

pub use access_log::{AccessLog, Record};
pub use activity::Activity;
pub use admin::{Admin, Answer, text};
pub use config_error::{ConfigError, from_yaml};
pub use file_watch::FileWatch;
pub use live::Live;
pub use manual::{Endpoint, Manual, Port, Variable};
pub use run::{AccessLogFormat, Flags, Guard, Serving, run};
pub use span::Span;
pub use trace::TraceContext;
