//! The name table, and images as their users see them.

use std::{collections::BTreeMap, fs::File, io::Write};

use serde::{Deserialize, Serialize};

use super::{
    Content, ContentError, Digest, ImageConfig, Reference,
    manifest::{Document, Manifest},
};

/// An image that is here.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its identity: the digest of its configuration, as Docker and the kubelet show it.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Tagged names, normalized, for instance `docker.io/library/redis:7`.
    pub tags: Vec<String>,
    /// Names by digest, for instance `docker.io/library/redis@sha256:…`.
    pub digests: Vec<String>,
    /// Sum of its blobs, in bytes.
    pub size: u64,
    /// How to run it.
    pub config: ImageConfig,
}

/// `images.json`.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Names {
    /// Normalized name (`registry/repository:tag` or `…@digest`) → manifest.
    pub names: BTreeMap<String, Digest>,
}

impl Content {
    /// Looks an image up by name, by `sha256:` image ID, or by a prefix of that ID of 6 digits or more. By ID it has the
    /// names of all manifests with that configuration, and is itself the first of them.
    ///
    /// # Errors
    /// [`ContentError::InvalidReference`], [`ContentError::NotFound`], or the disk's.
    pub fn image(&self, name: &str) -> Result<Image, ContentError> {
        let names = self.names()?;
        if let Some(manifest) = Reference::parse(name).ok().and_then(|r| lookup(&names, &r)) {
            return self.describe(&names, &manifest);
        }
        let wanted = name.strip_prefix("sha256:").unwrap_or(name);
        // Digits that say what they are may be few.
        let enough = if wanted.len() < name.len() { 1 } else { 6 };
        if wanted.len() >= enough && wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut found: Option<Image> = None;
            for image in self.images()? {
                // A manifest is what it is, whatever else has its configuration.
                if image.manifest.hex() == wanted {
                    return Ok(image);
                }
                if !image.id.hex().starts_with(wanted) {
                    continue;
                }
                match &mut found {
                    None => found = Some(image),
                    // The same image once more, as when a tool compressed its layers on the way.
                    Some(same) if same.id == image.id => {
                        same.tags.extend(image.tags);
                        same.digests.extend(image.digests);
                    }
                    Some(_) => {
                        return Err(ContentError::InvalidReference(format!("{name} (several images begin with it)")));
                    }
                }
            }
            return found.ok_or_else(|| ContentError::NotFound(name.to_owned()));
        }
        Reference::parse(name)?;
        Err(ContentError::NotFound(name.to_owned()))
    }

    /// All images, by name.
    ///
    /// # Errors
    /// The disk's. An image that is damaged is left out with a warning.
    pub fn images(&self) -> Result<Vec<Image>, ContentError> {
        let names = self.names()?;
        let mut manifests: Vec<&Digest> = names.names.values().collect();
        manifests.sort();
        manifests.dedup();
        let mut images = Vec::new();
        for manifest in manifests {
            match self.describe(&names, manifest) {
                Ok(image) => images.push(image),
                Err(error) => tracing::warn!(%manifest, %error, "an image can't be read"),
            }
        }
        images.sort_by(|a, b| (&a.tags, &a.digests).cmp(&(&b.tags, &b.digests)));
        Ok(images)
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    /// As [`Content::image`], or the disk's.
    pub fn tag(&self, image: &str, name: &str) -> Result<(), ContentError> {
        let image = self.image(image)?;
        let reference = Reference::parse(name)?;
        self.change_names(|names| {
            super::author::take_name(names, &reference.to_string(), &image.manifest);
            Ok(())
        })
    }

    pub(super) fn names(&self) -> Result<Names, ContentError> {
        let path = self.path("images.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| ContentError::io("parse", &path, std::io::Error::other(e)))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Names::default()),
            Err(e) => Err(ContentError::io("read", &path, e)),
        }
    }

    /// Reads, changes and writes the name table while no other process does.
    pub(super) fn change_names<T>(
        &self,
        change: impl FnOnce(&mut Names) -> Result<T, ContentError>,
    ) -> Result<T, ContentError> {
        let lock_path = self.path("lock");
        let fail = |e| ContentError::io("lock", &lock_path, e);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(fail)?;
        lock.lock().map_err(fail)?;
        let mut names = self.names()?;
        let result = change(&mut names)?;
        // A name must not outlive, in a power cut, what it stands for.
        self.settle_blobs()?;
        let path = self.path("images.json");
        let fail = |e| ContentError::io("write", &path, e);
        let bytes = serde_json::to_vec_pretty(&names).expect("a map of strings is always JSON");
        let mut file = tempfile::NamedTempFile::new_in(self.root()).map_err(fail)?;
        file.write_all(&bytes).map_err(fail)?;
        file.as_file().sync_data().map_err(fail)?;
        file.persist(&path).map_err(|e| fail(e.error))?;
        File::open(self.root()).and_then(|root| root.sync_all()).map_err(fail)?;
        Ok(result)
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Result<Manifest, ContentError> {
        match Document::parse(&self.read_blob(digest)?)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(ContentError::Invalid(format!("{digest} is an index, not a manifest"))),
        }
    }

    fn describe(&self, names: &Names, digest: &Digest) -> Result<Image, ContentError> {
        let manifest = self.manifest(digest)?;
        let config: ImageConfig = serde_json::from_slice(&self.read_blob(&manifest.config.digest)?)
            .map_err(|e| ContentError::Invalid(format!("configuration: {e}")))?;
        let mut tags = Vec::new();
        let mut digests = Vec::new();
        for (name, _) in names.names.iter().filter(|(_, m)| *m == digest) {
            match name.split_once('@') {
                Some((super::author::UNTAGGED, _)) => {}
                Some((repository, by)) => {
                    let repository = Reference::parse(repository).map(|r| r.name()).unwrap_or(repository.to_owned());
                    digests.push(format!("{repository}@{by}"));
                }
                None => tags.push(name.clone()),
            }
        }
        digests.dedup();
        Ok(Image {
            id: manifest.config.digest.clone(),
            manifest: digest.clone(),
            tags,
            digests,
            size: manifest.config.size + manifest.layers.iter().map(|l| l.size).sum::<u64>(),
            config,
        })
    }
}

/// A digest decides alone; else the tagged name.
fn lookup(names: &Names, reference: &Reference) -> Option<Digest> {
    if let Some(digest) = &reference.digest {
        let by_digest = format!("{}@{digest}", reference.name());
        return names.names.get(&by_digest).or_else(|| names.names.values().find(|m| *m == digest)).cloned();
    }
    names.names.get(&reference.to_string()).cloned()
}
