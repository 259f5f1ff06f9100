//! The stream of what happens to containers.

use tokio::sync::mpsc;

use crate::status::ExitStatus;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The sandbox's id.
    pub sandbox: String,
    /// The container's id; empty for [`EventKind::SandboxDied`].
    pub container: String,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The container's program was started.
    Started {
        /// Its process id on the host.
        pid: i32,
    },
    /// The container ended; the status was recorded durably before this was sent.
    Exited(ExitStatus),
    /// The sandbox's shim was lost; an `Exited` for each of its containers precedes this.
    SandboxDied,
}

/// A subscription: every event from the call of [`crate::Engine::events`] on, in order a sandbox, without loss.
#[derive(Debug)]
pub struct Events(pub(crate) mpsc::UnboundedReceiver<Event>);

impl Events {
    /// The next event; `None` when the engine is gone.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl futures::Stream for Events {
    type Item = Event;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Event>> {
        self.0.poll_recv(context)
    }
}
