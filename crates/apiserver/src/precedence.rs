//! Events give way: they tell of what happened, while every other write makes something happen. As long as others
//! are being written an event waits, though not for long, so that a burst of pods is not held up by its own story. When
//! they may be written, many of them come at a pace that leaves most of the machine to those who read.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// How long an event waits at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between one event and the next once there are many: two hundred and fifty a second (a kubelet or a scheduler upstream
/// writes fifty).
const PACE: Duration = Duration::from_millis(4);
/// So much of an unused pace may be made up for: half a thousand events are written as they come.
const SAVED: Duration = Duration::from_secs(2);

/// Who is writing.
#[derive(Default)]
pub(crate) struct Precedence {
    /// Writes under way that nobody else's have to wait for.
    urgent: AtomicUsize,
    quiet: Notify,
    pace: Pace,
}

/// When the next event may be written (the generic cell rate algorithm, ITU-T I.371).
#[derive(Default)]
struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// The time at which an event that comes `now` may be written.
    fn next(&self, now: Instant) -> Instant {
        let mut last = self.0.lock();
        let idle = now.checked_sub(SAVED).unwrap_or(now);
        let next = last.map_or(idle, |last| last.max(idle)) + PACE;
        *last = Some(next);
        next.max(now)
    }
}

/// An urgent write that is under way.
pub(crate) struct Urgent<'p>(&'p Precedence);

/// An event that is being written.
pub(crate) struct Yielding<'p>(&'p Precedence);

impl Precedence {
    /// A write that goes first.
    pub fn urgent(&self) -> Urgent<'_> {
        self.urgent.fetch_add(1, Ordering::AcqRel);
        Urgent(self)
    }

    /// Waits until no urgent write is under way, or patience ends.
    pub async fn give_way(&self) -> Yielding<'_> {
        self.wait(PATIENCE).await
    }

    async fn wait(&self, patience: Duration) -> Yielding<'_> {
        let deadline = Instant::now() + patience;
        while self.urgent.load(Ordering::Acquire) > 0 {
            if tokio::time::timeout_at(deadline, self.quiet.notified()).await.is_err() {
                break;
            }
        }
        let now = Instant::now();
        let at = self.pace.next(now).min(deadline);
        if at > now {
            tokio::time::sleep_until(at).await;
        }
        Yielding(self)
    }

    /// One at a time is let through: those that come after it look again.
    fn pass_on(&self) {
        if self.urgent.load(Ordering::Acquire) == 0 {
            self.quiet.notify_one();
        }
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        if self.0.urgent.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.notify_one();
        }
    }
}

impl Drop for Yielding<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, poll};

    #[tokio::test]
    async fn events_wait_for_urgent_writes_and_then_go_one_after_another() {
        let precedence = Precedence::default();
        drop(precedence.give_way().now_or_never().expect("nobody else writes"));
        let (one, two) = (precedence.urgent(), precedence.urgent());
        let mut first = std::pin::pin!(precedence.give_way());
        let mut second = std::pin::pin!(precedence.give_way());
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(one);
        assert!(poll!(&mut first).is_pending());
        drop(two);
        let std::task::Poll::Ready(passed) = poll!(&mut first) else { panic!("it is quiet") };
        assert!(poll!(&mut second).is_pending());
        drop(passed);
        assert!(poll!(&mut second).is_ready());
    }

    #[test]
    fn a_few_events_go_at_once_and_many_at_a_pace() {
        let (pace, now) = (Pace::default(), Instant::now());
        let waits = |now| pace.next(now) - now;
        let few = SAVED.as_millis() / PACE.as_millis();
        assert!((0..few).all(|_| waits(now).is_zero()));
        assert_eq!((waits(now), waits(now)), (PACE, PACE * 2));
        assert_eq!(waits(now + PACE * 2), PACE);
        let later = now + SAVED * 4;
        assert!((0..few).all(|_| waits(later).is_zero()) && !waits(later).is_zero());
    }

    #[tokio::test]
    async fn patience_ends() {
        let precedence = Precedence::default();
        let _busy = precedence.urgent();
        precedence.wait(Duration::from_millis(1)).await;
    }
}
