//! CSI drivers: found by their sockets in `plugins_registry`, announced in the node's CSINode, and called to stage and
//! publish volumes (CSI specification 1.x, node service; Kubernetes' `pluginregistration` v1).

mod announce;
mod call;
mod driver;
mod expand;
mod record;
mod registry;
mod shared_mount;
mod tokens;
mod volume;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use parking_lot::RwLock;

pub use record::{Published, unpublish_all};
pub use registry::run;
pub use shared_mount::ensure as share_mounts;
pub use volume::{inline, persistent};

pub use driver::Driver;

/// The drivers that have registered. Cheap to clone.
#[derive(Clone, Default)]
pub struct Drivers(Arc<RwLock<BTreeMap<String, Arc<Driver>>>>);

impl Drivers {
    /// The driver of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Driver>> {
        self.0.read().get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<Driver>> {
        self.0.read().values().cloned().collect()
    }

    fn put(&self, driver: Arc<Driver>) {
        self.0.write().insert(driver.name.clone(), driver);
    }

    /// The driver that registered by that socket goes.
    fn remove_by(&self, socket: &std::path::Path) -> bool {
        let mut all = self.0.write();
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
