//! Keeps the store's history to the last ten minutes or so, as upstream's API server does with etcd.

use std::{sync::Arc, time::Duration};

use store::{Embedded, Store};

use crate::allocator;

/// Between looks at what has been written.
const LOOK: Duration = Duration::from_secs(30);
/// Looks in half of the time that history lasts.
const LOOKS: u32 = 10;
/// From so many revisions between two looks it was a burst: idle machines renew a few leases, no more.
const BURST: u64 = 200;

/// Every five minutes in which something changed, forgets what was history already five minutes ago. After a burst of
/// writes the memory that it has left behind goes back to the machine.
pub async fn run(store: Arc<Embedded>) {
    let (mut before, mut seen, mut burst) = (store.revision(), store.revision(), false);
    for look in 1_u32.. {
        tokio::time::sleep(LOOK).await;
        let now = store.revision();
        let busy = now - seen >= BURST;
        if burst && !busy {
            allocator::give_back();
        }
        (seen, burst) = (now, busy);
        if !look.is_multiple_of(LOOKS) {
            continue;
        }
        if before > 0
            && now > before
            && let Err(error) = store.compact(before).await
        {
            tracing::warn!(%error, "the store could not be compacted");
        }
        before = now;
    }
}
