//! Manifests and indexes: OCI's and Docker's schema 2, which differ in media types only.

use serde::{Deserialize, Serialize};

use super::{ContentError, Digest};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A pointer to a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Platform {
    pub architecture: String,
    pub os: String,
}

/// An image manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
}

/// Either of both.
pub(super) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

impl Document {
    pub fn parse(bytes: &[u8]) -> Result<Self, ContentError> {
        let invalid = |e: serde_json::Error| ContentError::Invalid(format!("manifest: {e}"));
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(invalid)?;
        if value.get("manifests").is_some() {
            let index: Index = serde_json::from_value(value).map_err(invalid)?;
            return Ok(Self::Index(index.manifests));
        }
        Ok(Self::Manifest(serde_json::from_value(value).map_err(invalid)?))
    }
}

/// The manifest of an index that fits this machine.
pub(super) fn for_this_machine(manifests: &[Descriptor]) -> Option<&Descriptor> {
    for_platform(manifests, "linux", architecture())
}

/// The manifest of an index that fits a platform, or else the first that says nothing of one.
pub(super) fn for_platform<'a>(manifests: &'a [Descriptor], os: &str, architecture: &str) -> Option<&'a Descriptor> {
    let is_image = |d: &&Descriptor| {
        matches!(d.media_type.as_str(), "" | OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_INDEX)
    };
    manifests
        .iter()
        .filter(is_image)
        .find(|d| d.platform.as_ref().is_some_and(|p| p.os == os && go_name(&p.architecture) == go_name(architecture)))
        .or_else(|| manifests.iter().filter(is_image).find(|d| d.platform.is_none()))
}

/// This machine's architecture as Go and the OCI name it.
pub(super) fn architecture() -> &'static str {
    go_name(std::env::consts::ARCH)
}

/// An architecture as Go and the OCI name it, by any name that kernels and users have for it (containerd's `platforms`).
pub fn go_name(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_may_name_an_architecture_as_kernels_do() {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let of = |letter: &str, architecture: &str| {
            let platform = serde_json::json!({"os": "linux", "architecture": architecture});
            let entry = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest(letter), "size": 1, "platform": platform});
            serde_json::from_value::<Descriptor>(entry).unwrap()
        };
        let manifests = [of("a", "aarch64"), of("b", "x86_64")];
        for (asked, found) in [("amd64", "b"), ("x86_64", "b"), ("arm64", "a")] {
            let of_it = for_platform(&manifests, "linux", asked).expect(asked);
            assert_eq!(of_it.digest.to_string(), digest(found), "{asked}");
        }
        assert!(for_platform(&manifests, "linux", "riscv64").is_none());
    }
}
