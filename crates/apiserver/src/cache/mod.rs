//! What the store holds, in memory, fed by one watch: the source of every GET, LIST and WATCH. Objects are
//! kept as the bytes that the store keeps; readers share them.

mod feed;
mod kind;
mod object;
mod ring;
mod route;

use std::{collections::HashMap, sync::Arc, time::Duration};

use store::{Revision, Store};
use tokio::sync::watch;

pub(crate) use kind::{KindCache, Tail};
pub(crate) use object::{Cached, Change, ChangeKind, frame};
pub(crate) use route::FIELD as ROUTED_FIELD;

/// Everything below this prefix is an object of the API: `/registry/{storage prefix}/[namespace/]name`.
pub(crate) const ROOT: &str = "/registry/";

/// How long a read waits for a revision that is not here yet.
const REVISION_WAIT: Duration = Duration::from_secs(3);

/// The caches of all kinds.
pub(crate) struct Cache {
    kinds: HashMap<&'static str, Arc<KindCache>>,
    /// Every change up to this revision is in the caches.
    applied: watch::Sender<Revision>,
    /// Raised when idle watchers should learn the present revision.
    bookmark: watch::Sender<Revision>,
    store: Arc<dyn Store>,
}

/// The revision asked for did not come in time.
#[derive(Debug)]
pub(crate) struct TooLarge {
    /// The present one.
    pub current: Revision,
}

impl Cache {
    /// Loads everything and follows the store until it closes or the cache is dropped.
    /// `prefixes` names the storage prefixes with their field selectors: (label, JSON pointer).
    pub async fn load(
        store: Arc<dyn Store>,
        prefixes: impl IntoIterator<Item = (&'static str, bool, object::Selectable)>,
    ) -> Result<Arc<Cache>, store::Error> {
        let kinds = prefixes
            .into_iter()
            .map(|(prefix, namespaced, selectable)| (prefix, Arc::new(KindCache::new(prefix, namespaced, selectable))))
            .collect();
        let cache = Arc::new(Cache { kinds, applied: watch::Sender::new(0), bookmark: watch::Sender::new(0), store });
        feed::start(&cache).await?;
        Ok(cache)
    }

    /// The cache of a storage prefix; every prefix of the catalogue has one.
    pub fn kind(&self, prefix: &str) -> &Arc<KindCache> {
        self.kinds.get(prefix).expect("the cache is made from the same catalogue that requests are resolved with")
    }

    /// Every change up to this revision can be read.
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until all that was committed before the call can be read.
    pub async fn fresh(&self) {
        let wanted = self.store.revision();
        if self.applied() >= wanted {
            return;
        }
        let _ = tokio::time::timeout(REVISION_WAIT, self.applied.subscribe().wait_for(|r| *r >= wanted)).await;
    }

    /// Waits until `revision` can be read.
    pub async fn reach(&self, revision: Revision) -> Result<(), TooLarge> {
        if self.applied() >= revision {
            return Ok(());
        }
        match tokio::time::timeout(REVISION_WAIT, self.applied.subscribe().wait_for(|r| *r >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(TooLarge { current: self.applied() }),
        }
    }

    /// Fires when watchers that ask for bookmarks should get one.
    pub fn bookmarks(&self) -> watch::Receiver<Revision> {
        self.bookmark.subscribe()
    }
}
