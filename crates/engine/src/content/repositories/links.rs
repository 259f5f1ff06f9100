//! Which blobs may be read in a repository, and which a client was told are here.

use std::{
    fs::{File, FileTimes},
    time::{Duration, SystemTime},
};

use super::{Repository, facts};
use crate::content::{Content, ContentError, Digest};

impl Repository {
    /// The length of a blob that may be read here.
    pub fn blob(&self, digest: &Digest) -> Option<u64> {
        self.is_linked(digest).then(|| self.content.blob_size(digest)).flatten()
    }

    /// As [`Repository::blob`], and the blob stays for `keep` at least even if nothing needs it: the client
    /// is going to push a manifest and will not upload it.
    ///
    /// # Errors
    /// The disk's.
    pub fn promise_blob(&self, digest: &Digest, keep: Duration) -> Result<Option<u64>, ContentError> {
        if !self.is_linked(digest) {
            return Ok(None);
        }
        let _promising = self.content.promising()?;
        let Some(size) = self.blob(digest) else { return Ok(None) };
        self.content.promise(digest, keep)?;
        Ok(Some(size))
    }

    /// Makes a blob readable here that is readable in `from`, or, with none, that is in the store at all (the
    /// engine's images included). Copies nothing. Says whether there was such a blob.
    ///
    /// # Errors
    /// The disk's.
    pub fn mount(&self, digest: &Digest, from: Option<&Repository>, keep: Duration) -> Result<bool, ContentError> {
        let _promising = self.content.promising()?;
        let there = match from {
            Some(other) => other.blob(digest).is_some(),
            None => self.content.has_blob(digest),
        };
        if there {
            self.content.promise(digest, keep)?;
            self.link(digest)?;
        }
        Ok(there)
    }

    /// Makes a blob unreadable here. Its bytes go with the next collection if nothing else needs them.
    ///
    /// # Errors
    /// [`ContentError::InUse`] if a manifest of this repository needs it, or the disk's.
    pub fn delete_blob(&self, digest: &Digest) -> Result<bool, ContentError> {
        if !self.is_linked(digest) {
            return Ok(false);
        }
        let _promising = self.content.promising()?;
        let _lock = self.lock()?;
        for manifest in self.manifests()? {
            if let Some(record) = self.manifest(&manifest)?
                && record.needs.contains(digest)
            {
                return Err(ContentError::InUse { image: digest.to_string(), container: manifest.to_string() });
            }
        }
        facts::remove(&self.dir.join("_blobs"), digest.hex())
    }

    pub(super) fn is_linked(&self, digest: &Digest) -> bool {
        self.dir.join("_blobs").join(digest.hex()).exists()
    }

    pub(super) fn link(&self, digest: &Digest) -> Result<(), ContentError> {
        if self.is_linked(digest) {
            return Ok(());
        }
        facts::put(&self.dir.join("_blobs"), digest.hex(), b"")
    }
}

impl Content {
    /// Keeps a blob until `keep` has passed from now. To be called while [`Content::promising`].
    pub(super) fn promise(&self, digest: &Digest, keep: Duration) -> Result<(), ContentError> {
        let dir = self.path("registry/_promises");
        facts::make_dir(&dir)?;
        let path = dir.join(digest.hex());
        let fail = |e| ContentError::io("write", &path, e);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        let until = SystemTime::now() + keep;
        // Another registry on this directory may have promised it for longer.
        if file.metadata().and_then(|m| m.modified()).map_err(fail)? < until {
            file.set_times(FileTimes::new().set_modified(until)).map_err(fail)?;
        }
        Ok(())
    }
}
