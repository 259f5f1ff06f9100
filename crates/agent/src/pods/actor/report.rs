//! What an actor tells: the status in the API, and the view for other parts of the agent.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use tokio::time::Instant;

use super::{Actor, Message, PodView};
use crate::pods::{
    container::{ContainerRecord, Current, Role},
    status,
    status_writer::{self, Written},
};

impl Actor {
    pub(super) fn wanted_status(&self) -> PodStatus {
        let host_ips = self.context.host_ips();
        let passing = self.passing_conditions();
        let nothing_runs = !self.record.containers.iter().any(|c| c.running());
        let (status, _) = status::of(&status::Inputs {
            pod: &self.pod,
            records: &self.record.containers,
            whole: self.record.whole.as_ref(),
            sandbox_ready: self.sandbox.up().is_some(),
            pod_ips: &self.record.pod_ips,
            host_ips: &host_ips,
            start_time: self.start_time().unwrap_or_else(Timestamp::now),
            stopped: self.ending.is_some() && nothing_runs,
            restarting: self.record.restarting,
            passing: &passing,
            failure: self.record.failure.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str())),
            refused: self.record.refused(),
            now: Timestamp::now(),
        });
        status
    }

    /// Sends the status if it changed and nothing is under way.
    pub(super) fn report(&mut self) {
        self.publish();
        if self.gone {
            return;
        }
        // A new pod whose containers are about to run is reported once, when they do.
        if let Some(at) = self.first_report_at {
            if self.nothing_to_tell() && at > Instant::now() {
                self.wake_at(at);
                return;
            }
            self.first_report_at = None;
        }
        let wanted = self.wanted_status();
        if self.is_static() && !self.keep_mirror() {
            return;
        }
        let Some(pod) = self.reported_as() else { return };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match self.writer.next(&uid, &wanted) {
            Some(patch) => {
                let context = Arc::clone(&self.context);
                self.spawn(async move {
                    let _turn = context.turns.acquire().await;
                    Message::Written(status_writer::send(&context.client, &pod, &patch).await)
                });
            }
            None => {
                if let Some(at) = self.writer.wake_at() {
                    self.wake_at(at);
                }
            }
        }
    }

    /// Whether all that is known of a new pod is that its containers have yet to start.
    fn nothing_to_tell(&self) -> bool {
        let untouched = |c: &ContainerRecord| {
            matches!(c.current, Current::Waiting { reason: None, .. })
                && c.last.is_none()
                && matches!(c.role, Role::App | Role::Init | Role::Sidecar)
        };
        self.ending.is_none()
            && self.record.failure.is_none()
            && !self.finished_for_good()
            && self.record.containers.iter().all(untouched)
    }

    pub(super) fn status_written(&mut self, result: &Written) {
        self.writer.written(result);
        match result {
            // The answer is newer than what the watch has delivered.
            Written::Done(pod) if self.is_static() => self.mirrored(Some(Arc::clone(pod))),
            Written::Done(pod) => self.adopt_version(Arc::clone(pod)),
            Written::Gone if self.is_static() => self.mirrored(None),
            Written::Gone => tracing::debug!(pod = self.record.name, "the API has no such pod any more"),
            Written::Failed(error) => {
                tracing::debug!(pod = self.record.name, error, "a pod's status could not be written yet")
            }
        }
    }

    fn publish(&self) {
        self.view.send_if_modified(|view| {
            let sandbox = self.sandbox.up().map(|s| &s.id);
            let same = Arc::ptr_eq(&view.pod, &self.pod)
                && view.sandbox.as_ref() == sandbox
                && view.failed == self.record.failure.is_some()
                && view.whole.as_ref() == self.record.whole.as_ref().map(|w| &w.allocated)
                && view.containers == self.record.containers;
            if !same {
                *view = Arc::new(PodView {
                    pod: Arc::clone(&self.pod),
                    sandbox: sandbox.cloned(),
                    containers: self.record.containers.clone(),
                    failed: self.record.failure.is_some(),
                    whole: self.record.whole.as_ref().map(|w| w.allocated.clone()),
                });
            }
            !same
        });
    }
}
