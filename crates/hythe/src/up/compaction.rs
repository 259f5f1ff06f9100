//! Keeps the store's history to the last ten minutes or so, as upstream's API server does with etcd.

use std::{sync::Arc, time::Duration};

use store::{Embedded, Store};

use crate::allocator;

/// Half of how long history lasts.
const INTERVAL: Duration = Duration::from_secs(300);

/// Every interval in which something changed, forgets what was history already an interval ago, and gives memory
/// that a burst of writes left behind back to the machine.
pub async fn run(store: Arc<Embedded>) {
    let mut before = store.revision();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = store.revision();
        if before > 0
            && now > before
            && let Err(error) = store.compact(before).await
        {
            tracing::warn!(%error, "the store could not be compacted");
        }
        if now > before {
            allocator::give_back();
        }
        before = now;
    }
}
