//! Ending one container: preStop hook, its turn, its stop signal, the grace period, SIGKILL.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::{sync::watch, time::Instant};

use crate::{
    context::Context,
    events::Severity,
    hooks::{self, Place},
};

/// After the preStop hook a container has at least this long to end by itself.
const MINIMUM: Duration = Duration::from_secs(2);

/// Sees to the end of a container; the one who waits for it hears of the end itself. `deadline` may move nearer; the stop
/// signal waits until it is the container's `turn`, or until the deadline.
pub async fn stop(
    context: Arc<Context>,
    pod: Arc<Pod>,
    container: Container,
    place: Place,
    signal: i32,
    mut deadline: watch::Receiver<Instant>,
    mut turn: watch::Receiver<bool>,
) {
    let immediate = *deadline.borrow() <= Instant::now();
    if !immediate {
        if let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) {
            let hook = hooks::run(&context, &place, &container, handler);
            tokio::select! {
                done = hook => if let Err(error) = done {
                    tracing::warn!(container = container.name, error, "the preStop hook failed");
                    context.recorder.container(&pod, &container.name, Severity::Warning, "FailedPreStopHook", "PreStopHook failed".to_owned());
                },
                () = passed(&mut deadline) => {
                    tracing::debug!(container = container.name, "the preStop hook did not end within the grace period");
                }
            }
        }
        let wait = context.runtime.wait(&place.sandbox, &place.container);
        tokio::select! {
            _ = wait => return,
            // Who decides of the turn may be gone with the agent, which ends no pod by going.
            its = turn.wait_for(|its| *its) => if its.is_err() { return },
            () = passed(&mut deadline) => {}
        }
        let least = Instant::now() + MINIMUM;
        if let Err(error) = context.runtime.signal(&place.sandbox, &place.container, signal).await {
            tracing::debug!(container = container.name, %error, "the stop signal could not be sent");
        }
        let wait = context.runtime.wait(&place.sandbox, &place.container);
        tokio::select! {
            _ = wait => return,
            () = async {
                passed(&mut deadline).await;
                let last = *deadline.borrow() + MINIMUM;
                tokio::time::sleep_until(least.min(last)).await;
            } => {}
        }
    }
    if let Err(error) = context.runtime.signal(&place.sandbox, &place.container, libc::SIGKILL).await {
        tracing::debug!(container = container.name, %error, "the container could not be killed");
    }
}

/// Waits until the deadline, wherever it moves.
async fn passed(deadline: &mut watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() {
                tokio::time::sleep_until(at).await;
                return;
            }
        }
    }
}

/// The number of a signal such as `SIGTERM`, `TERM` or `15`.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    if let Some(offset) = full.strip_prefix("SIGRTMIN") {
        return Some(34 + offset.trim_start_matches('+').parse::<i32>().unwrap_or(0)).filter(|n| (34..=64).contains(n));
    }
    full.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (name, number) in [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGQUIT", Some(3)),
            ("nonsense", None),
            ("0", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
