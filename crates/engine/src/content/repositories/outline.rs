//! What a manifest of any kind says that a registry has to know.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::content::{
    Digest,
    manifest::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST},
};

/// The deprecated artifact manifest of OCI 1.1's release candidates, still found in the wild.
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// A manifest reduced to its pointers.
pub(super) struct Outline {
    /// Blobs that must be here: (digest, length in bytes).
    pub blobs: Vec<(Digest, u64)>,
    /// Layers that may be fetched from elsewhere.
    pub foreign: Vec<Digest>,
    /// Manifests of an index.
    pub manifests: Vec<Digest>,
    pub subject: Option<Digest>,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Pointer>,
    #[serde(default)]
    layers: Option<Vec<Pointer>>,
    #[serde(default)]
    blobs: Option<Vec<Pointer>>,
    #[serde(default)]
    manifests: Option<Vec<Pointer>>,
    #[serde(default)]
    subject: Option<Pointer>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Pointer {
    fn is_foreign(&self) -> bool {
        self.urls.as_ref().is_some_and(|u| !u.is_empty())
            && (self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign."))
    }
}

impl Outline {
    /// Reads a manifest that was sent as `media_type`.
    ///
    /// # Errors
    /// Why it is none, for a person to read.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if let Some(own) = raw.media_type.as_deref().filter(|own| *own != media_type) {
            return Err(format!("the manifest's mediaType is {own}, but it was sent as {media_type}"));
        }
        let is_index = match media_type {
            OCI_INDEX | DOCKER_INDEX => true,
            OCI_MANIFEST | DOCKER_MANIFEST | OCI_ARTIFACT => false,
            other => return Err(format!("media type {other} is not supported")),
        };
        if media_type != OCI_ARTIFACT && raw.schema_version != Some(2) {
            return Err("schemaVersion must be 2".into());
        }
        // One document that is both lets two readers see two images (OCI image specification, GHSA-mc8v-mgrf-8f4m).
        match is_index {
            true if raw.config.is_some() || raw.layers.is_some() => {
                return Err("an index can't have config or layers".into());
            }
            true if raw.manifests.is_none() => return Err("an index needs manifests".into()),
            false if raw.manifests.is_some() => return Err("a manifest can't have manifests".into()),
            false if media_type != OCI_ARTIFACT && (raw.config.is_none() || raw.layers.is_none()) => {
                return Err("a manifest needs config and layers".into());
            }
            _ => {}
        }
        let artifact_type = raw
            .artifact_type
            .filter(|t| !t.is_empty())
            .or_else(|| raw.config.as_ref().map(|c| c.media_type.clone()).filter(|t| !t.is_empty()));
        let mut outline = Self {
            blobs: Vec::new(),
            foreign: Vec::new(),
            manifests: raw.manifests.into_iter().flatten().map(|p| p.digest).collect(),
            subject: raw.subject.map(|s| s.digest),
            artifact_type,
            annotations: raw.annotations.unwrap_or_default(),
        };
        let all = raw.config.into_iter().chain(raw.layers.into_iter().flatten()).chain(raw.blobs.into_iter().flatten());
        for pointer in all {
            match pointer.is_foreign() {
                true => outline.foreign.push(pointer.digest),
                false => outline.blobs.push((pointer.digest, pointer.size)),
            }
        }
        Ok(outline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::of(b"x")
    }

    #[test]
    fn a_document_that_is_both_an_index_and_a_manifest_is_refused() {
        let d = digest();
        let both = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{d}","size":1}},"layers":[],"manifests":[]}}"#
        );
        for kind in [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX] {
            assert!(Outline::parse(both.as_bytes(), kind).is_err(), "{kind}");
        }
    }

    #[test]
    fn the_artifact_type_falls_back_to_the_configurations_type() {
        let d = digest();
        let with = |extra: &str| {
            format!(
                r#"{{"schemaVersion":2{extra},"config":{{"mediaType":"application/config","digest":"{d}","size":1}},"layers":[]}}"#
            )
        };
        let kind = |text: String| Outline::parse(text.as_bytes(), OCI_MANIFEST).unwrap().artifact_type;
        assert_eq!(kind(with("")).as_deref(), Some("application/config"));
        assert_eq!(kind(with(r#","artifactType":"a/b""#)).as_deref(), Some("a/b"));
    }

    #[test]
    fn a_layer_from_elsewhere_need_not_be_here() {
        let d = digest();
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{d}","size":1}},"layers":[
            {{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{d}","size":5,"urls":["https://x/"]}}]}}"#
        );
        let outline = Outline::parse(text.as_bytes(), OCI_MANIFEST).unwrap();
        assert_eq!((outline.blobs.len(), outline.foreign.len()), (1, 1));
    }
}
