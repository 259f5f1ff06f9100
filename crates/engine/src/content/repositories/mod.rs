//! Repositories: what the local registry has under which name. Only that; the bytes are the blobs that the
//! engine's images use too.
//!
//! One fact is one small file, written durably and put in place by a rename, so the cost of a push does not
//! grow with what is there already, and any number of processes may serve one directory:
//!
//! ```text
//! registry/REPOSITORY/_manifests/HEX        the manifest's media type, length and what it needs
//!                     _tags/TAG             the digest that the tag stands for
//!                     _blobs/HEX            (empty) the blob may be read in this repository
//!                     _referrers/HEX/HEX    (empty) subject / the manifest that refers to it
//!                     _uploads/ID           a blob under way
//!                     _lock                 held by whoever changes manifests or tags
//! registry/_promises/HEX                    (empty) until its modification time, which lies in the future, a
//!                                           client counts on the blob, whether or not a manifest needs it
//! ```
//! No component of a repository's name begins with `_`, nor a tag with `.`, so nothing of this can collide.

mod collect;
mod evict;
mod facts;
mod links;
mod manifests;
mod outline;
mod uploads;

use std::{fs::File, path::PathBuf};

pub use evict::Evicted;
pub use manifests::{ManifestError, ManifestRecord, Referrer, StoredManifest, Tag};
pub use uploads::Upload;

use super::{
    Content, ContentError,
    reference::{is_repository, is_tag},
};

/// One repository of the local registry; it need not exist (yet). Its methods block.
#[derive(Clone)]
pub struct Repository {
    content: Content,
    name: String,
    dir: PathBuf,
}

impl Content {
    /// The repository of that name, unless it can't be one (the grammar of the OCI distribution
    /// specification, 255 bytes at most).
    pub fn repository(&self, name: &str) -> Option<Repository> {
        let dir = || self.path("registry").join(name);
        is_repository(name).then(|| Repository { content: self.clone(), name: name.to_owned(), dir: dir() })
    }

    /// The names of all repositories that hold a manifest, in order.
    ///
    /// # Errors
    /// The disk's.
    pub fn repositories(&self) -> Result<Vec<String>, ContentError> {
        let mut found = Vec::new();
        for repository in self.all_repositories()? {
            if !facts::list(&repository.dir.join("_manifests"))?.is_empty() {
                found.push(repository.name);
            }
        }
        found.sort();
        Ok(found)
    }

    /// All that have a directory, also those with nothing but uploads.
    fn all_repositories(&self) -> Result<Vec<Repository>, ContentError> {
        let mut found = Vec::new();
        let mut waiting = vec![String::new()];
        while let Some(name) = waiting.pop() {
            let names = facts::list(&self.path("registry").join(&name))?;
            if names.iter().any(|n| n.starts_with('_') && n != "_promises") {
                found.extend(self.repository(&name));
            }
            let inner = names.iter().filter(|n| !n.starts_with(['_', '.']));
            waiting.extend(inner.map(|n| if name.is_empty() { n.clone() } else { format!("{name}/{n}") }));
        }
        Ok(found)
    }
}

impl Repository {
    /// Its name, for instance `library/redis`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a text can be a tag: a word character, then up to 127 word characters, dots and hyphens.
    pub fn is_tag(text: &str) -> bool {
        is_tag(text)
    }

    /// Whether anything was ever finished in it.
    pub fn exists(&self) -> bool {
        ["_manifests", "_blobs"].iter().any(|d| self.dir.join(d).exists())
    }

    /// Keeps others from changing manifests and tags until dropped.
    fn lock(&self) -> Result<File, ContentError> {
        let fail = |e| ContentError::io("lock", &self.dir, e);
        facts::make_dir(&self.dir)?;
        let options = File::options().create(true).truncate(false).write(true).clone();
        let file = options.open(self.dir.join("_lock")).map_err(fail)?;
        file.lock().map_err(fail)?;
        Ok(file)
    }
}
