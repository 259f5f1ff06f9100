//! What can go wrong with a build.

use std::path::{Path, PathBuf};

use engine::content::ContentError;

use crate::dockerfile::ParseError;
use crate::pattern::BadPattern;

/// A build that failed. Nothing of it stays but what the cache may use again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}")]
pub struct BuildError {
    /// What happened.
    pub kind: Kind,
    /// The instruction's first and last line, from 1, when it is one's fault.
    pub lines: Option<(usize, usize)>,
    /// The Dockerfile around those lines, with a mark, for a terminal.
    pub excerpt: Option<String>,
}

/// The kinds of failures.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Kind {
    /// The Dockerfile can't be parsed. A retry does not help.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// The request or an instruction can't be served as it is. A retry does not help. The text is Docker's.
    #[error("{0}")]
    Invalid(String),
    /// A `RUN` ended with another code than 0.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Exit {
        /// Program and arguments.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// A source of `COPY` or `ADD` is not in the context, or not in the image or stage it is to come from.
    #[error("{instruction} failed: {}stat {path}: file does not exist", if *.image { "" } else {
        "file not found in build context or excluded by .dockerignore: "
    })]
    Missing {
        /// `COPY` or `ADD`.
        instruction: &'static str,
        /// As the Dockerfile names it.
        path: String,
        /// It is to come from an image or a stage.
        image: bool,
    },
    /// Images, layers and blobs: not found, refused by the registry, disk full…
    #[error("{0}")]
    Content(std::sync::Arc<ContentError>),
    /// The container of a `RUN` could not be made.
    #[error("{0}")]
    Engine(std::sync::Arc<engine::Error>),
    /// The disk refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: std::sync::Arc<std::io::Error>,
    },
    /// The build was cut off (shutdown or a defect).
    #[error("interrupted: {0}")]
    Interrupted(String),
}

impl Kind {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { action, path: path.to_path_buf(), source: std::sync::Arc::new(source.into()) }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// At an instruction.
    pub(crate) fn at(self, lines: (usize, usize)) -> BuildError {
        BuildError { kind: self, lines: Some(lines), excerpt: None }
    }
}

impl From<Kind> for BuildError {
    fn from(kind: Kind) -> Self {
        let lines = match &kind {
            Kind::Parse(error) => Some((error.line, error.line)),
            _ => None,
        };
        Self { kind, lines, excerpt: None }
    }
}

impl From<ContentError> for Kind {
    fn from(error: ContentError) -> Self {
        Self::Content(std::sync::Arc::new(error))
    }
}

impl From<engine::Error> for Kind {
    fn from(error: engine::Error) -> Self {
        Self::Engine(std::sync::Arc::new(error))
    }
}

impl From<BadPattern> for Kind {
    fn from(error: BadPattern) -> Self {
        Self::Invalid(error.to_string())
    }
}
