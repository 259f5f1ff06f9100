//! Keeps the store's history to the last ten minutes or so, as upstream's API server does with etcd.

use std::{sync::Arc, time::Duration};

use store::{Embedded, Store};

/// Between two looks: half of the time that history lasts.
const LOOK: Duration = Duration::from_secs(300);

/// Every five minutes in which something changed, forgets what was history already five minutes ago.
pub async fn run(store: Arc<Embedded>) {
    let mut before = store.revision();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = store.revision();
        if before > 0
            && now > before
            && let Err(error) = store.compact(before).await
        {
            tracing::warn!(%error, "the store could not be compacted");
        }
        before = now;
    }
}
