//! One probe of one running container.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::time::Instant;

use super::{
    ProbeKind, exec, grpc, http, port,
    state::{Outcome, State, Verdict},
};
use crate::{context::Context, events::Severity, hooks::Place};

/// What a probe needs.
pub struct Worker {
    /// Shared.
    pub context: Arc<Context>,
    /// The pod, for events.
    pub pod: Arc<Pod>,
    /// The container.
    pub container: Container,
    /// Where it runs.
    pub place: Place,
    /// Which probe.
    pub kind: ProbeKind,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// The readiness so far (after an adoption).
    pub ready: bool,
}

impl Worker {
    /// Probes until `report` (told each change of the verdict) returns false.
    pub async fn run(self, report: impl Fn(bool) -> bool + Send) {
        let Some(probe) = self.probe() else { return };
        let positive =
            |n: Option<i32>, default: u64| n.filter(|n| *n > 0).map_or(default, |n| u64::from(n.unsigned_abs()));
        let period = Duration::from_secs(positive(probe.period_seconds, 10));
        let timeout = Duration::from_secs(positive(probe.timeout_seconds, 1));
        let before = match self.kind {
            ProbeKind::Startup => None,
            ProbeKind::Liveness => Some(true),
            ProbeKind::Readiness => Some(self.ready),
        };
        let mut state = State::new(probe.success_threshold.unwrap_or(1), probe.failure_threshold.unwrap_or(3), before);
        tokio::time::sleep_until(self.first_try(&probe)).await;
        // The container needs a moment to listen: a probe that fails at once is tried again soon, uncounted, so that
        // a pod is not unready for a whole period because it was asked a few milliseconds too early.
        let mut eager = Eager::new(period);
        let mut next = Instant::now();
        loop {
            let begin = Instant::now();
            let outcome = self.attempt(&probe, timeout).await;
            let took = begin.elapsed();
            if let (Outcome::Failure(_) | Outcome::Unknown(_), Some(wait), true) =
                (&outcome, eager.next(), self.kind != ProbeKind::Liveness)
            {
                tokio::time::sleep(wait).await;
                continue;
            }
            eager.over();
            let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
            self.context.probes.add(uid, &self.container.name, self.kind, &outcome, took);
            self.tell(&outcome);
            if let Verdict::Now(passes) = state.count(&outcome) {
                if !report(passes) {
                    return;
                }
                if self.kind != ProbeKind::Readiness && (self.kind == ProbeKind::Startup || !passes) {
                    return;
                }
            }
            next = (next + period).max(Instant::now());
            tokio::time::sleep_until(next).await;
        }
    }

    fn probe(&self) -> Option<Probe> {
        match self.kind {
            ProbeKind::Liveness => self.container.liveness_probe.clone(),
            ProbeKind::Readiness => self.container.readiness_probe.clone(),
            ProbeKind::Startup => self.container.startup_probe.clone(),
        }
    }

    fn first_try(&self, probe: &Probe) -> Instant {
        let delay = Duration::from_secs(u64::from(probe.initial_delay_seconds.unwrap_or(0).max(0).unsigned_abs()));
        let runs = Duration::try_from(Timestamp::now().duration_since(self.started_at)).unwrap_or_default();
        Instant::now() + delay.saturating_sub(runs)
    }

    async fn attempt(&self, probe: &Probe, timeout: Duration) -> Outcome {
        if let Some(action) = &probe.exec {
            let command = action.command.clone().unwrap_or_default();
            let ran =
                exec::run(&self.context, &self.place.sandbox, &self.place.container, &command, Some(timeout)).await;
            return match ran {
                Ok(output) if output.exit_code == 0 => Outcome::Success,
                Ok(output) => Outcome::Failure(String::from_utf8_lossy(&output.text).into_owned()),
                Err(error @ exec::Failure::TimedOut(..)) => Outcome::Failure(error.to_string()),
                // Of a container whose command cannot be run nothing is known.
                Err(error @ exec::Failure::NotRun(_)) => Outcome::Unknown(error.to_string()),
            };
        }
        if let Some(action) = &probe.http_get {
            return match http::request(action, &self.container, &self.place.pod_ip) {
                Ok(request) => http::probe(&request, timeout).await,
                Err(error) => Outcome::Unknown(error),
            };
        }
        if let Some(action) = &probe.tcp_socket {
            let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&self.place.pod_ip);
            return match port::number(&action.port, &self.container) {
                Ok(port) => port::probe(host, port, timeout).await,
                Err(error) => Outcome::Unknown(error),
            };
        }
        if let Some(action) = &probe.grpc {
            return match u16::try_from(action.port) {
                Ok(port) => {
                    grpc::probe(&self.place.pod_ip, port, action.service.as_deref().unwrap_or_default(), timeout).await
                }
                Err(_) => Outcome::Unknown("invalid port".to_owned()),
            };
        }
        Outcome::Unknown("missing probe handler".to_owned())
    }

    fn tell(&self, outcome: &Outcome) {
        let (reason, message) = match outcome {
            Outcome::Success => return,
            Outcome::Warning(what) => ("ProbeWarning", format!("{} probe warning: {what}", self.kind.name())),
            Outcome::Failure(why) => ("Unhealthy", format!("{} probe failed: {why}", self.kind.name())),
            Outcome::Unknown(why) => {
                ("Unhealthy", format!("{} probe errored and resulted in unknown state: {why}", self.kind.name()))
            }
        };
        self.context.recorder.container(&self.pod, &self.container.name, Severity::Warning, reason, message);
    }
}

/// Quick tries right after the start: 5 ms, doubling, for at most a second (or a period).
struct Eager {
    wait: Duration,
    left: Duration,
}

impl Eager {
    fn new(period: Duration) -> Self {
        Self { wait: Duration::from_millis(5), left: period.min(Duration::from_secs(1)) }
    }

    fn next(&mut self) -> Option<Duration> {
        if self.wait > self.left {
            return None;
        }
        let wait = self.wait;
        self.left -= wait;
        self.wait *= 2;
        Some(wait)
    }

    fn over(&mut self) {
        self.left = Duration::ZERO;
    }
}
