//! When garbage is collected: after deletions, and again when something that kept it ends. No clock runs otherwise.

use std::time::{Duration, SystemTime};

use engine::content::ContentError;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::registry::Registry;

/// After somebody else's pull or import stood in the way.
const POSTPONED: Duration = Duration::from_secs(30);
/// More deletions that come within this are swept up together.
const GATHER: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(crate) struct Sweep {
    /// Whether a task is about it.
    running: Mutex<bool>,
    asked: Notify,
}

impl Registry {
    /// Has garbage collected soon.
    pub(crate) fn sweep(&self) {
        self.inner.sweep.asked.notify_one();
        let mut running = self.inner.sweep.running.lock();
        if *running {
            return;
        }
        *running = true;
        // The task must not keep a registry alive that nobody else holds.
        let weak = std::sync::Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let mut wait = Some(GATHER);
            while let Some(duration) = wait {
                let Some(inner) = weak.upgrade() else { return };
                tokio::select! {
                    () = tokio::time::sleep(duration) => {}
                    () = inner.sweep.asked.notified() => tokio::time::sleep(GATHER).await,
                }
                wait = Registry { inner: inner.clone() }.sweep_once().await;
                if wait.is_none() {
                    let mut running = inner.sweep.running.lock();
                    // Asked again meanwhile?
                    if futures::FutureExt::now_or_never(inner.sweep.asked.notified()).is_some() {
                        wait = Some(GATHER);
                    } else {
                        *running = false;
                    }
                }
            }
        });
    }

    /// Has a mirror look whether it keeps too much, soon.
    pub(crate) fn grown(&self) {
        if self.config().mirror.as_ref().is_some_and(|mirror| mirror.limit.is_some()) {
            self.sweep();
        }
    }

    /// Lets go what a mirror keeps beyond its limit; answers when to look again.
    async fn evict(&self) -> Option<SystemTime> {
        let mirror = self.config().mirror.as_ref()?;
        let (limit, idle_since) = (mirror.limit?, SystemTime::now() - mirror.grace);
        let content = self.config().content.clone();
        let evicted = tokio::task::spawn_blocking(move || content.evict_mirrored(limit, idle_since)).await;
        match evicted.unwrap_or_else(|error| Err(ContentError::Interrupted(error.to_string()))) {
            Ok(evicted) => {
                if evicted.manifests > 0 {
                    tracing::info!(evicted.manifests, evicted.bytes, "the mirror lets the longest unused go");
                }
                evicted.due
            }
            Err(error) => {
                tracing::error!(%error, "the mirror can't be kept to its limit");
                None
            }
        }
    }

    /// Returns after how long it is worth another try.
    async fn sweep_once(&self) -> Option<Duration> {
        let evict_at = self.evict().await;
        match self.collect().await {
            Ok(done) if done.postponed => Some(POSTPONED),
            Ok(done) => {
                if done.blobs > 0 {
                    tracing::info!(blobs = done.blobs, bytes = done.bytes, "garbage collected");
                }
                let due = done.due.into_iter().chain(evict_at).min();
                due.map(|due| due.duration_since(SystemTime::now()).unwrap_or_default().max(Duration::from_secs(1)))
            }
            Err(error) => {
                tracing::error!(%error, "garbage can't be collected");
                None
            }
        }
    }
}
