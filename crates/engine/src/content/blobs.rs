//! Blobs: files named by their SHA-256, that appear whole or not at all.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Read, Write},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use super::{Content, ContentError, Digest};

impl Content {
    /// Where a blob lies, if it is here.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// Whether a blob is here.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// A small blob (manifest, configuration) in memory.
    pub(super) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, ContentError> {
        let path = self.blob_path(digest);
        std::fs::read(&path).map_err(|e| ContentError::io("read", &path, e))
    }

    /// Stores bytes that are in memory.
    pub(super) fn write_blob(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest) {
            let mut ingest = self.ingest_anonymous()?;
            ingest.write(bytes)?;
            ingest.commit(Some(&digest))?;
        }
        Ok(digest)
    }

    /// Begins a blob whose digest is not known yet.
    pub(super) fn ingest_anonymous(&self) -> Result<Ingest, ContentError> {
        self.ingest(self.path("ingest").join(format!("{}.new", uuid::Uuid::new_v4())))
    }

    /// Begins, or takes up again, the download of a known blob: what is there already was hashed again.
    pub(super) fn ingest_resumable(&self, digest: &Digest) -> Result<Ingest, ContentError> {
        self.ingest(self.path("ingest").join(format!("{}.part", digest.hex())))
    }

    fn ingest(&self, path: PathBuf) -> Result<Ingest, ContentError> {
        let fail = |e| ContentError::io("write", &path, e);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(fail)?;
        let mut hasher = Sha256::new();
        let mut length = 0;
        let mut reader = BufReader::with_capacity(1 << 16, &mut file);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = reader.read(&mut buffer).map_err(fail)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            length += n as u64;
        }
        drop(reader);
        Ok(Ingest { content: self.clone(), path, file, hasher, length })
    }
}

/// A blob under way.
pub(super) struct Ingest {
    content: Content,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
}

impl Ingest {
    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.file.write_all(bytes).map_err(|e| ContentError::io("write", &self.path, e))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what there is, for a server that can't resume.
    pub fn restart(&mut self) -> Result<(), ContentError> {
        self.file.set_len(0).map_err(|e| ContentError::io("truncate", &self.path, e))?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Makes it a blob, durably. With the wrong digest it is thrown away.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64), ContentError> {
        let actual = Digest::finish(self.hasher);
        if let Some(expected) = expected.filter(|e| **e != actual) {
            let _ = std::fs::remove_file(&self.path);
            return Err(ContentError::Mismatch { expected: expected.clone(), actual });
        }
        self.file.sync_data().map_err(|e| ContentError::io("sync", &self.path, e))?;
        let target = self.content.blob_path(&actual);
        std::fs::rename(&self.path, &target).map_err(|e| ContentError::io("rename", &target, e))?;
        Ok((actual, self.length))
    }
}
