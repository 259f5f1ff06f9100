//! Memory goes back each time that work is over, without a clock while there is none.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::sync::Notify;

/// From work that has come to a look whether it is over.
const LOOK: Duration = Duration::from_secs(2);
/// Between looks at most, where work comes again and again.
const LONGEST_LOOK: Duration = Duration::from_secs(64);

/// Told of work that comes, so that an idle process needs no clock to know that it is idle.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Notify>);

impl Activity {
    /// Work has come: a connection, say.
    pub fn note(&self) {
        self.0.notify_one();
    }

    /// Gives memory back each time that work is over, the start's first. Sleeps until work comes. Never ends.
    pub(crate) async fn follow(self) {
        let mut pause = LOOK;
        loop {
            while resident::is_at_work(pause).await {}
            // What came meanwhile is over, too.
            let _ = self.0.notified().now_or_never();
            resident::give_back();
            let again = tokio::time::timeout(pause, self.0.notified()).await.is_ok();
            pause = if again { (pause * 2).min(LONGEST_LOOK) } else { LOOK };
            if !again {
                self.0.notified().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

    use super::Activity;

    #[tokio::test]
    async fn memory_is_given_back_each_time_that_work_is_over() {
        static GIVEN: AtomicUsize = AtomicUsize::new(0);
        resident::also_gives_back(|| {
            GIVEN.fetch_add(1, Ordering::SeqCst);
        });
        let activity = Activity::default();
        tokio::spawn(activity.clone().follow());
        for times in 1..=2 {
            let begun = Instant::now();
            while GIVEN.load(Ordering::SeqCst) < times {
                assert!(begun.elapsed() < Duration::from_secs(120), "it rests, and nothing is given back");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            activity.note();
        }
    }
}
