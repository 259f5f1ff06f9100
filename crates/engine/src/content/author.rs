//! Images made here: layers from what a container or a builder wrote, and configurations and names for them.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{self as rfs, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::{
    Content, ContentError, Digest, Image, ImageConfig, Reference,
    blobs::Ingest,
    images::Names,
    manifest::{self, Descriptor, Manifest},
    pack::{Packing, pack},
};

/// The repository, as Docker shows it, of images that have lost their name or never had one.
pub(super) const UNTAGGED: &str = "<none>";

/// A layer as a manifest and a configuration name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the plain archive: names the unpacked directory.
    pub diff_id: Digest,
    /// Digest of the blob, which may be compressed.
    pub blob: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// Keeps what was made but has no name yet from being collected, until dropped.
#[derive(Debug)]
pub struct Authoring {
    _gate: File,
}

/// What somebody keeps alive without an image's name: a build's intermediate layers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pin {
    /// Layers kept, blobs and directories.
    pub layers: Vec<Layer>,
    /// For the owner; kept, never interpreted.
    pub note: serde_json::Value,
}

impl Content {
    /// Begins making images. Hold the result until the last one has its name or its pin.
    ///
    /// # Errors
    /// The disk's.
    pub fn authoring(&self) -> Result<Authoring, ContentError> {
        Ok(Authoring { _gate: self.adding()? })
    }

    /// Makes a layer of an overlay's upper directory, which is not mounted any more. The directory itself becomes
    /// the unpacked layer (or is removed, where the layer is here already), so nothing is copied twice.
    /// `clamp` is `SOURCE_DATE_EPOCH`: later times become it.
    ///
    /// # Errors
    /// The disk's; nothing half-made stays.
    pub fn commit_upper(&self, upper: &Path, clamp: Option<i64>) -> Result<Layer, ContentError> {
        let fail = |e: io::Error| ContentError::io("pack", upper, e);
        let root = rfs::open(upper, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| fail(e.into()))?;
        let mut blob = Blob { ingest: self.ingest_anonymous()?, buffer: Vec::with_capacity(1 << 17), failure: None };
        let packed = pack(&root, &mut blob, Packing { upper: true, clamp }).and_then(|()| blob.flush());
        let Blob { ingest, failure, .. } = blob;
        if let Err(error) = packed {
            let _ = std::fs::remove_file(ingest.path());
            return Err(failure.unwrap_or_else(|| fail(error)));
        }
        let (digest, size) = ingest.commit(None)?;
        drop(root);
        self.adopt_directory(upper, &digest)?;
        Ok(Layer { diff_id: digest.clone(), blob: digest, size, media_type: manifest::OCI_LAYER.into() })
    }

    /// Makes `upper` the unpacked layer of that digest.
    fn adopt_directory(&self, upper: &Path, diff_id: &Digest) -> Result<(), ContentError> {
        let layer = self.path("layers").join(diff_id.hex());
        if layer.join("fs").exists() {
            return std::fs::remove_dir_all(upper).map_err(|e| ContentError::io("remove", upper, e));
        }
        let staging = tempfile::Builder::new()
            .prefix("unpacking-")
            .tempdir_in(self.path("layers"))
            .map_err(|e| ContentError::io("create", &layer, e))?;
        let fs = staging.path().join("fs");
        match std::fs::rename(upper, &fs) {
            Ok(()) => {}
            // Another file system: the blob is unpacked as if it had come over the network.
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                self.unpack_layer(diff_id, diff_id)?;
                return std::fs::remove_dir_all(upper).map_err(|e| ContentError::io("remove", upper, e));
            }
            Err(e) => return Err(ContentError::io("rename", &fs, e)),
        }
        self.note_unsettled(diff_id)?;
        match std::fs::rename(staging.path(), &layer) {
            Ok(()) => {
                let _ = staging.keep();
                self.settle_soon();
                Ok(())
            }
            // Another process was faster, with the same content.
            Err(_) if layer.join("fs").exists() => Ok(()),
            Err(e) => Err(ContentError::io("rename", &layer, e)),
        }
    }

    /// The layers of an image, lowest first.
    ///
    /// # Errors
    /// As [`Content::image`]; [`ContentError::Invalid`] if manifest and configuration disagree.
    pub fn image_layers(&self, image: &Image) -> Result<Vec<Layer>, ContentError> {
        let manifest = self.manifest(&image.manifest)?;
        let diff_ids = &image.config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(ContentError::Invalid(
                "the configuration names another number of layers than the manifest".into(),
            ));
        }
        let layers = manifest.layers.into_iter().zip(diff_ids);
        Ok(layers
            .map(|(l, diff_id)| Layer {
                diff_id: diff_id.clone(),
                blob: l.digest,
                size: l.size,
                media_type: l.media_type,
            })
            .collect())
    }

    /// The directory of an unpacked layer, if it is here.
    pub fn layer_directory(&self, diff_id: &Digest) -> Option<PathBuf> {
        let directory = self.path("layers").join(diff_id.hex()).join("fs");
        directory.exists().then_some(directory)
    }

    /// Whether a layer is here whole: its blob and its directory.
    pub fn has_layer(&self, layer: &Layer) -> bool {
        self.has_blob(&layer.blob) && self.layer_directory(&layer.diff_id).is_some()
    }

    /// Writes an image of layers that are here and gives it names. Without any it is an untagged one, as are images
    /// that lose their last name to it.
    ///
    /// # Errors
    /// [`ContentError::Invalid`] if configuration and layers disagree, [`ContentError::NotFound`] if a layer is not
    /// here, or the disk's.
    pub fn author(&self, config: &ImageConfig, layers: &[Layer], names: &[Reference]) -> Result<Image, ContentError> {
        let agree = config.rootfs.diff_ids.iter().eq(layers.iter().map(|l| &l.diff_id));
        if !agree {
            return Err(ContentError::Invalid("the configuration names other layers than the manifest".into()));
        }
        if let Some(missing) = layers.iter().find(|l| !self.has_layer(l)) {
            return Err(ContentError::NotFound(missing.diff_id.to_string()));
        }
        let _adding = self.adding()?;
        let config = encoded_config(config);
        let config_digest = self.write_blob(&config)?;
        let descriptor = |media_type: &str, digest: &Digest, size: u64| Descriptor {
            media_type: media_type.into(),
            digest: digest.clone(),
            size,
            platform: None,
            annotations: None,
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: manifest::OCI_MANIFEST.into(),
            config: descriptor(manifest::OCI_CONFIG, &config_digest, config.len() as u64),
            layers: layers.iter().map(|l| descriptor(&oci_media_type(&l.media_type), &l.blob, l.size)).collect(),
        };
        let bytes = serde_json::to_vec(&manifest).expect("a manifest is always JSON");
        let manifest = self.write_blob(&bytes)?;
        self.change_names(|table| {
            for name in names {
                take_name(table, &name.to_string(), &manifest);
            }
            if !table.names.values().any(|m| *m == manifest) {
                table.names.insert(format!("{UNTAGGED}@{manifest}"), manifest.clone());
            }
            Ok(())
        })?;
        self.image(manifest.hex())
    }

    /// Writes down, under an ID that is a safe file name, what must not be collected. Replaces an earlier pin.
    ///
    /// # Errors
    /// The disk's.
    pub fn pin(&self, id: &str, pin: &Pin) -> Result<(), ContentError> {
        let path = self.pin_path(id)?;
        let directory = self.path("pins");
        std::fs::create_dir_all(&directory).map_err(|e| ContentError::io("create", &directory, e))?;
        let fail = |e: io::Error| ContentError::io("write", &path, e);
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&directory).map_err(fail)?;
        file.write_all(&serde_json::to_vec(pin).expect("a pin is always JSON")).map_err(fail)?;
        file.persist(&path).map_err(|e| fail(e.error))?;
        Ok(())
    }

    /// The pin of that ID, if there is one that can be read.
    pub fn pinned(&self, id: &str) -> Option<Pin> {
        serde_json::from_slice(&std::fs::read(self.pin_path(id).ok()?).ok()?).ok()
    }

    /// Removes a pin; absent is fine. What it kept goes with the next collection.
    ///
    /// # Errors
    /// The disk's.
    pub fn unpin(&self, id: &str) -> Result<(), ContentError> {
        let path = self.pin_path(id)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ContentError::io("remove", &path, e)),
            _ => Ok(()),
        }
    }

    /// Marks a pin as used just now, for owners that remove the longest unused.
    pub fn touch_pin(&self, id: &str) {
        if let Ok(path) = self.pin_path(id)
            && let Ok(file) = File::options().write(true).open(path)
        {
            let _ = file.set_modified(std::time::SystemTime::now());
        }
    }

    /// All pins with the time of their last use. One that can't be read is left out.
    pub fn pins(&self) -> Vec<(String, Pin, std::time::SystemTime)> {
        let entries = std::fs::read_dir(self.path("pins")).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let id = entry.file_name().into_string().ok().filter(|id| !id.starts_with('.'))?;
                let used = entry.metadata().ok()?.modified().ok()?;
                Some((id.clone(), self.pinned(&id)?, used))
            })
            .collect()
    }

    fn pin_path(&self, id: &str) -> Result<PathBuf, ContentError> {
        let fine = !id.is_empty() && !id.starts_with('.') && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fine.then(|| self.path("pins").join(id))
            .ok_or_else(|| ContentError::Invalid(format!("{id:?} can't name a pin")))
    }
}

/// The bytes of a configuration; their digest is the image's ID.
pub fn encoded_config(config: &ImageConfig) -> Vec<u8> {
    serde_json::to_vec(config).expect("a configuration is always JSON")
}

/// Gives a name to a manifest. The one that had it stays as an untagged image when that was its last name; the new
/// one is untagged no more.
pub(super) fn take_name(table: &mut Names, name: &str, manifest: &Digest) {
    let before = table.names.insert(name.to_owned(), manifest.clone());
    table.names.remove(&format!("{UNTAGGED}@{manifest}"));
    if let Some(before) = before.filter(|m| m != manifest)
        && !table.names.values().any(|m| *m == before)
    {
        table.names.insert(format!("{UNTAGGED}@{before}"), before);
    }
}

/// Docker's layer types under OCI's names, so that one manifest is of one kind.
fn oci_media_type(media_type: &str) -> String {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd".into(),
        "" | "application/vnd.docker.image.rootfs.diff.tar" => manifest::OCI_LAYER.into(),
        other => other.to_owned(),
    }
}

/// A blob under way as a writer.
struct Blob {
    ingest: Ingest,
    buffer: Vec<u8>,
    /// What the store said, for the caller, who sees only an I/O error.
    failure: Option<ContentError>,
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.ingest.write(&self.buffer);
        self.buffer.clear();
        result.map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the blob can't be written")
        })
    }
}
