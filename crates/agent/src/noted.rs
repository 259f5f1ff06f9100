//! Names that the next agent has to know of, in a file: images that are here because a pod wanted them (those alone may go
//! when the disk is short: what someone built, imported or pulled by other ways is theirs), and resources that device
//! plugins have brought.

use std::{collections::BTreeSet, path::PathBuf};

use parking_lot::Mutex;

use crate::json_file;

/// A set of names in a file.
pub struct Noted {
    path: PathBuf,
    names: Mutex<BTreeSet<String>>,
}

impl Noted {
    /// Reads the file; one that is not there or can't be read is as an empty one.
    pub fn load(path: PathBuf) -> Self {
        let names = Mutex::new(json_file::load(&path).unwrap_or_default());
        Self { path, names }
    }

    /// Whether it is there.
    pub fn has(&self, name: &str) -> bool {
        self.names.lock().contains(name)
    }

    /// All of them.
    pub fn all(&self) -> BTreeSet<String> {
        self.names.lock().clone()
    }

    /// Notes one.
    pub fn add(&self, name: &str) {
        let mut names = self.names.lock();
        if names.insert(name.to_owned()) {
            self.save(&names);
        }
    }

    /// Forgets one that is gone.
    pub fn remove(&self, name: &str) {
        let mut names = self.names.lock();
        if names.remove(name) {
            self.save(&names);
        }
    }

    fn save(&self, names: &BTreeSet<String>) {
        if let Err(error) = json_file::save(&self.path, names) {
            tracing::warn!(%error, file = %self.path.display(), "what the next agent has to know of can't be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_to_the_next_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let load = || Noted::load(dir.path().join("names.json"));
        load().add("a");
        load().add("b");
        load().remove("a");
        assert!(load().has("b") && !load().has("a"));
        assert_eq!(load().all().len(), 1);
    }
}
