//! Content: image names, blobs, unpacked layers and the snapshots that containers run on.
//!
//! Everything lives under one directory and is content-addressed, so several processes (the daemon and the
//! command line) may use it at once: files appear by rename, and changes of the name table hold a file lock.
//!
//! ```text
//! blobs/ALGORITHM/HEX  manifests, configurations and layers as they came
//! ingest/              blobs under way (kept, so that a broken download resumes)
//! layers/HEX/fs        a layer unpacked, HEX being its diff ID; shared by all images and containers
//! unsettled/HEX.BOOT   a layer that may not be on the disk yet; see [`settle`]
//! removed/             trees taken out of the store whose files are being removed
//! snapshots/ID/        a container's writable layer: upper, work, and the layers below it
//! images.json          name → manifest digest
//! pins/                what builds keep without an image's name
//! registry/            which repository of the local registry holds what; see [`Repository`]
//! ```

mod ahead;
mod archive;
mod author;
mod blobs;
mod built_in;
mod collect;
mod config;
mod connection;
mod digest;
mod error;
mod follow;
mod identity;
mod images;
mod import;
mod manifest;
mod pack;
mod pull;
mod reference;
mod removal;
mod repositories;
mod settle;
mod snapshots;
mod unpack;
mod upstream;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use author::{Authoring, Layer, Pin, encoded_config};
pub use blobs::write_behind;
pub use built_in::BuiltIn;
pub use collect::Collected;
pub use config::{Healthcheck, History, ImageConfig, ProcessConfig};
pub use connection::{Connection, causes, is_loopback};
pub use digest::Digest;
pub use error::ContentError;
pub use images::Image;
pub use import::ImagePlatform;
pub use manifest::go_name;
pub use pack::{Packing, copy_attributes, pack, travelling_attributes};
pub use pull::{Credentials, PullOptions, Say, Secret};
pub use reference::Reference;
pub use repositories::{Evicted, ManifestError, ManifestRecord, Referrer, Repository, StoredManifest, Tag, Upload};
pub use snapshots::Snapshot;
pub use unpack::owner_of;
pub use upstream::{Arriving, Fetched, Progress, Upstream};

/// The content of one data directory. Cheap to clone. Methods that touch the disk block unless they are
/// `async`; call them from a blocking thread where that matters.
#[derive(Clone)]
pub struct Content {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    /// One lock a layer or pull under way in this process, so that two users of one layer unpack it once.
    flights: parking_lot::Mutex<std::collections::HashMap<String, std::sync::Weak<tokio::sync::Mutex<()>>>>,
    /// Keeps this process's collector apart from its promises, fairly; see [`Content::promising`].
    promises: parking_lot::RwLock<()>,
    settling: settle::Settling,
    removal: removal::Removal,
    /// The image that comes with the program.
    built_in: std::sync::OnceLock<Arc<built_in::Made>>,
}

impl Content {
    /// Opens (and lays out) the content below `root`.
    ///
    /// # Errors
    /// [`ContentError::Io`] if the directories can't be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ContentError> {
        let root = root.into();
        for dir in ["blobs/sha256", "blobs/sha512", "ingest", "layers", "snapshots", "unsettled", "removed"] {
            let path = root.join(dir);
            std::fs::create_dir_all(&path).map_err(|e| ContentError::io("create", &path, e))?;
        }
        spread(&root.join("layers"));
        spread(&root.join("snapshots"));
        let inner = Inner {
            root,
            flights: Default::default(),
            promises: Default::default(),
            settling: settle::Settling::default(),
            removal: Default::default(),
            built_in: Default::default(),
        };
        let content = Self { inner: Arc::new(inner) };
        content.mend_unsettled()?;
        content.remove_soon();
        Ok(content)
    }

    /// The directory that all of it lives in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.inner.root.join(relative)
    }

    /// Waits until nobody else in this process works on `what`, and keeps others out until dropped.
    async fn alone(&self, what: String) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut flights = self.inner.flights.lock();
            flights.retain(|_, weak| weak.strong_count() > 0);
            match flights.get(&what).and_then(|weak| weak.upgrade()) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    flights.insert(what, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }

    /// Runs blocking work on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Content) -> Result<T, ContentError> + Send + 'static,
    ) -> Result<T, ContentError> {
        let content = self.clone();
        tokio::task::spawn_blocking(move || work(&content))
            .await
            .unwrap_or_else(|e| Err(ContentError::Interrupted(e.to_string())))
    }
}

/// Tells a file system of the ext family that the trees in a directory have nothing to do with each other: each gets a
/// region of the disk of its own, rather than all one that is full of what was just removed. Others don't ask.
fn spread(directory: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let Ok(directory) = std::fs::File::open(directory) else { return };
    if let Ok(flags) = ioctl_getflags(&directory)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(&directory, flags | IFlags::TOPDIR);
    }
}
