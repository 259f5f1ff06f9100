//! Blobs that clients send, in as many pieces and connections as they like.

use std::time::Duration;

use super::{Repository, facts};
use crate::content::{ContentError, Digest, blobs::Ingest};

/// A blob under way in a repository. It may be dropped and opened again, also by another process; one that
/// nobody writes to for [`Upload::EXPIRY`] is collected.
pub struct Upload {
    repository: Repository,
    ingest: Ingest,
}

impl Repository {
    /// Begins an upload; returns its ID.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin_upload(&self) -> Result<(String, Upload), ContentError> {
        // The collector removes empty directories, so not between making this one and its first file.
        let _promising = self.content.promising()?;
        let dir = self.dir.join("_uploads");
        facts::make_dir(&dir)?;
        let id = uuid::Uuid::new_v4().to_string();
        let ingest = self.content.ingest(dir.join(&id))?;
        Ok((id, Upload { repository: self.clone(), ingest }))
    }

    /// Takes up an upload again; what is there is hashed again.
    ///
    /// # Errors
    /// The disk's.
    pub fn open_upload(&self, id: &str) -> Result<Option<Upload>, ContentError> {
        if self.upload_length(id).is_none() {
            return Ok(None);
        }
        let ingest = self.content.ingest(self.dir.join("_uploads").join(id))?;
        Ok(Some(Upload { repository: self.clone(), ingest }))
    }

    /// How many bytes of an upload are there.
    pub fn upload_length(&self, id: &str) -> Option<u64> {
        // Whatever else a client sends is no file name of ours.
        uuid::Uuid::try_parse(id).ok().filter(|u| u.to_string() == id)?;
        std::fs::metadata(self.dir.join("_uploads").join(id)).ok().map(|m| m.len())
    }

    /// Throws an upload away; says whether there was one.
    ///
    /// # Errors
    /// The disk's.
    pub fn cancel_upload(&self, id: &str) -> Result<bool, ContentError> {
        if self.upload_length(id).is_none() {
            return Ok(false);
        }
        facts::remove(&self.dir.join("_uploads"), id)
    }
}

impl Upload {
    /// How long an upload may lie untouched.
    pub const EXPIRY: Duration = Duration::from_secs(24 * 3600);

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.ingest.length()
    }

    /// Whether the file is as long as what was hashed: no other process wrote to it, and it is still there.
    pub fn is_current(&self) -> bool {
        std::fs::metadata(self.ingest.path()).is_ok_and(|m| m.len() == self.ingest.length())
    }

    /// Appends bytes. After an error the upload is as long as before.
    ///
    /// # Errors
    /// The disk's; a full one is an [`ContentError::Io`] of kind [`std::io::ErrorKind::StorageFull`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.ingest.write(bytes)
    }

    /// Makes it a blob of its repository, durably, that stays for `keep` at least. With the wrong digest it
    /// is thrown away.
    ///
    /// # Errors
    /// [`ContentError::Mismatch`], or the disk's.
    pub fn finish(self, expected: &Digest, keep: Duration) -> Result<u64, ContentError> {
        // What was hashed must be all there is: another process that wrote to it at the same time made it longer.
        if !self.is_current() {
            return Err(ContentError::Invalid("somebody else wrote to the upload, or cancelled it".into()));
        }
        let Self { repository, ingest } = self;
        ingest.sync()?;
        let content = repository.content.clone();
        let _promising = content.promising()?;
        let (_, length) = ingest.commit(Some(expected))?;
        content.promise(expected, keep)?;
        content.settle_blobs()?;
        repository.link(expected)?;
        Ok(length)
    }
}
