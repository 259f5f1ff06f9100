//! CSI drivers: found by their sockets in `plugins_registry`, announced in the node's CSINode, and called to stage and
//! publish volumes (CSI specification 1.x, node service; Kubernetes' `pluginregistration` v1).

mod announce;
mod attachment;
mod call;
mod driver;
mod expand;
mod held;
mod in_use;
mod limit;
mod place;
mod publish;
mod record;
mod registry;
mod shared_mount;
mod tokens;
mod volume;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::sync::watch;

pub use held::Holding;
pub use in_use::tell_again;
pub use record::{Published, unpublish_all};
pub use registry::run;
pub use shared_mount::ensure as share_mounts;
pub use volume::{inline, persistent};

pub use driver::Driver;

/// The drivers that have registered.
#[derive(Default)]
pub struct Drivers {
    all: RwLock<BTreeMap<String, Arc<Driver>>>,
    /// Changes when one registers.
    comings: watch::Sender<u64>,
    /// The last one that had no room for a volume more.
    exhausted: watch::Sender<String>,
}

impl Drivers {
    /// The driver of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Driver>> {
        self.all.read().get(name).cloned()
    }

    /// Waits for `rest`, or until a driver registers.
    pub async fn rest(&self, rest: Duration) {
        let mut comings = self.comings.subscribe();
        let _ = tokio::time::timeout(rest, comings.changed()).await;
    }

    /// A volume of that driver could not be attached for want of room.
    fn exhaust(&self, name: &str) {
        self.exhausted.send_replace(name.to_owned());
    }

    fn exhausted(&self) -> watch::Receiver<String> {
        self.exhausted.subscribe()
    }

    fn all(&self) -> Vec<Arc<Driver>> {
        self.all.read().values().cloned().collect()
    }

    fn put(&self, driver: Arc<Driver>) {
        self.all.write().insert(driver.name.clone(), driver);
        self.comings.send_modify(|n| *n += 1);
    }

    /// The driver that registered by that socket goes.
    fn remove_by(&self, socket: &std::path::Path) -> bool {
        let mut all = self.all.write();
        let before = all.len();
        all.retain(|_, driver| driver.registered_by != socket);
        all.len() != before
    }
}

/// Where drivers find and leave things below the agent's directory, as below the kubelet's.
fn registry_dir(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("plugins_registry")
}

/// Hex of the SHA-256 of parts.
fn digest(parts: &[&str]) -> String {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}
