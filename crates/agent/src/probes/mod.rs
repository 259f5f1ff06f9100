//! Probes: each runs as a task beside its container and reports only when its verdict changes.

mod counts;
pub mod exec;
pub mod grpc;
pub mod http;
pub mod port;
mod state;
mod worker;

pub use counts::Counts;
pub use worker::Worker;

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Restarts it.
    Liveness,
    /// Keeps traffic from it.
    Readiness,
    /// Holds the others back until it has started.
    Startup,
}

impl ProbeKind {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}
