//! Snapshots: a container's writable layer above its image's layers, ready for an overlay mount.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Content, ContentError, Digest, Image};

/// The directories of one overlay mount.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The image's layers, uppermost first, as overlayfs wants `lowerdir`.
    pub lower: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// overlayfs's own.
    pub work: PathBuf,
}

/// What a snapshot keeps from being collected; `snapshots/ID/layers.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    pub image: Digest,
    pub layers: Vec<Digest>,
}

impl Content {
    /// Prepares (or finds again) the snapshot of container `id` on `image`. Copies nothing.
    ///
    /// # Errors
    /// [`ContentError::Invalid`] for an ID that is no file name, [`ContentError::NotFound`] if a layer is
    /// not unpacked, or the disk's.
    pub fn prepare_snapshot(&self, id: &str, image: &Image) -> Result<Snapshot, ContentError> {
        let dir = self.snapshot_dir(id)?;
        let snapshot = self.layout(&dir, &image.config.rootfs.diff_ids);
        if let Some(missing) = snapshot.lower.iter().find(|l| !l.exists()) {
            return Err(ContentError::NotFound(missing.display().to_string()));
        }
        for path in [&snapshot.upper, &snapshot.work] {
            std::fs::create_dir_all(path).map_err(|e| ContentError::io("create", path, e))?;
        }
        // The upper directory becomes the container's `/`.
        if let Some(top) = snapshot.lower.first()
            && let Ok(metadata) = std::fs::metadata(top)
        {
            let _ = std::fs::set_permissions(&snapshot.upper, metadata.permissions());
        }
        let record = Record { image: image.id.clone(), layers: image.config.rootfs.diff_ids.clone() };
        let path = dir.join("layers.json");
        let bytes = serde_json::to_vec(&record).expect("digests are always JSON");
        std::fs::write(&path, bytes).map_err(|e| ContentError::io("write", &path, e))?;
        Ok(snapshot)
    }

    /// The snapshot of a container, if there is one.
    pub fn snapshot(&self, id: &str) -> Option<Snapshot> {
        let dir = self.snapshot_dir(id).ok()?;
        let record = read_record(&dir)?;
        Some(self.layout(&dir, &record.layers))
    }

    /// Removes a container's writable layer; it must not be mounted any more. Absent is fine.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_snapshot(&self, id: &str) -> Result<(), ContentError> {
        let dir = self.snapshot_dir(id)?;
        self.take_out(&dir)
    }

    /// The IDs of all snapshots.
    pub fn snapshot_ids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("snapshots")).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }

    /// Layers and images that snapshots stand on: (layers, image → one of its containers).
    pub(super) fn used_by_snapshots(&self) -> (HashSet<Digest>, Vec<(Digest, String)>) {
        let mut layers = HashSet::new();
        let mut images = Vec::new();
        for id in self.snapshot_ids() {
            if let Some(record) = read_record(&self.path("snapshots").join(&id)) {
                layers.extend(record.layers);
                images.push((record.image, id));
            }
        }
        (layers, images)
    }

    fn layout(&self, dir: &Path, diff_ids: &[Digest]) -> Snapshot {
        let layers = self.path("layers");
        // overlayfs refuses one directory twice, which images have (steps that changed nothing are all one layer).
        // The topmost is enough: it hides all that the same layer could show from below.
        let mut seen = HashSet::new();
        let once = diff_ids.iter().rev().filter(|d| seen.insert(*d));
        Snapshot {
            lower: once.map(|d| layers.join(d.hex()).join("fs")).collect(),
            upper: dir.join("upper"),
            work: dir.join("work"),
        }
    }

    fn snapshot_dir(&self, id: &str) -> Result<PathBuf, ContentError> {
        let fine = !id.is_empty()
            && !id.starts_with('.')
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        fine.then(|| self.path("snapshots").join(id))
            .ok_or_else(|| ContentError::Invalid(format!("{id:?} can't name a snapshot")))
    }
}

fn read_record(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(dir.join("layers.json")).ok()?).ok()
}
