//! The way of a pod that is to run: what the plan asks for is started, and what comes back is noted.

use std::{sync::Arc, time::Duration};

use engine::ExitStatus;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Actor, Message, Need, SETTLE, slot::Stage, together};
use crate::{
    activity::Deed,
    events::Severity,
    hooks::{self, Place},
    logs::links,
    pods::{
        actor::ending::Why,
        backoff::{Backoff, Hold},
        container::{Current, Ended, Role},
        launch::{self, Started, public_id, runtime_id},
        plan,
        prepare::{self, Prepared},
        restart,
        sandbox::{self, SandboxUp},
        storage, termination_message,
    },
    probes::{self, ProbeKind},
    volumes,
};

impl Actor {
    /// Starts all that is due.
    pub(super) fn step(&mut self) {
        self.consider_ending();
        if self.ending.is_some() {
            self.step_ending();
            return;
        }
        if self.end_for_restart() {
            return;
        }
        self.consider_resize();
        let spec = self.spec();
        let plan = plan::next(&spec, &self.record.containers, self.record.initialized, Timestamp::now());
        self.record.initialized = plan.initialized;
        if plan.finished {
            self.end(Why::Finished);
            self.step_ending();
            return;
        }
        if let Some(slot) = plan.stop.first() {
            self.stop(*slot, self.grace(), "");
        }
        for (slot, hold) in plan.hold {
            self.hold(slot, hold);
        }
        // After an adoption, too: files follow the API again.
        if !plan.start.is_empty() || self.sandbox.up().is_some() {
            self.add_volumes();
            self.need_volumes();
        }
        if plan.start.is_empty() {
            return;
        }
        self.need_sandbox();
        for slot in plan.start {
            self.start(slot);
        }
    }

    fn need_sandbox(&mut self) {
        if !self.sandbox.begin(&mut self.wake) {
            return;
        }
        // In the record before it exists: whatever happens next, its end can be seen to.
        self.record.sandbox = Some(sandbox::id(&self.uid, self.record.sandbox_attempt));
        self.record.pod_ips.clear();
        if let Some(whole) = &mut self.record.whole {
            whole.applied.clone_from(&whole.allocated);
        }
        self.save();
        let (context, pod, attempt) = (Arc::clone(&self.context), Arc::clone(&self.pod), self.record.sandbox_attempt);
        let whole = self.record.whole.as_ref().map(|w| w.allocated.clone()).unwrap_or_default();
        self.spawn(async move { Message::Sandbox(sandbox::create(&context, &pod, attempt, &whole).await) });
    }

    pub(super) fn sandbox_done(&mut self, result: Result<SandboxUp, String>) {
        self.context.activity.add(Deed::StartPod);
        match result {
            Ok(up) => {
                self.record.sandbox = Some(up.id.clone());
                self.record.pod_ips.clone_from(&up.pod_ips);
                self.sandbox = Need::Up(up);
                self.sandbox_delay = Duration::ZERO;
            }
            Err(error) => {
                self.context.activity.add(Deed::FailPod);
                let message = format!("Failed to create pod sandbox: {error}");
                self.context.recorder.pod(&self.pod, Severity::Warning, "FailedCreatePodSandBox", message);
                self.record.sandbox_attempt += 1;
                self.sandbox_delay = next_delay(self.sandbox_delay, Duration::from_secs(1), Duration::from_secs(15));
                self.sandbox = Need::Failed { at: Instant::now() + self.sandbox_delay };
            }
        }
    }

    /// A container that came later may name a volume that none named before.
    fn add_volumes(&mut self) {
        if !self.volumes.up().is_some_and(|up| volumes::lacks(&self.pod, up)) {
            return;
        }
        self.volumes = match std::mem::replace(&mut self.volumes, Need::Absent) {
            Need::Up(up) => match Arc::try_unwrap(up) {
                Ok(up) => {
                    self.some_volumes = up;
                    Need::Absent
                }
                // A container is being launched with them; this is looked at again when it is.
                Err(up) => Need::Up(up),
            },
            other => other,
        };
    }

    fn need_volumes(&mut self) {
        if !self.volumes.begin(&mut self.wake) {
            return;
        }
        let (context, pods) = (Arc::clone(&self.context), self.pods.subscribe());
        // What changes from here on may be what this try does not see yet.
        self.storage_seen = Some(match self.storage_seen.take() {
            Some((mut seen, listener)) => {
                seen.mark_unchanged();
                (seen, listener)
            }
            None => (self.context.storage.subscribe(), None),
        });
        let have = std::mem::take(&mut self.some_volumes);
        self.spawn(async move {
            let (up, failed) = volumes::set_up(&context, &pods, have).await;
            Message::Volumes(up, failed)
        });
    }

    pub(super) fn volumes_done(&mut self, mut up: volumes::PodVolumes, failed: Vec<volumes::VolumeError>) {
        match failed.is_empty() {
            true => {
                if let Some(watch) = storage::watch(&self.context, &self.pod) {
                    let outbox = self.outbox.clone();
                    let task = async move {
                        drop(outbox.send(Message::Evict(watch.await)));
                    };
                    up.keep(tokio::spawn(task).abort_handle());
                }
                self.volumes = Need::Up(Arc::new(up));
                self.storage_seen = None;
                self.volumes_delay = Duration::ZERO;
            }
            false => {
                for error in failed {
                    self.context.recorder.pod(&self.pod, Severity::Warning, "FailedMount", error.to_string());
                }
                self.some_volumes = up;
                self.volumes_delay = next_delay(self.volumes_delay, volumes::FIRST_REST, volumes::LONGEST_REST);
                self.volumes = Need::Failed { at: Instant::now() + self.volumes_delay };
                self.listen_for_storage();
            }
        }
    }

    /// The volumes that could not be had are tried again as soon as what they may wait for changes.
    fn listen_for_storage(&mut self) {
        let Some((seen, listener)) = &mut self.storage_seen else { return };
        if seen.has_changed().unwrap_or(false) {
            self.volumes.hasten(Instant::now() + SETTLE);
        }
        if listener.is_none() {
            let (mut changes, outbox) = (self.context.storage.subscribe(), self.outbox.clone());
            *listener = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                while changes.changed().await.is_ok() && outbox.send(Message::Storage).is_ok() {}
            })));
        }
    }

    fn start(&mut self, slot: usize) {
        self.show_pull_back_off(slot);
        if let Some(at) = self.slots[slot].retry_at {
            if at > Instant::now() {
                self.wake_at(at);
                return;
            }
            self.slots[slot].retry_at = None;
        }
        match std::mem::take(&mut self.slots[slot].stage) {
            Stage::Idle => {
                self.slots[slot].stage = Stage::Preparing;
                let (context, pod, attempt) =
                    (Arc::clone(&self.context), Arc::clone(&self.pod), self.next_attempt(slot));
                let declared = self.declared(slot);
                self.spawn(async move {
                    let result = Box::new(prepare::prepare(&context, &pod, &declared, attempt).await);
                    Message::Prepared { slot, result }
                });
            }
            Stage::Ready(prepared) => match (self.sandbox.up().cloned(), self.volumes.up().cloned()) {
                (Some(sandbox), Some(volumes)) => self.launch(slot, &sandbox, volumes, *prepared),
                _ => self.slots[slot].stage = Stage::Ready(prepared),
            },
            under_way => self.slots[slot].stage = under_way,
        }
    }

    /// The number of the next start.
    pub(super) fn next_attempt(&self, slot: usize) -> u32 {
        let count = self.record.containers[slot].restart_count;
        if self.slots[slot].never_launched { count } else { count + 1 }
    }

    fn launch(&mut self, slot: usize, sandbox: &SandboxUp, volumes: Arc<volumes::PodVolumes>, mut prepared: Prepared) {
        match self.target(slot) {
            Ok(target) => prepared.pid_of = target,
            Err(error) => return self.failed(slot, "CreateContainerConfigError", error, true),
        }
        self.slots[slot].stage = Stage::Launching;
        let record = &mut self.record.containers[slot];
        record.applied.clone_from(&record.allocated);
        record.image_id.clone_from(&prepared.image.image_id);
        if !prepared.image.display.is_empty() {
            record.image.clone_from(&prepared.image.display);
        }
        let old = (!self.slots[slot].never_launched).then(|| {
            let attempt = record.restart_count;
            (runtime_id(&record.name, attempt), prepare::root_id(&self.uid, &record.name, attempt))
        });
        let attempt = self.next_attempt(slot);
        let (context, pod, declared, sandbox) =
            (Arc::clone(&self.context), Arc::clone(&self.pod), self.declared(slot), sandbox.clone());
        self.spawn(async move {
            let result = launch::launch(&context, &pod, &declared, attempt, &sandbox, &volumes, prepared).await;
            if let Some((container, root)) = old {
                // The one before is only of use until the next one exists.
                tokio::spawn(async move {
                    let _ = context.runtime.remove(&sandbox.id, &container).await;
                    let _ = context.images.remove_root(&root).await;
                });
            }
            Message::Launched { slot, attempt, result }
        });
    }

    /// The container whose processes an ephemeral one is to see: one whose processes all containers do not see anyway.
    fn target(&self, slot: usize) -> Result<Option<String>, String> {
        let spec = self.pod.spec.as_ref();
        if spec.is_some_and(|s| s.host_pid == Some(true) || s.share_process_namespace == Some(true)) {
            return Ok(None);
        }
        let name = &self.record.containers[slot].name;
        let declared = spec.and_then(|s| s.ephemeral_containers.iter().flatten().find(|c| c.name == *name));
        let Some(target) = declared.and_then(|c| c.target_container_name.as_ref()).filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        let running = self.record.containers.iter().find(|r| r.name == *target && r.running());
        let running = running.ok_or_else(|| format!("unable to find target container {target}"))?;
        Ok(Some(runtime_id(target, running.restart_count)))
    }

    pub(super) fn count_start(&mut self, slot: usize, attempt: u32) {
        let now = Timestamp::now();
        let record = &mut self.record.containers[slot];
        if let Some(finished_at) = record.ended().map(|e| e.finished_at) {
            record.backoff.advance(finished_at, now);
        }
        record.restart_count = attempt;
        let entry = &mut self.slots[slot];
        entry.never_launched = false;
        entry.back_off_told = false;
        entry.retry_delay = Duration::ZERO;
        entry.back_off_shown_at = None;
        entry.stage = Stage::Idle;
    }

    /// A container runs.
    pub(super) fn running(&mut self, slot: usize, attempt: u32, started: Started) {
        self.count_start(slot, attempt);
        let Some(sandbox) = self.sandbox.up().map(|s| s.id.clone()) else { return };
        let name = self.record.containers[slot].name.clone();
        let record = &mut self.record.containers[slot];
        record.run(public_id(&sandbox, &name, attempt), started.at);
        record.user = started.user;
        self.prune_logs(slot, attempt);
        self.watch_container(slot, sandbox);
        let declared = self.declared(slot);
        match declared.lifecycle.as_ref().and_then(|l| l.post_start.clone()) {
            Some(handler) => {
                self.slots[slot].hook_running = true;
                let Some(place) = self.place(slot) else { return };
                let context = Arc::clone(&self.context);
                self.spawn(async move {
                    let result = hooks::run(&context, &place, &declared, &handler).await;
                    Message::PostStarted { slot, attempt, result }
                });
            }
            None => self.begin_probes(slot),
        }
    }

    pub(super) fn post_started(&mut self, slot: usize, attempt: u32, result: Result<(), String>) {
        self.slots[slot].hook_running = false;
        let record = &self.record.containers[slot];
        if record.restart_count != attempt || !record.running() {
            return;
        }
        match result {
            Ok(()) => self.begin_probes(slot),
            Err(error) => {
                let name = record.name.clone();
                tracing::warn!(container = name, error, "the postStart hook failed");
                let message = "PostStartHook failed".to_owned();
                self.context.recorder.container(&self.pod, &name, Severity::Warning, "FailedPostStartHook", message);
                self.stop(slot, self.grace(), "FailedPostStartHook");
            }
        }
    }

    fn begin_probes(&mut self, slot: usize) {
        if self.declared(slot).startup_probe.is_some() {
            self.probe(slot, ProbeKind::Startup);
        } else {
            self.container_started(slot);
        }
    }

    fn container_started(&mut self, slot: usize) {
        let declared = self.declared(slot);
        let record = &mut self.record.containers[slot];
        record.started = true;
        if declared.readiness_probe.is_none() {
            record.ready = true;
        }
        self.watch_health(slot);
    }

    fn watch_health(&mut self, slot: usize) {
        let declared = self.declared(slot);
        if declared.readiness_probe.is_some() {
            self.probe(slot, ProbeKind::Readiness);
        }
        if declared.liveness_probe.is_some() {
            self.probe(slot, ProbeKind::Liveness);
        }
    }

    /// After an adoption: what had started goes on being watched.
    pub(super) fn resume_probes(&mut self, slot: usize) {
        if self.record.containers[slot].started { self.watch_health(slot) } else { self.begin_probes(slot) }
    }

    fn probe(&mut self, slot: usize, kind: ProbeKind) {
        let Some(place) = self.place_of(slot) else { return };
        let record = &self.record.containers[slot];
        let Current::Running { started_at, .. } = record.current else { return };
        let attempt = record.restart_count;
        let outbox = self.outbox.clone();
        let report = move |passes| outbox.send(Message::Probe { slot, attempt, kind, passes }).is_ok();
        let worker = probes::Worker {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            container: self.declared(slot),
            place,
            kind,
            started_at,
            ready: record.ready,
        };
        self.slots[slot].probes.push((kind, tokio::spawn(worker.run(report)).abort_handle()));
    }

    pub(super) fn probed(&mut self, slot: usize, attempt: u32, kind: ProbeKind, passes: bool) {
        let record = &self.record.containers[slot];
        if record.restart_count != attempt || !record.running() {
            return;
        }
        let declared = self.declared(slot);
        match (kind, passes) {
            (ProbeKind::Readiness, passes) => self.record.containers[slot].ready = passes,
            (ProbeKind::Startup, true) => self.container_started(slot),
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                let (probe, name) = match kind {
                    ProbeKind::Startup => (declared.startup_probe, "startup"),
                    _ => (declared.liveness_probe, "liveness"),
                };
                let grace =
                    probe.and_then(|p| p.termination_grace_period_seconds).map_or_else(|| self.grace(), seconds);
                self.slots[slot].stop_probes();
                self.stop(slot, grace, &format!("Container {} failed {name} probe, will be restarted", declared.name));
            }
        }
    }

    /// Hears of its end.
    pub(super) fn watch_container(&mut self, slot: usize, sandbox: String) {
        let record = &self.record.containers[slot];
        let attempt = record.restart_count;
        let (context, container) = (Arc::clone(&self.context), runtime_id(&record.name, attempt));
        self.spawn(async move {
            let exit = context.runtime.wait(&sandbox, &container).await;
            Message::Ended { slot, attempt, exit: exit.ok() }
        });
    }

    pub(super) fn ended(&mut self, slot: usize, attempt: u32, exit: Option<ExitStatus>) {
        let declared = self.declared(slot);
        let record = &mut self.record.containers[slot];
        let Current::Running { id, started_at } = &record.current else { return };
        if record.restart_count != attempt {
            return;
        }
        let (id, started_at) = (id.clone(), *started_at);
        self.slots[slot].stop_probes();
        self.slots[slot].stopping = None;
        let time = |t: std::time::SystemTime| Timestamp::try_from(t).unwrap_or_else(|_| Timestamp::now());
        let (file, log) =
            (self.paths.termination_message(&record.name, attempt), self.paths.log(&record.name, attempt));
        let ended = match exit {
            Some(exit) => Ended {
                id,
                exit_code: exit.exit_code,
                signal: exit.signal,
                reason: match (exit.oom_killed, exit.known, exit.exit_code) {
                    (true, ..) => "OOMKilled",
                    (_, false, _) => "Unknown",
                    (_, _, 0) => "Completed",
                    _ => "Error",
                }
                .to_owned(),
                message: termination_message::read(&declared, &file, &log, exit.exit_code),
                started_at: Some(started_at),
                finished_at: time(exit.finished_at),
            },
            None => Ended { started_at: Some(started_at), ..super::vanished(id) },
        };
        let lost = exit.is_none_or(|e| !e.known);
        let ended = if std::mem::take(&mut self.slots[slot].ends_for_restart) {
            Ended { reason: together::REASON.to_owned(), message: Some(together::MESSAGE.to_owned()), ..ended }
        } else {
            // Those that are ended for it do not cause it again.
            let caused = !lost && self.ending.is_none() && restart::of_all(&declared, ended.exit_code);
            self.record.restarting |= caused;
            ended
        };
        let record = &mut self.record.containers[slot];
        record.end(ended);
        if std::mem::take(&mut self.slots[slot].ends_for_resize) {
            // Not its own fault: it starts again at once.
            record.backoff = Backoff::default();
        }
        if lost && self.ending.is_none() {
            self.check_sandbox();
        }
    }

    /// A container was lost: if its sandbox is, everything starts anew in another one.
    fn check_sandbox(&mut self) {
        if let Need::Up(up) = &self.sandbox {
            tracing::warn!(pod = self.record.name, sandbox = up.id, "the sandbox of a pod was lost");
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.context.recorder.pod(&self.pod, Severity::Normal, "SandboxChanged", message);
            self.lose_sandbox();
        }
    }

    fn hold(&mut self, slot: usize, hold: Hold) {
        self.wake_at_time(hold.until);
        let (namespace, name) = (&self.record.namespace, &self.record.name);
        let pod_text = format!("{name}_{namespace}({})", self.uid);
        let record = &mut self.record.containers[slot];
        let container = record.name.clone();
        if !self.slots[slot].back_off_told {
            self.slots[slot].back_off_told = true;
            let message = format!("Back-off restarting failed container {container} in pod {pod_text}");
            self.context.recorder.container(&self.pod, &container, Severity::Warning, "BackOff", message);
        }
        let delay = go_duration::format(i64::try_from(hold.delay.as_nanos()).unwrap_or(i64::MAX));
        let message = format!("back-off {delay} restarting failed container={container} pod={pod_text}");
        record.wait_for("CrashLoopBackOff", Some(message));
    }

    pub(super) fn place_of(&self, slot: usize) -> Option<Place> {
        let record = &self.record.containers[slot];
        let id = record.running_id()?;
        // Right after an adoption the sandbox is only in the record.
        let sandbox = self.sandbox.up().map(|s| s.id.clone()).or_else(|| self.record.sandbox.clone())?;
        debug_assert!(id.starts_with(&sandbox));
        Some(Place {
            sandbox,
            container: runtime_id(&record.name, record.restart_count),
            pod_ip: self.record.pod_ips.first().cloned().unwrap_or_default(),
        })
    }

    fn place(&self, slot: usize) -> Option<Place> {
        self.place_of(slot)
    }

    fn prune_logs(&self, slot: usize, attempt: u32) {
        // The log of the attempt before stays for `--previous`.
        if let Some(old) = attempt.checked_sub(2) {
            let name = &self.record.containers[slot].name;
            let (log, message) = (self.paths.log(name, old), self.paths.termination_message(name, old));
            let (links, logs) = (self.paths.log_links.clone(), self.paths.logs.clone());
            tokio::task::spawn_blocking(move || {
                let _ = std::fs::remove_file(&message);
                let _ = std::fs::remove_file(&log);
                for rotated in 1..100 {
                    if std::fs::remove_file(format!("{}.{rotated}", log.display())).is_err() {
                        break;
                    }
                }
                links::drop_dead(links.as_deref(), &logs);
            });
        }
    }

    /// The role of a container.
    pub(super) fn role(&self, slot: usize) -> Role {
        self.record.containers[slot].role
    }
}

/// A number of seconds from the API.
pub(super) fn seconds(value: i64) -> Duration {
    Duration::from_secs(value.max(0).unsigned_abs())
}

fn next_delay(delay: Duration, first: Duration, longest: Duration) -> Duration {
    if delay.is_zero() { first } else { (delay * 2).min(longest) }
}

/// A span from now.
pub(super) fn after(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
