//! Pods that a directory of manifests declares rather than the API: they run whatever the API does, and it shows each
//! as a mirror.

mod manifest;
mod watch;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

pub use manifest::{CONFIG_HASH, CONFIG_MIRROR, is_static, mirror_of};

/// All static pods there are, by `NAMESPACE/NAME`.
pub type Declared = BTreeMap<String, Arc<Pod>>;

/// Follows the directory: the first set comes at once, another one after each change. Ends with the receiver.
pub fn follow(dir: PathBuf, node_name: String) -> mpsc::Receiver<Declared> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut changes = watch::Changes::of(&dir);
        let mut known = manifest::Known::default();
        loop {
            let (dir, node_name) = (dir.clone(), node_name.clone());
            let read = tokio::task::spawn_blocking(move || {
                let declared = known.read(&dir, &node_name);
                (known, declared)
            });
            let Ok((back, declared)) = read.await else { return };
            known = back;
            if sender.send(declared).await.is_err() {
                return;
            }
            tokio::select! {
                () = changes.next() => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
}
