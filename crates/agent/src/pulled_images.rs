//! Which images are here because a pod wanted them: those alone may go when the disk is short. What someone built,
//! imported or pulled by other ways is theirs.

use std::{collections::BTreeSet, path::PathBuf};

use parking_lot::Mutex;

/// Ids of images, in a file.
pub struct PulledImages {
    path: PathBuf,
    ids: Mutex<BTreeSet<String>>,
}

impl PulledImages {
    /// Reads the file; one that is not there or can't be read is as an empty one.
    pub fn load(path: PathBuf) -> Self {
        let ids = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, ids: Mutex::new(ids) }
    }

    /// Whether it was pulled for a pod.
    pub fn has(&self, id: &str) -> bool {
        self.ids.lock().contains(id)
    }

    /// Notes one.
    pub fn add(&self, id: &str) {
        let mut ids = self.ids.lock();
        if ids.insert(id.to_owned()) {
            self.save(&ids);
        }
    }

    /// Forgets one that is gone.
    pub fn remove(&self, id: &str) {
        let mut ids = self.ids.lock();
        if ids.remove(id) {
            self.save(&ids);
        }
    }

    fn save(&self, ids: &BTreeSet<String>) {
        let new = self.path.with_extension("new");
        let bytes = serde_json::to_vec(ids).unwrap_or_default();
        if let Err(error) = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.path)) {
            tracing::warn!(%error, "which images pods have pulled can't be noted: they will stay on the disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pulled_is_known_to_the_next_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let load = || PulledImages::load(dir.path().join("pulled.json"));
        load().add("a");
        load().add("b");
        load().remove("a");
        assert!(load().has("b") && !load().has("a"));
    }
}
