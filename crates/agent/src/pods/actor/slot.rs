//! What an actor holds in memory for one container.

use std::time::Duration;

use tokio::{sync::watch, task::AbortHandle, time::Instant};

use crate::{
    pods::{backoff::Backoff, image_pull::PullFailure, prepare::Prepared},
    probes::ProbeKind,
};

/// One container.
#[derive(Default)]
pub struct Slot {
    /// What it waits for.
    pub stage: Stage,
    /// Not before this moment.
    pub retry_at: Option<Instant>,
    /// The delay of the next failure that no backoff counts.
    pub retry_delay: Duration,
    /// Delay of failing pulls.
    pub image_backoff: Backoff,
    /// When a failed pull shows as `ImagePullBackOff`.
    pub back_off_shown_at: Option<(Instant, PullFailure)>,
    /// Its postStart hook runs.
    pub hook_running: bool,
    /// What each probe's worker asks for, and its end.
    pub probes: Vec<(ProbeKind, AbortHandle)>,
    /// It is being stopped.
    pub stopping: Option<Stopping>,
    /// The `BackOff` event of this crash was recorded.
    pub back_off_told: bool,
    /// It is being stopped only to start again with other resources.
    pub ends_for_resize: bool,
    /// It is being stopped because all containers start anew.
    pub ends_for_restart: bool,
    /// Its limits are being changed.
    pub resizing: bool,
    /// The next start is the first that this container ever has.
    pub never_launched: bool,
}

/// What can still change while a container is being stopped.
pub struct Stopping {
    /// The moment of SIGKILL, which can be moved nearer.
    pub deadline: watch::Sender<Instant>,
    /// Whether those have ended that must end before it: until then it gets no stop signal.
    pub turn: watch::Sender<bool>,
}

/// How far the next start of a container is.
#[derive(Default)]
pub enum Stage {
    /// Nothing is under way.
    #[default]
    Idle,
    /// Image and references are being gathered.
    Preparing,
    /// They are there; the sandbox or the volumes are not yet.
    Ready(Box<Prepared>),
    /// It is being created and started.
    Launching,
}

impl Slot {
    /// A slot; `never_launched` for a container that has not run yet.
    pub fn new(never_launched: bool) -> Self {
        let mut slot = Self::default();
        slot.never_launched = never_launched;
        slot
    }

    /// Ends its probes.
    pub fn stop_probes(&mut self) {
        for (_, probe) in self.probes.drain(..) {
            probe.abort();
        }
    }

    /// Ends the probes that could stop it, as upstream's `StopLivenessAndStartup` does: whether it is ready is asked
    /// until it has ended.
    pub fn stop_health_probes(&mut self) {
        for (_, probe) in self.probes.extract_if(.., |(kind, _)| *kind != ProbeKind::Readiness) {
            probe.abort();
        }
    }

    /// Whether something is under way that must come to an end before the pod's things may be removed.
    pub fn busy(&self) -> bool {
        matches!(self.stage, Stage::Preparing | Stage::Launching)
    }

    /// The next delay of a failure that is tried again by time.
    pub fn next_delay(&mut self) -> Duration {
        self.retry_delay = if self.retry_delay.is_zero() { Duration::from_secs(1) } else { self.retry_delay * 2 };
        self.retry_delay = self.retry_delay.min(Duration::from_secs(20));
        self.retry_delay
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.stop_probes();
    }
}
