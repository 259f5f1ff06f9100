//! What the agent needs of an image store.

use std::path::PathBuf;

use async_trait::async_trait;
use engine::Rootfs;

/// Images on this node and the way to get more.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// The image of that reference, if it is here.
    async fn find(&self, reference: &str) -> Result<Option<ImageInfo>, ImageError>;
    /// Gets it from its registry, trying `credentials` in order (then none).
    async fn pull(&self, reference: &str, credentials: &[Credential]) -> Result<ImageInfo, ImageError>;
    /// A writable root file system on the image's layers, named `id`.
    async fn prepare_root(&self, id: &str, image: &ImageInfo) -> Result<Rootfs, ImageError>;
    /// Forgets that root file system; an unknown id is fine.
    async fn remove_root(&self, id: &str) -> Result<(), ImageError>;
    /// The layers of an image, the topmost first, for a volume named `id` that goes by [`Self::remove_root`]. A volume
    /// that was made keeps its image, whatever `image` is by now.
    async fn prepare_volume(&self, id: &str, image: &ImageInfo) -> Result<Vec<PathBuf>, ImageError> {
        Ok(match self.prepare_root(id, image).await? {
            Rootfs::Overlay { lower, .. } => lower,
            Rootfs::Path(path) => vec![path],
        })
    }
    /// Bytes that were written to that root file system, and how many files and directories.
    async fn root_usage(&self, id: &str) -> (u64, u64);
    /// Removes an image by its id, with all of its names; refused while a container stands on it.
    async fn remove(&self, id: &str) -> Result<(), ImageError>;
    /// Where they lie on the host; `None` if nowhere of their own.
    fn directory(&self) -> Option<PathBuf>;
    /// All images here.
    async fn list(&self) -> Result<Vec<ImageInfo>, ImageError>;
}

/// An image as far as the agent cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Digest of the image's configuration or manifest (`sha256:…`).
    pub id: String,
    /// Names it goes by: tags and `repo@sha256:…` digests.
    pub names: Vec<String>,
    /// `repo@sha256:…` or the id: what `status.imageID` shows.
    pub image_id: String,
    /// The full name for `status.image`, for instance `docker.io/library/redis:7`.
    pub display: String,
    /// Bytes of the compressed content.
    pub size: u64,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// WORKDIR, or empty.
    pub working_dir: String,
    /// USER, or empty.
    pub user: String,
    /// STOPSIGNAL, or empty.
    pub stop_signal: String,
    /// VOLUME: paths that get an anonymous directory.
    pub volumes: Vec<String>,
}

/// A name and password for registries below `registry`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// As the key in `auths` has it, for instance `registry.example:5000/team`.
    pub registry: String,
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password never gets into a log.
        f.debug_struct("Credential").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Why an image can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The reference can't be parsed. A retry does not help.
    #[error("couldn't parse image name {reference:?}: {message}")]
    InvalidName {
        /// As written.
        reference: String,
        /// What is wrong with it.
        message: String,
    },
    /// The registry refused or did not answer. A retry may help.
    #[error("{0}")]
    Pull(String),
    /// The registry can't be reached. A retry may help.
    #[error("{0}")]
    RegistryUnavailable(String),
    /// The node's own storage failed. A retry may help.
    #[error("{0}")]
    Storage(String),
}
