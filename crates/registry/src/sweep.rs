//! When garbage is collected: after deletions, and again when something that kept it ends. No clock runs otherwise.

use std::time::{Duration, SystemTime};

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

    /// Returns after how long it is worth another try.
    async fn sweep_once(&self) -> Option<Duration> {
        match self.collect().await {
            Ok(done) if done.postponed => Some(POSTPONED),
            Ok(done) => {
                if done.blobs > 0 {
                    tracing::info!(blobs = done.blobs, bytes = done.bytes, "garbage collected");
                }
                done.due
                    .map(|due| due.duration_since(SystemTime::now()).unwrap_or_default().max(Duration::from_secs(1)))
            }
            Err(error) => {
                tracing::error!(%error, "garbage can't be collected");
                None
            }
        }
    }
}
