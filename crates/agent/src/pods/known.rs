//! The pods of this node, for those who ask.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::{
    actor::{Eviction, Message, PodView},
    dispatcher::deleted,
};

/// The pods of this node as other parts of the agent see them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pods {
    pub(super) views: Arc<RwLock<HashMap<String, Known>>>,
}

/// One pod: what it does, and the way to its actor.
pub struct Known {
    pub(super) view: watch::Receiver<Arc<PodView>>,
    pub(super) outbox: mpsc::UnboundedSender<Message>,
}

impl Pods {
    /// The pod of that name that is not about to go, if there are two.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<PodView>> {
        let views = self.views.read();
        let mut found = None;
        for known in views.values() {
            let view = Arc::clone(&known.view.borrow());
            let meta = &view.pod.metadata;
            if meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name) {
                let live = meta.deletion_timestamp.is_none();
                found = Some(view);
                if live {
                    break;
                }
            }
        }
        found
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<PodView>> {
        self.views.read().values().map(|known| Arc::clone(&known.view.borrow())).collect()
    }

    /// Follows one pod's changes.
    pub fn follow(&self, uid: &str) -> Option<watch::Receiver<Arc<PodView>>> {
        self.views.read().get(uid).map(|known| known.view.clone())
    }

    /// Ends a static pod until the next agent starts.
    pub fn end_static(&self, uid: &str) {
        if let Some(known) = self.views.read().get(uid) {
            let pod = deleted(&known.view.borrow().pod);
            let _ = known.outbox.send(Message::Pod(Arc::new(pod)));
        }
    }

    /// Ends a pod that is on the node; one that is not is fine.
    pub fn evict(&self, uid: &str, eviction: Eviction) {
        if let Some(known) = self.views.read().get(uid) {
            // An actor that is gone has nothing to end.
            let _ = known.outbox.send(Message::Evict(eviction));
        }
    }
}
