//! Making images: a layer, a configuration and a manifest, handed to the content store as an OCI layout that holds only
//! what the store does not have; a layer's file goes there by a rename.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use engine::content::{Digest, Image, Reference, write_behind};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::layers::layers;
use super::names::{NAMELESS, is_named, keep_nameless, strip};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::{system, time};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layer being written: a file that knows its digest.
pub(crate) struct LayerFile {
    file: tempfile::NamedTempFile,
    hasher: Sha256,
    size: u64,
}

/// A layer that is whole.
pub(crate) struct Layer {
    file: tempfile::NamedTempFile,
    digest: Digest,
    size: u64,
}

impl LayerFile {
    /// In a directory of the data's file system.
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::NamedTempFile::new_in(scratch)?, hasher: Sha256::new(), size: 0 })
    }

    /// What was written so far, from the beginning.
    pub fn reopen(&self) -> io::Result<File> {
        self.file.reopen()
    }

    /// No more comes.
    pub fn finish(mut self) -> io::Result<Layer> {
        self.file.flush()?;
        Ok(Layer { file: self.file, digest: Digest::finish(self.hasher), size: self.size })
    }
}

impl Write for LayerFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        let before = self.size;
        self.size += count as u64;
        write_behind(self.file.as_file(), before, self.size);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What an image's history says of its last step.
#[derive(Default)]
pub(crate) struct Story {
    pub author: Option<String>,
    pub comment: Option<String>,
    pub created_by: String,
    /// Of an image without a base, where it is not this machine's.
    pub architecture: Option<String>,
}

/// Makes an image: `base`'s layers (if any) and the new one, with `options` as its configuration (Docker's `Config`).
/// Without a name it gets one that is never shown.
pub(crate) fn derive(
    daemon: &Daemon,
    base: Option<&Image>,
    layer: Option<Layer>,
    options: Value,
    story: Story,
    name: Option<Reference>,
) -> Result<Image> {
    let content = &daemon.config.content;
    // From here to the image's name nothing of it may be collected.
    let authoring = content.authoring()?;
    let layout = tempfile::tempdir_in(daemon.scratch())?;
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut config = match base {
        Some(base) => serde_json::from_slice(&content.read_blob(&base.id)?)?,
        None => {
            let own = || system::architecture().to_owned();
            json!({"architecture": story.architecture.clone().unwrap_or_else(own), "os": "linux"})
        }
    };
    let mut descriptors: Vec<Value> = base
        .map(|base| layers(content, base))
        .unwrap_or_default()
        .iter()
        .map(|layer| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}))
        .collect();
    let mut diff_ids: Vec<Value> = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    let empty = layer.is_none();
    if let Some(layer) = layer {
        descriptors.push(json!({"mediaType": LAYER, "digest": layer.digest, "size": layer.size}));
        diff_ids.push(layer.digest.as_str().into());
        if !content.has_blob(&layer.digest) {
            let file = layer.file.into_temp_path();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
            content.take_blob(&file, &layer.digest)?;
        }
    }
    let now = time::now();
    let mut step = Map::new();
    step.insert("created".into(), now.clone().into());
    step.insert("created_by".into(), story.created_by.into());
    for (key, text) in [("author", &story.author), ("comment", &story.comment)] {
        if let Some(text) = text {
            step.insert(key.into(), text.clone().into());
        }
    }
    if empty {
        step.insert("empty_layer".into(), true.into());
    }
    let mut history: Vec<Value> = config["history"].as_array().cloned().unwrap_or_default();
    history.push(step.into());
    config["created"] = now.into();
    if let Some(author) = story.author {
        config["author"] = author.into();
    }
    config["config"] = options;
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    config["history"] = history.into();
    for key in ["container", "container_config", "docker_version"] {
        config.as_object_mut().map(|map| map.remove(key));
    }
    let write = |value: &Value| -> Result<(Digest, usize)> {
        let bytes = serde_json::to_vec(value)?;
        let digest = Digest::of(&bytes);
        File::create(blobs.join(digest.hex()))?.write_all(&bytes)?;
        Ok((digest, bytes.len()))
    };
    let (config_digest, config_size) = write(&config)?;
    let (manifest_digest, manifest_size) = write(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
        "layers": descriptors,
    }))?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": MANIFEST, "digest": manifest_digest, "size": manifest_size}],
    });
    fs::write(layout.path().join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let text = match &name {
        Some(name) => {
            keep_nameless(content, name)?;
            name.to_string()
        }
        None => format!("{NAMELESS}:{}", manifest_digest.hex()),
    };
    let images = content.import(layout.path(), Some(&text))?;
    drop(authoring);
    is_named(content, config_digest.as_str());
    let mut image = images.into_iter().next().ok_or_else(|| ApiError::internal("the store took no image"))?;
    strip(&mut image);
    Ok(image)
}
