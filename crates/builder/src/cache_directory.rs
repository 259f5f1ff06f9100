//! A build's cache on its way to another machine (`--cache-to`, `--cache-from`): in a directory, or at a registry.
//!
//! It is an image whose layers are all that the build's steps made, whatever their stage, and a label of which says what
//! step made which. The image's digests guard the layers on their way back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use engine::content::{Content, Digest, ImageConfig, Layer, Reference, encoded_config};
use serde_json::json;

use crate::cache::{self, Record};
use crate::error::Kind;

/// The label.
const RECORDS: &str = "io.hythe.build.records";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The records that a build used or made, by their names.
#[derive(Default)]
pub(crate) struct Used(Mutex<BTreeMap<String, Record>>);

impl Used {
    pub fn add(&self, id: String, record: Record) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id, record);
    }

    fn all(&self) -> BTreeMap<String, Record> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// The image that a cache is: an image of this platform with all layers, which nobody would run.
fn image_of(used: &Used, platform: &str) -> (ImageConfig, Vec<Layer>) {
    let records = used.all();
    let mut layers: Vec<Layer> = Vec::new();
    for layer in records.values().filter_map(|record| record.layer.as_ref()) {
        if !layers.iter().any(|other| other.diff_id == layer.diff_id) {
            layers.push(layer.clone());
        }
    }
    let mut config = ImageConfig::default();
    let mut parts = platform.split('/');
    config.os = parts.next().unwrap_or_default().to_owned();
    config.architecture = parts.next().unwrap_or_default().to_owned();
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let told = serde_json::to_string(&records).expect("records are always JSON");
    config.config.labels.insert(RECORDS.to_owned(), told);
    (config, layers)
}

/// Makes the cache an image of the store's under a name, to be pushed.
pub(crate) fn author(content: &Content, used: &Used, platform: &str, name: &Reference) -> Result<(), Kind> {
    let (config, layers) = image_of(used, platform);
    content.author(&config, &layers, std::slice::from_ref(name))?;
    Ok(())
}

/// Writes the cache as a layout. What an earlier build left there and this one did not use goes.
pub(crate) fn write(content: &Content, used: &Used, platform: &str, directory: &Path) -> Result<(), Kind> {
    let (config, layers) = image_of(used, platform);
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|e| Kind::io("create", &blobs, e))?;
    let config = encoded_config(&config);
    let descriptor =
        |kind: &str, digest: &Digest, size: u64| json!({"mediaType": kind, "digest": digest, "size": size});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &Digest::of(&config), config.len() as u64),
        "layers": layers.iter().map(|l| descriptor(&l.media_type, &l.blob, l.size)).collect::<Vec<_>>(),
    })
    .to_string();
    let digest = Digest::of(manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(MANIFEST, &digest, manifest.len() as u64)]});
    let mut kept = vec![Digest::of(&config), digest.clone()];
    replace(&blobs.join(Digest::of(&config).hex()), &config)?;
    replace(&blobs.join(digest.hex()), manifest.as_bytes())?;
    for layer in &layers {
        let (from, to) = (content.blob_path(&layer.blob), blobs.join(layer.blob.hex()));
        if std::fs::metadata(&to).map_or(true, |there| there.len() != layer.size) {
            let draft = to.with_extension("new");
            std::fs::copy(&from, &draft).map_err(|e| Kind::io("copy", &from, e))?;
            std::fs::rename(&draft, &to).map_err(|e| Kind::io("rename", &draft, e))?;
        }
        kept.push(layer.blob.clone());
    }
    replace(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    // Last: until then a reader sees the cache as it was.
    replace(&directory.join("index.json"), index.to_string().as_bytes())?;
    for entry in std::fs::read_dir(&blobs).into_iter().flatten().flatten() {
        if !kept.iter().any(|digest| entry.file_name().to_str() == Some(digest.hex())) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Makes the records of a layout this store's own, as if their steps had been done here. Returns how many they are.
pub(crate) fn read(content: &Content, directory: &Path, build: &str) -> Result<usize, Kind> {
    let name = format!("cache-of-build:{build}");
    content.import(directory, Some(&name))?;
    let taken = content.image(&name).map_err(Kind::from).and_then(|image| take(content, &image.config));
    content.remove_image(&name, true)?;
    taken?.ok_or_else(|| Kind::invalid(format!("{} holds an image, and no cache", directory.display())))
}

/// The same of an image's configuration; `None` if the image is no cache.
pub(crate) fn take(content: &Content, image: &ImageConfig) -> Result<Option<usize>, Kind> {
    let Some(told) = image.config.labels.get(RECORDS) else { return Ok(None) };
    let records: BTreeMap<String, Record> =
        serde_json::from_str(told).map_err(|e| Kind::invalid(format!("the cache's records: {e}")))?;
    let fine =
        |id: &String| id.strip_prefix(cache::PREFIX).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    keep(content, records.iter().filter(|(id, _)| fine(id))).map(Some)
}

fn keep<'a>(content: &Content, records: impl Iterator<Item = (&'a String, &'a Record)>) -> Result<usize, Kind> {
    let mut taken = 0;
    for (id, record) in records {
        // A record may name a layer that the layout does not hold: then it is worth nothing.
        if record.layer.as_ref().is_none_or(|layer| content.has_layer(layer)) {
            cache::keep_as(content, id, record)?;
            taken += 1;
        }
    }
    Ok(taken)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), Kind> {
    let draft = path.with_extension("new");
    let write = || {
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(bytes)?;
        std::fs::rename(&draft, path)
    };
    write().map_err(|e| Kind::io("write", path, e))
}
