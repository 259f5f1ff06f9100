//! One timer a connection, however many deadlines it has one after the other.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::about_now;

/// The time by which something must have happened. Moving it later costs nothing: the timer looks again when it rings.
pub struct Deadline {
    at: Cell<Instant>,
    timer: RefCell<Pin<Box<Sleep>>>,
}

/// The deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl Deadline {
    /// One that is so far ahead.
    pub fn new(after: Duration) -> Self {
        let at = Instant::now() + after;
        Self { at: Cell::new(at), timer: RefCell::new(Box::pin(sleep_until(at))) }
    }

    /// Moves it.
    pub fn set(&self, after: Duration) {
        self.at.set(about_now() + after);
    }

    /// Moves it to a time.
    pub fn set_at(&self, at: Instant) {
        self.at.set(at);
    }

    /// Runs a future until it is done or the deadline, wherever it has moved by then, has passed.
    pub async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let mut timer = self.timer.borrow_mut();
            let at = self.at.get();
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            while timer.as_mut().poll(cx).is_ready() {
                let at = self.at.get();
                if at <= Instant::now() {
                    return Poll::Ready(Err(Elapsed));
                }
                timer.as_mut().reset(at);
            }
            Poll::Pending
        })
        .await
    }
}
