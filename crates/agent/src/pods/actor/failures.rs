//! What a container waits for when it can't be started, in upstream's reasons and messages.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Actor, slot::Stage};
use crate::{
    activity::Deed,
    events::Severity,
    pods::{
        container::{Current, Ended},
        image_pull::PullFailure,
        launch::{LaunchError, Started, public_id},
        prepare::{PrepareError, Prepared},
        restart,
    },
};

/// How long `ErrImagePull` shows before it becomes `ImagePullBackOff`.
const SHOW_ERROR: Duration = Duration::from_secs(1);

/// The exit code of a program that could not be started, whatever a shell would say: containerd's.
const START_ERROR: i32 = 128;

impl Actor {
    pub(super) fn prepared(&mut self, slot: usize, result: Result<Prepared, PrepareError>) {
        self.slots[slot].stage = Stage::Idle;
        match result {
            Ok(prepared) => {
                self.slots[slot].back_off_shown_at = None;
                self.slots[slot].stage = Stage::Ready(Box::new(prepared));
            }
            Err(PrepareError::Image(failure)) => self.pull_failed(slot, failure),
            Err(PrepareError::Root(message)) => self.failed(slot, "CreateContainerError", message, true),
            Err(PrepareError::References(message)) => self.failed(slot, "CreateContainerConfigError", message, true),
        }
    }

    fn pull_failed(&mut self, slot: usize, failure: PullFailure) {
        self.count_failure(slot, failure.reason);
        self.record.containers[slot].wait_for(failure.reason, Some(failure.message.clone()));
        let now = Timestamp::now();
        let entry = &mut self.slots[slot];
        if !failure.counts {
            let delay = entry.next_delay().max(Duration::from_secs(5));
            entry.retry_at = Some(Instant::now() + delay);
            return;
        }
        entry.image_backoff.advance(now, now);
        let delay = entry
            .image_backoff
            .hold(now, now)
            .map_or(Duration::from_secs(10), |h| Duration::try_from(h.delay).unwrap_or_default());
        entry.retry_at = Some(Instant::now() + delay);
        entry.back_off_shown_at = Some((Instant::now() + SHOW_ERROR, failure));
    }

    /// Turns `ErrImagePull` into `ImagePullBackOff` when its time has come.
    pub(super) fn show_pull_back_off(&mut self, slot: usize) {
        let Some((at, failure)) = self.slots[slot].back_off_shown_at.clone() else { return };
        if at > Instant::now() {
            self.wake_at(at);
            return;
        }
        self.slots[slot].back_off_shown_at = None;
        let declared = self.declared(slot);
        let PullFailure { image, message: error, .. } = failure;
        let message = format!("Back-off pulling image \"{image}\"");
        let recorder = &self.context.recorder;
        recorder.container(&self.pod, &declared.name, Severity::Normal, "BackOff", message.clone());
        recorder.container(&self.pod, &declared.name, Severity::Warning, "Failed", "Error: ImagePullBackOff");
        self.record.containers[slot].wait_for("ImagePullBackOff", Some(format!("{message}: ErrImagePull: {error}")));
    }

    fn count_failure(&self, slot: usize, reason: &'static str) {
        self.context.activity.add(Deed::StartContainer(self.role(slot)));
        self.context.activity.add(Deed::FailContainer(self.role(slot), reason));
    }

    /// It waits, and is tried again after a while.
    pub(super) fn failed(&mut self, slot: usize, reason: &'static str, message: String, tell: bool) {
        self.count_failure(slot, reason);
        if tell {
            let name = self.record.containers[slot].name.clone();
            self.context.recorder.container(&self.pod, &name, Severity::Warning, "Failed", format!("Error: {message}"));
        }
        self.record.containers[slot].wait_for(reason, Some(message));
        let entry = &mut self.slots[slot];
        entry.stage = Stage::Idle;
        let delay = entry.next_delay();
        entry.retry_at = Some(Instant::now() + delay);
    }

    pub(super) fn launched(&mut self, slot: usize, attempt: u32, result: Result<Started, LaunchError>) {
        match result {
            Ok(started) => {
                self.context.activity.add(Deed::StartContainer(self.role(slot)));
                self.running(slot, attempt, started);
            }
            Err(LaunchError::Config(message)) => self.failed(slot, "CreateContainerConfigError", message, false),
            Err(LaunchError::Create(message)) => self.failed(slot, "CreateContainerError", message, false),
            Err(LaunchError::Start(message)) => {
                self.count_failure(slot, "RunContainerError");
                self.count_start(slot, attempt);
                let sandbox = self.record.sandbox.clone().unwrap_or_default();
                let record = &mut self.record.containers[slot];
                if let Current::Ended(ended) = &record.current {
                    record.last = Some(ended.clone());
                }
                let now = Timestamp::now();
                let ended = Ended {
                    id: public_id(&sandbox, &record.name, attempt),
                    exit_code: START_ERROR,
                    signal: None,
                    reason: "StartError".to_owned(),
                    message: Some(message.clone()),
                    started_at: Some(Timestamp::UNIX_EPOCH),
                    finished_at: now,
                };
                record.end(ended);
                let declared = self.declared(slot);
                if restart::wanted(&self.spec(), &declared, self.role(slot), START_ERROR) {
                    self.record.containers[slot].wait_for("RunContainerError", Some(message));
                }
            }
        }
    }
}
