//! Events give way: they tell of what happened, while every other write makes something happen. As long as others
//! are being written an event waits, though not for long, so that a burst of pods is not held up by its own story.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

/// How long an event waits at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who is writing.
#[derive(Default)]
pub(crate) struct Precedence {
    /// Writes under way that nobody else's have to wait for.
    urgent: AtomicUsize,
    quiet: Notify,
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
        let deadline = tokio::time::Instant::now() + patience;
        while self.urgent.load(Ordering::Acquire) > 0 {
            if tokio::time::timeout_at(deadline, self.quiet.notified()).await.is_err() {
                break;
            }
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

    #[tokio::test]
    async fn patience_ends() {
        let precedence = Precedence::default();
        let _busy = precedence.urgent();
        precedence.wait(Duration::from_millis(1)).await;
    }
}
