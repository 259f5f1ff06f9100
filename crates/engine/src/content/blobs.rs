//! Blobs: files named by their SHA-256, that appear whole or not at all.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Read, Write},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use super::{Content, ContentError, Digest, pull::Download};

impl Content {
    /// Where a blob lies, if it is here.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// Whether a blob is here.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// How long a blob is, in bytes, if it is here.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().map(|m| m.len())
    }

    /// A small blob (manifest, configuration) in memory.
    ///
    /// # Errors
    /// The disk's, with [`std::io::ErrorKind::NotFound`] for a blob that is not here.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, ContentError> {
        let path = self.blob_path(digest);
        std::fs::read(&path).map_err(|e| ContentError::io("read", &path, e))
    }

    /// Makes a file of the same file system a blob by its name, without reading it: the caller has computed its digest.
    /// Hold [`Content::authoring`] until something needs the blob.
    ///
    /// # Errors
    /// The disk's.
    pub fn take_blob(&self, file: &std::path::Path, digest: &Digest) -> Result<(), ContentError> {
        let synced = File::open(file).and_then(|file| file.sync_data());
        synced.map_err(|e| ContentError::io("sync", file, e))?;
        let target = self.blob_path(digest);
        std::fs::rename(file, &target).map_err(|e| ContentError::io("rename", &target, e))
    }

    /// Stores bytes that are in memory.
    pub(super) fn write_blob(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = Digest::of(bytes);
        self.write_blob_as(bytes, &digest)?;
        Ok(digest)
    }

    /// Stores bytes that are in memory under a digest of either algorithm.
    pub(super) fn write_blob_as(&self, bytes: &[u8], digest: &Digest) -> Result<(), ContentError> {
        if !self.has_blob(digest) {
            let mut ingest = self.ingest_anonymous()?;
            ingest.write(bytes)?;
            ingest.commit(Some(digest))?;
        }
        Ok(())
    }

    /// Begins a blob whose digest is not known yet.
    pub(super) fn ingest_anonymous(&self) -> Result<Ingest, ContentError> {
        self.ingest(self.path("ingest").join(format!("{}.new", uuid::Uuid::new_v4())))
    }

    /// Begins, or takes up again, the download of a known blob: what is there already was hashed again.
    /// Waits for another process that downloads the same.
    pub(super) fn ingest_resumable(&self, digest: &Digest, download: Download) -> Result<Ingest, ContentError> {
        let path = self.path("ingest").join(match download {
            Download::Pull => format!("{}.part", digest.hex()),
            Download::Mirror => format!("{}.mirror.part", digest.hex()),
        });
        let fail = |e| ContentError::io("lock", &path, e);
        loop {
            let file = OpenOptions::new().append(true).create(true).open(&path).map_err(fail)?;
            file.lock().map_err(fail)?;
            // The one before may have finished, which takes the file away.
            let same = std::fs::metadata(&path).is_ok_and(|m| file.metadata().is_ok_and(|f| f.ino() == m.ino()));
            if same {
                let mut ingest = self.ingest(path)?;
                ingest.lock = Some(file);
                return Ok(ingest);
            }
        }
    }

    /// Makes the names of all blobs stored so far durable; their bytes already are.
    pub(super) fn settle_blobs(&self) -> Result<(), ContentError> {
        for dir in ["blobs/sha256", "blobs/sha512"].map(|d| self.path(d)) {
            File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| ContentError::io("sync", &dir, e))?;
        }
        Ok(())
    }

    /// Begins, or takes up again, a blob in the file at `path`, which must be in the same file system.
    pub(super) fn ingest(&self, path: PathBuf) -> Result<Ingest, ContentError> {
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
        Ok(Ingest { content: self.clone(), path, file, hasher, length, lock: None })
    }
}

/// Files are written to the disk by pieces of this many bytes, so that little is left to wait for at their end.
const PIECE: u64 = 16 << 20;

/// Has the kernel begin to write a file to the disk, now that it has grown from one length to another (in bytes) by
/// appending. A hint: nothing is waited for.
pub fn write_behind(file: &File, before: u64, now: u64) {
    let whole = |length: u64| (length / PIECE * PIECE) as i64;
    let (from, to) = (whole(before), whole(now));
    if to > from {
        // SAFETY: no memory is involved.
        unsafe { libc::sync_file_range(file.as_raw_fd(), from, to - from, libc::SYNC_FILE_RANGE_WRITE) };
    }
}

/// A blob under way.
pub(super) struct Ingest {
    content: Content,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
    /// Keeps other processes away from a download that is known by its digest.
    lock: Option<File>,
}

impl Ingest {
    /// The file it grows in, which the blob's readers may follow.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// A second handle of the file.
    pub fn reader(&self) -> Result<File, ContentError> {
        self.file.try_clone().map_err(|e| ContentError::io("open", &self.path, e))
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        if let Err(error) = self.file.write_all(bytes) {
            // A full disk may have taken a part: the file must not hold what the hasher has not seen.
            let _ = self.file.set_len(self.length);
            return Err(ContentError::io("write", &self.path, error));
        }
        self.hasher.update(bytes);
        let before = self.length;
        self.length += bytes.len() as u64;
        write_behind(&self.file, before, self.length);
        Ok(())
    }

    /// Forgets what there is, for a server that can't resume.
    pub fn restart(&mut self) -> Result<(), ContentError> {
        self.file.set_len(0).map_err(|e| ContentError::io("truncate", &self.path, e))?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Throws it away.
    pub fn discard(self) -> Result<(), ContentError> {
        std::fs::remove_file(&self.path).map_err(|e| ContentError::io("remove", &self.path, e))
    }

    /// Writes what the kernel still holds to the disk, so that the commit has little left to wait for.
    pub fn sync(&self) -> Result<(), ContentError> {
        self.file.sync_data().map_err(|e| ContentError::io("sync", &self.path, e))
    }

    /// Makes it a blob whose bytes are durable (its name is once [`Content::settle_blobs`] was called). With
    /// the wrong digest it is thrown away.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64), ContentError> {
        let actual = match expected {
            // Rare enough to be read once more.
            Some(expected) if expected.is_sha512() => {
                let read = File::open(&self.path).and_then(Digest::sha512);
                read.map_err(|e| ContentError::io("read", &self.path, e))?
            }
            _ => Digest::finish(self.hasher.clone()),
        };
        if let Some(expected) = expected.filter(|e| **e != actual) {
            let _ = std::fs::remove_file(&self.path);
            return Err(ContentError::Mismatch { expected: expected.clone(), actual });
        }
        self.sync()?;
        let target = self.content.blob_path(&actual);
        std::fs::rename(&self.path, &target).map_err(|e| ContentError::io("rename", &target, e))?;
        Ok((actual, self.length))
    }
}
