//! What can go wrong with content.

use std::path::{Path, PathBuf};

use super::Digest;

/// All errors of images, blobs, layers and snapshots.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The text is no image reference. A retry does not help.
    #[error("couldn't parse image name {0:?}: invalid reference format")]
    InvalidReference(String),
    /// No image of that name or ID is here.
    #[error("image {0:?} not found")]
    NotFound(String),
    /// The registry knows no such repository, tag or digest.
    #[error("failed to resolve reference {reference:?}: {reference}: not found")]
    NotInRegistry {
        /// The normalized name.
        reference: String,
    },
    /// The registry wants (other) credentials.
    #[error(
        "failed to resolve reference {reference:?}: pull access denied, repository does not exist or may require authorization"
    )]
    Denied {
        /// The normalized name.
        reference: String,
    },
    /// The registry can't be reached or answered out of order. A retry may help.
    #[error("failed to pull {reference:?}: {message}")]
    Registry {
        /// The normalized name.
        reference: String,
        /// What happened.
        message: String,
    },
    /// The bytes are not what their name says. A retry may help if they came over a network.
    #[error("content does not match its digest: expected {expected}, got {actual}")]
    Mismatch {
        /// What it was called.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A manifest, configuration or archive that can't be understood. A retry does not help.
    #[error("invalid image: {0}")]
    Invalid(String),
    /// A layer that tries what a layer must not, or is damaged. A retry does not help.
    #[error("failed to unpack layer: {entry}: {message}")]
    Unpack {
        /// The entry of the archive.
        entry: String,
        /// What is wrong with it.
        message: String,
    },
    /// The image can't be removed while a container uses it.
    #[error("conflict: unable to remove {image:?}: image is being used by container {container}")]
    InUse {
        /// As it was asked for.
        image: String,
        /// One of its users.
        container: String,
    },
    /// The disk refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// The work was cut off (shutdown or a bug).
    #[error("interrupted: {0}")]
    Interrupted(String),
}

impl ContentError {
    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { action, path: path.to_path_buf(), source: source.into() }
    }
}
