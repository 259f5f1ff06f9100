//! Manifests, tags and referrers of a repository.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Repository, facts, outline::Outline};
use crate::content::{ContentError, Digest, reference::is_tag};

/// What is known of a manifest without reading it; `_manifests/HEX`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestRecord {
    /// As what it was pushed.
    pub media_type: String,
    /// Of the manifest itself, in bytes.
    pub size: u64,
    /// Blobs and manifests that it points to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Digest>,
    /// The manifest that it says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// The manifest's own, or else its configuration's media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifest's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Nobody pushed it: it came from the upstream registry and may be fetched there again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirrored: bool,
}

/// What a tag stands for; `_tags/TAG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The manifest.
    pub digest: Digest,
    /// Nobody pushed it: it came from the upstream registry, which may have moved it since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirrored: bool,
}

/// A manifest that refers to another.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// What is known of it.
    pub record: ManifestRecord,
}

/// A manifest that was put.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
}

/// Why a manifest can't be put.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is none, or of a kind that is not supported. A retry does not help.
    #[error("{0}")]
    Invalid(String),
    /// It points to what is not in the repository. Push that first.
    #[error("blobs or manifests unknown to the repository: {}", .0.iter().map(Digest::as_str).collect::<Vec<_>>().join(", "))]
    Missing(Vec<Digest>),
    /// The disk's.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl Repository {
    /// Stores a manifest under its digest (of either algorithm), durably, and points `tag` at it.
    ///
    /// # Errors
    /// As [`ManifestError`] says; nothing has changed then (blobs aside).
    pub fn put_manifest(
        &self,
        digest: &Digest,
        bytes: &[u8],
        media_type: &str,
        tag: Option<&str>,
    ) -> Result<StoredManifest, ManifestError> {
        let outline = Outline::parse(bytes, media_type).map_err(ManifestError::Invalid)?;
        let _promising = self.content.promising()?;
        let mut missing = Vec::new();
        for (digest, size) in &outline.blobs {
            match self.blob(digest) {
                None => missing.push(digest.clone()),
                Some(actual) if actual != *size => {
                    return Err(ManifestError::Invalid(format!("blob {digest} has {actual} bytes, not {size}")));
                }
                Some(_) => {}
            }
        }
        for digest in &outline.manifests {
            if !self.has_manifest(digest) {
                missing.push(digest.clone());
            }
        }
        if !missing.is_empty() {
            return Err(ManifestError::Missing(missing));
        }
        Ok(self.record(digest, bytes, media_type, outline, tag, false)?)
    }

    /// Stores a manifest of the upstream registry, whose blobs may come later.
    ///
    /// # Errors
    /// As [`Repository::put_manifest`], never [`ManifestError::Missing`].
    pub fn mirror_manifest(
        &self,
        digest: &Digest,
        bytes: &[u8],
        media_type: &str,
        tag: Option<&str>,
    ) -> Result<StoredManifest, ManifestError> {
        let outline = Outline::parse(bytes, media_type).map_err(ManifestError::Invalid)?;
        let _promising = self.content.promising()?;
        for (digest, _) in outline.blobs.iter().filter(|(d, _)| self.content.has_blob(d)) {
            self.link(digest)?;
        }
        Ok(self.record(digest, bytes, media_type, outline, tag, true)?)
    }

    /// Puts an image that the engine has into this repository under `tag`: what pushing it to the local
    /// registry comes to. Copies nothing.
    ///
    /// # Errors
    /// [`ManifestError::Content`] with [`ContentError::NotFound`] if there is no such image, or as
    /// [`Repository::put_manifest`].
    pub fn publish(&self, image: &str, tag: &str) -> Result<StoredManifest, ManifestError> {
        let image = self.content.image(image)?;
        let bytes = self.content.read_blob(&image.manifest)?;
        let media_type = serde_json::from_slice::<serde_json::Value>(&bytes)
            .ok()
            .and_then(|m| m.get("mediaType")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| crate::content::manifest::OCI_MANIFEST.to_owned());
        let outline = Outline::parse(&bytes, &media_type).map_err(ManifestError::Invalid)?;
        let _promising = self.content.promising()?;
        let missing: Vec<Digest> =
            outline.blobs.iter().filter(|(d, _)| !self.content.has_blob(d)).map(|(d, _)| d.clone()).collect();
        if !missing.is_empty() {
            return Err(ManifestError::Missing(missing));
        }
        for (digest, _) in &outline.blobs {
            self.link(digest)?;
        }
        Ok(self.record(&image.manifest, &bytes, &media_type, outline, Some(tag), false)?)
    }

    /// The blob, what is known of it, and last the tag: whoever sees the tag sees all of it.
    fn record(
        &self,
        digest: &Digest,
        bytes: &[u8],
        media_type: &str,
        outline: Outline,
        tag: Option<&str>,
        mirrored: bool,
    ) -> Result<StoredManifest, ContentError> {
        let _lock = self.lock()?;
        let actual = digest.again(bytes);
        if actual != *digest {
            return Err(ContentError::Mismatch { expected: digest.clone(), actual });
        }
        self.content.write_blob_as(bytes, digest)?;
        self.content.settle_blobs()?;
        if let Some(subject) = &outline.subject {
            facts::put(&self.dir.join("_referrers").join(subject.hex()), digest.hex(), b"")?;
        }
        let needs = outline.blobs.into_iter().map(|(d, _)| d).chain(outline.foreign).chain(outline.manifests).collect();
        let record = ManifestRecord {
            media_type: media_type.to_owned(),
            size: bytes.len() as u64,
            needs,
            subject: outline.subject.clone(),
            artifact_type: outline.artifact_type,
            annotations: outline.annotations,
            mirrored,
        };
        // What somebody pushed stays his, even if upstream has it too.
        if self.manifest(digest)?.is_none_or(|known| known.mirrored && !mirrored) {
            let record = serde_json::to_vec(&record).expect("a record is always JSON");
            facts::put(&self.dir.join("_manifests"), digest.hex(), &record)?;
        }
        if let Some(tag) = tag.filter(|t| is_tag(t)) {
            let fact = Tag { digest: digest.clone(), mirrored };
            if self.tag(tag)?.as_ref() != Some(&fact) {
                let fact = serde_json::to_vec(&fact).expect("a digest is always JSON");
                facts::put(&self.dir.join("_tags"), tag, &fact)?;
            }
        }
        Ok(StoredManifest { digest: digest.clone(), subject: outline.subject })
    }

    /// Whether a manifest is in this repository.
    pub fn has_manifest(&self, digest: &Digest) -> bool {
        self.dir.join("_manifests").join(digest.hex()).exists()
    }

    /// What is known of a manifest.
    ///
    /// # Errors
    /// The disk's.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<ManifestRecord>, ContentError> {
        let dir = self.dir.join("_manifests");
        let Some(bytes) = facts::read(&dir, digest.hex())? else { return Ok(None) };
        let damaged = |e| ContentError::io("parse", &dir.join(digest.hex()), std::io::Error::other(e));
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// How long a blob is by the manifests that need it, whether or not it is here.
    ///
    /// # Errors
    /// The disk's.
    pub fn announced(&self, blob: &Digest) -> Result<Option<u64>, ContentError> {
        for digest in self.manifests()? {
            let Some(record) = self.manifest(&digest)?.filter(|r| r.needs.contains(blob)) else { continue };
            let outline = Outline::parse(&self.content.read_blob(&digest)?, &record.media_type);
            let found = outline.ok().and_then(|o| o.blobs.into_iter().find(|(d, _)| d == blob));
            if let Some((_, size)) = found {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    /// The digests of all manifests, in no order.
    pub(super) fn manifests(&self) -> Result<Vec<Digest>, ContentError> {
        let names = facts::list(&self.dir.join("_manifests"))?;
        Ok(names.iter().filter_map(|n| Digest::from_hex(n)).collect())
    }

    /// What a tag stands for.
    ///
    /// # Errors
    /// The disk's.
    pub fn tag(&self, tag: &str) -> Result<Option<Tag>, ContentError> {
        if !is_tag(tag) {
            return Ok(None);
        }
        let dir = self.dir.join("_tags");
        let Some(bytes) = facts::read(&dir, tag)? else { return Ok(None) };
        let damaged = |e| ContentError::io("parse", &dir.join(tag), std::io::Error::other(e));
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// All tags in lexical order (case aside, as the specification has it).
    ///
    /// # Errors
    /// The disk's.
    pub fn tags(&self) -> Result<Vec<String>, ContentError> {
        let mut tags = facts::list(&self.dir.join("_tags"))?;
        tags.sort_by_cached_key(|t| lexical(t));
        Ok(tags)
    }

    /// Removes a tag and leaves the manifest; says whether it was there.
    ///
    /// # Errors
    /// The disk's.
    pub fn delete_tag(&self, tag: &str) -> Result<bool, ContentError> {
        if !self.exists() || !is_tag(tag) {
            return Ok(false);
        }
        let _promising = self.content.promising()?;
        let _lock = self.lock()?;
        facts::remove(&self.dir.join("_tags"), tag)
    }

    /// Removes a manifest and the tags that stand for it; says whether it was there.
    ///
    /// # Errors
    /// [`ContentError::InUse`] if an index of this repository needs it, or the disk's.
    pub fn delete_manifest(&self, digest: &Digest) -> Result<bool, ContentError> {
        if !self.has_manifest(digest) {
            return Ok(false);
        }
        let _promising = self.content.promising()?;
        let _lock = self.lock()?;
        let Some(record) = self.manifest(digest)? else { return Ok(false) };
        for other in self.manifests()?.iter().filter(|d| *d != digest) {
            if self.manifest(other)?.is_some_and(|r| r.needs.contains(digest)) {
                return Err(ContentError::InUse { image: digest.to_string(), container: other.to_string() });
            }
        }
        for tag in facts::list(&self.dir.join("_tags"))? {
            if self.tag(&tag)?.is_some_and(|t| t.digest == *digest) {
                facts::remove(&self.dir.join("_tags"), &tag)?;
            }
        }
        let gone = facts::remove(&self.dir.join("_manifests"), digest.hex())?;
        if let Some(subject) = &record.subject {
            facts::remove(&self.dir.join("_referrers").join(subject.hex()), digest.hex())?;
        }
        Ok(gone)
    }

    /// The manifests whose subject is `subject`, by digest.
    ///
    /// # Errors
    /// The disk's.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Referrer>, ContentError> {
        let mut names = facts::list(&self.dir.join("_referrers").join(subject.hex()))?;
        names.sort();
        let mut found = Vec::new();
        for digest in names.iter().filter_map(|n| Digest::from_hex(n)) {
            if let Some(record) = self.manifest(&digest)? {
                found.push(Referrer { digest, record });
            }
        }
        Ok(found)
    }
}

/// The order of tags.
fn lexical(tag: &str) -> (String, String) {
    (tag.to_ascii_lowercase(), tag.to_owned())
}
