//! Uploads that this process has open, so that a chunk costs no hashing of the chunks before it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use engine::content::{Repository, Upload};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::{
    failure::{Code, Failure},
    registry::Registry,
};

/// Uploads open at a time. Those that nobody is writing to are closed beyond that; they can be opened again.
const OPEN: usize = 128;

/// By repository and ID.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<(String, String), Arc<Session>>>,
}

/// One upload.
pub(crate) struct Session {
    length: AtomicU64,
    upload: Arc<tokio::sync::Mutex<Option<Upload>>>,
}

/// The right to write to an upload. It may travel to another thread and be dropped there.
pub(crate) struct Writing {
    pub session: Arc<Session>,
    guard: OwnedMutexGuard<Option<Upload>>,
}

impl Session {
    /// Bytes so far, without waiting for whoever is writing.
    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }
}

impl Writing {
    /// Appends; the length follows even if nobody waits for the result.
    pub fn write(&mut self, pieces: &[bytes::Bytes]) -> Result<(), Failure> {
        let upload = self.guard.as_mut().ok_or_else(|| Code::BlobUploadUnknown.failure())?;
        let result = pieces.iter().try_for_each(|piece| upload.write(piece));
        self.session.length.store(upload.length(), Ordering::Relaxed);
        Ok(result?)
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.guard.as_ref().map_or(0, Upload::length)
    }

    /// Takes the upload out, to finish it.
    pub fn take(&mut self) -> Option<Upload> {
        self.guard.take()
    }
}

impl Registry {
    /// Begins an upload: its ID, and the right to write to it.
    pub(crate) async fn new_session(&self, repository: &Repository) -> Result<(String, Writing), Failure> {
        let (id, upload) = self.blocking(repository, |r| r.begin_upload()).await?;
        let session = self.remember(repository, &id);
        let mut guard = session.upload.clone().lock_owned().await;
        *guard = Some(upload);
        Ok((id, Writing { session, guard }))
    }

    /// Waits until nobody else writes to an upload.
    ///
    /// # Errors
    /// `BLOB_UPLOAD_UNKNOWN`, or the disk's.
    pub(crate) async fn session(&self, repository: &Repository, id: &str) -> Result<Writing, Failure> {
        let unknown = || Code::BlobUploadUnknown.failure();
        let wanted = id.to_owned();
        // Before anything is remembered of an ID that a client made up.
        self.blocking(repository, move |r| Ok::<_, Failure>(r.upload_length(&wanted))).await?.ok_or_else(unknown)?;
        let session = self.remember(repository, id);
        let patience = self.config().patience;
        let guard = tokio::time::timeout(patience, session.upload.clone().lock_owned()).await;
        let guard = guard.map_err(|_| {
            Code::BlobUploadInvalid
                .because("another request is writing to this upload")
                .status(http::StatusCode::CONFLICT)
        })?;
        let (mut writing, id) = (Writing { session, guard }, id.to_owned());
        let writing = self
            .blocking(repository, move |r| {
                // Another process may have written to it, or a failed disk left us without.
                if !writing.guard.as_ref().is_some_and(Upload::is_current) {
                    *writing.guard = r.open_upload(&id)?;
                    writing.session.length.store(writing.length(), Ordering::Relaxed);
                }
                Ok::<_, Failure>(writing)
            })
            .await?;
        if writing.guard.is_none() {
            return Err(unknown());
        }
        Ok(writing)
    }

    /// The length of an upload, also of one that is being written to.
    pub(crate) async fn upload_length(&self, repository: &Repository, id: &str) -> Result<u64, Failure> {
        let wanted = id.to_owned();
        let on_disk = self.blocking(repository, move |r| Ok::<_, Failure>(r.upload_length(&wanted))).await?;
        let on_disk = on_disk.ok_or_else(|| Code::BlobUploadUnknown.failure())?;
        let key = (repository.name().to_owned(), id.to_owned());
        let open = self.inner.sessions.open.lock();
        // The file may be a piece ahead of what is hashed and acknowledged.
        Ok(open.get(&key).map(|s| s.length()).filter(|l| *l < on_disk && *l > 0).unwrap_or(on_disk))
    }

    /// After an upload has ended, one way or another.
    pub(crate) fn forget(&self, repository: &Repository, id: &str) {
        self.inner.sessions.open.lock().remove(&(repository.name().to_owned(), id.to_owned()));
    }

    fn remember(&self, repository: &Repository, id: &str) -> Arc<Session> {
        let mut open = self.inner.sessions.open.lock();
        if open.len() >= OPEN {
            open.retain(|_, session| Arc::strong_count(session) > 1);
        }
        let new = || Arc::new(Session { length: AtomicU64::new(0), upload: Arc::default() });
        open.entry((repository.name().to_owned(), id.to_owned())).or_insert_with(new).clone()
    }
}
