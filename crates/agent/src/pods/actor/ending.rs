//! The end of a pod: containers stopped, its things removed, the last status written, the object deleted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Actor, Eviction, Message, Need,
    slot::Stopping,
    steps::{after, seconds},
};
use crate::{
    activity::Deed,
    events::Severity,
    pods::{
        admission::Refusal,
        container::{Current, Role},
        stopping, teardown,
    },
    volumes::PodVolumes,
};

/// Why a pod ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// `deletionTimestamp` is set.
    Deleted,
    /// The object is gone: nothing is left to be graceful for.
    Gone,
    /// All containers are done.
    Finished,
    /// The pod failed as a whole.
    Failed,
}

/// How far the end is.
pub struct Ending {
    why: Why,
    tearing_down: bool,
    /// Nothing of the pod is left on the node but its logs.
    pub torn_down: bool,
    deleting: bool,
    retry_at: Option<Instant>,
    delay: Duration,
}

impl Actor {
    /// Looks whether the pod has to end, or to end faster.
    pub(super) fn consider_ending(&mut self) {
        let deleted = self.pod.metadata.deletion_timestamp.is_some();
        if self.gone {
            self.end(Why::Gone);
        } else if deleted {
            self.end(Why::Deleted);
        } else if self.ending.is_none() {
            // A failure that was noted stays one, even if the agent ended before the API heard of it.
            if self.finished_for_good() || self.record.failure.is_some() {
                self.end(if self.record.failure.is_some() { Why::Failed } else { Why::Finished });
                return;
            }
            let limit = self.pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
            if let (Some(limit), Some(start)) = (limit, self.start_time()) {
                let expires = start.checked_add(after(seconds(limit))).unwrap_or(Timestamp::MAX);
                if expires <= Timestamp::now() {
                    let message = "Pod was active on the node longer than the specified deadline";
                    self.fail(Severity::Normal, "DeadlineExceeded", message, BTreeMap::new());
                } else {
                    self.wake_at_time(expires);
                }
            }
        }
    }

    /// The node ends the pod.
    pub(super) fn evicted(&mut self, eviction: &Eviction) {
        if self.ending.is_none() {
            self.record.failure_grace = eviction.grace;
            self.record.disruption = eviction.disrupts.then(|| eviction.message.clone());
            self.fail(Severity::Warning, eviction.reason, &eviction.message, eviction.annotations.clone());
        }
    }

    /// The node does not take the pod.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.context.activity.add(Deed::Refuse(refusal.reason));
        self.context.recorder.pod(&self.pod, Severity::Warning, refusal.reason, refusal.message.clone());
        self.record.failure = Some((refusal.reason.to_owned(), format!("Pod was rejected: {}", refusal.message)));
        self.end(Why::Failed);
    }

    /// The pod as a whole has failed.
    fn fail(&mut self, severity: Severity, reason: &'static str, message: &str, annotations: BTreeMap<String, String>) {
        self.context.recorder.pod_annotated(&self.pod, annotations, severity, reason, message);
        self.record.failure = Some((reason.to_owned(), message.to_owned()));
        self.end(Why::Failed);
    }

    pub(super) fn start_time(&self) -> Option<Timestamp> {
        let reported = self.pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        reported.or(self.record.start_time)
    }

    pub(super) fn end(&mut self, why: Why) {
        match &mut self.ending {
            Some(ending) => {
                if ending.why != why && matches!(why, Why::Deleted | Why::Gone) {
                    ending.why = why;
                    ending.retry_at = None;
                }
            }
            None => {
                self.ending = Some(Ending {
                    why,
                    tearing_down: false,
                    torn_down: false,
                    deleting: false,
                    retry_at: None,
                    delay: Duration::ZERO,
                });
            }
        }
    }

    pub(super) fn step_ending(&mut self) {
        let Some(ending) = &self.ending else { return };
        if ending.torn_down {
            self.delete_object();
            return;
        }
        if ending.tearing_down {
            return;
        }
        if let Some(at) = ending.retry_at.filter(|at| *at > Instant::now()) {
            self.wake_at(at);
            return;
        }
        let graceful = ending.why != Why::Gone;
        let under_way = matches!(self.sandbox, Need::UnderWay)
            || matches!(self.volumes, Need::UnderWay)
            || self.slots.iter().any(super::slot::Slot::busy);
        let running: Vec<usize> = (0..self.slots.len()).filter(|i| self.record.containers[*i].running()).collect();
        if graceful && !running.is_empty() {
            self.stop_in_order(&running);
            return;
        }
        if under_way {
            return;
        }
        for slot in &mut self.slots {
            slot.stop_probes();
            slot.stage = super::slot::Stage::Idle;
        }
        if let Some(ending) = &mut self.ending {
            ending.tearing_down = true;
        }
        self.volumes = Need::Absent;
        self.some_volumes = PodVolumes::default();
        let (context, pod, sandbox, containers) = (
            Arc::clone(&self.context),
            Arc::clone(&self.pod),
            self.record.sandbox.clone(),
            self.record.containers.clone(),
        );
        self.spawn(async move {
            Message::TornDown(teardown::tear_down(&context, &pod, sandbox.as_deref(), &containers).await)
        });
    }

    /// All begin to end at once, with their preStop hooks and one grace period for the whole pod. Stop signals go to
    /// containers first; then to sidecars, the last one first.
    fn stop_in_order(&mut self, running: &[usize]) {
        let deadline = Instant::now() + self.grace();
        let only_sidecars = running.iter().all(|i| self.role(*i) == Role::Sidecar);
        for slot in running {
            let turn = self.role(*slot) != Role::Sidecar || only_sidecars && Some(slot) == running.last();
            self.stop_by(*slot, deadline, turn, "");
        }
    }

    /// How long containers have to end by themselves.
    pub(super) fn grace(&self) -> Duration {
        if let Some(grace) = self.record.failure_grace {
            return Duration::from_secs(grace);
        }
        let spec = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        let deletion =
            self.pod.metadata.deletion_timestamp.as_ref().and(self.pod.metadata.deletion_grace_period_seconds);
        seconds(deletion.or(spec).unwrap_or(30))
    }

    /// Stops a container (or moves the end of its grace period nearer). `message` is that of the `Killing` event
    /// unless it is empty.
    pub(super) fn stop(&mut self, slot: usize, grace: Duration, message: &str) {
        self.stop_by(slot, Instant::now() + grace, true, message);
    }

    /// Like `stop`; without its `turn` a container gets its stop signal when the turn comes, or at the deadline.
    fn stop_by(&mut self, slot: usize, deadline: Instant, turn: bool, message: &str) {
        if let Some(stopping) = &self.slots[slot].stopping {
            stopping.turn.send_if_modified(|its| !std::mem::replace(its, *its || turn) && turn);
            stopping.deadline.send_if_modified(|at| {
                let nearer = deadline < *at;
                if nearer {
                    *at = deadline;
                }
                nearer
            });
            return;
        }
        let Some(place) = self.place_of(slot) else { return };
        let declared = self.declared(slot);
        let text =
            if message.is_empty() { format!("Stopping container {}", declared.name) } else { message.to_owned() };
        self.context.recorder.container(&self.pod, &declared.name, Severity::Normal, "Killing", text);
        let (deadline, until) = watch::channel(deadline);
        let (turn, its_turn) = watch::channel(turn);
        self.slots[slot].stopping = Some(Stopping { deadline, turn });
        self.slots[slot].stop_health_probes();
        let own = declared.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref()).and_then(stopping::signal_number);
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let image = declared.image.clone().unwrap_or_default();
        tokio::spawn(async move {
            let signal = match own {
                Some(signal) => signal,
                None => {
                    let image = context.images.find(&image).await.ok().flatten();
                    image.and_then(|i| stopping::signal_number(&i.stop_signal)).unwrap_or(libc::SIGTERM)
                }
            };
            stopping::stop(context, pod, declared, place, signal, until, its_turn).await;
        });
    }

    pub(super) fn torn_down(&mut self, result: Result<(), String>) {
        let Some(ending) = &mut self.ending else { return };
        ending.tearing_down = false;
        match result {
            Ok(()) => {
                ending.torn_down = true;
                self.context.devices.release(&self.uid);
                self.context.room.send_modify(|n| *n += 1);
                self.sandbox = Need::Absent;
                self.record.sandbox = None;
                for record in &mut self.record.containers {
                    if let Current::Running { id, .. } = &record.current {
                        let id = id.clone();
                        record.end(super::vanished(id));
                    }
                }
            }
            Err(error) => {
                ending.delay = (ending.delay * 2).clamp(Duration::from_millis(200), Duration::from_secs(20));
                ending.retry_at = Some(Instant::now() + ending.delay);
                self.context.recorder.pod(
                    &self.pod,
                    Severity::Warning,
                    "FailedKillPod",
                    format!("error killing pod: {error}"),
                );
            }
        }
    }

    /// Once the last status is written, the API may forget the pod.
    fn delete_object(&mut self) {
        if self.is_static() {
            let first = self
                .ending
                .as_mut()
                .is_some_and(|e| e.why == Why::Deleted && !std::mem::replace(&mut e.deleting, true));
            if first {
                self.delete_mirror();
            }
            return;
        }
        let wanted = self.wanted_status();
        let settled = self.writer.settled(&self.uid, &wanted);
        let Some(ending) = &mut self.ending else { return };
        if ending.why != Why::Deleted || ending.deleting || !settled {
            return;
        }
        if let Some(at) = ending.retry_at.filter(|at| *at > Instant::now()) {
            self.wake_at(at);
            return;
        }
        ending.deleting = true;
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &self.record.namespace);
        let (context, name, uid) = (Arc::clone(&self.context), self.record.name.clone(), self.uid.clone());
        self.spawn(async move {
            let _turn = context.turns.acquire().await;
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            let parameters =
                DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
            match api.delete(&name, &parameters).await {
                Ok(_) => Message::Deleted(Ok(())),
                // Gone already, or another pod has the name now.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Message::Deleted(Ok(())),
                Err(error) => Message::Deleted(Err(error.to_string())),
            }
        });
    }

    pub(super) fn deleted(&mut self, result: Result<(), String>) {
        let Some(ending) = &mut self.ending else { return };
        match result {
            // The watch tells when it is gone; a finalizer may hold it.
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(pod = self.record.name, error, "the API did not delete a pod yet");
                ending.deleting = false;
                ending.delay = (ending.delay * 2).clamp(Duration::from_millis(200), Duration::from_secs(20));
                ending.retry_at = Some(Instant::now() + ending.delay);
            }
        }
    }
}
