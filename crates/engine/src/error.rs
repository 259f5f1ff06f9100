//! What can go wrong.

use std::path::PathBuf;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation of the engine. Nothing is left half-made unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The specification cannot be served (bad id, relative path, empty command…). A retry does not help.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// Field of the specification.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a sandbox or container of that id.
    #[error("{kind} {id:?} already exists")]
    AlreadyExists {
        /// `sandbox` or `container`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// There is none of that id.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// `sandbox` or `container`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// The container is not in a state that allows the operation (exec in an exited one, start of a running one).
    #[error("container {id:?} is {state}, which does not allow to {operation}")]
    State {
        /// The container's id.
        id: String,
        /// Its state in lower case.
        state: String,
        /// What was asked for.
        operation: &'static str,
    },
    /// The container could not be made: rootfs, mounts, namespaces, cgroups. The text is the runtime's.
    #[error("failed to create container: {0}")]
    Create(String),
    /// The program could not be started: missing, not executable, not a program. `message` reads like runc's
    /// (`exec: "foo": executable file not found in $PATH`), `exit_code` is the convention's: 127 not found, 126 not
    /// executable, 128 otherwise.
    #[error("{message}")]
    Start {
        /// Text for the user.
        message: String,
        /// What a shell would say.
        exit_code: i32,
    },
    /// A limit of time passed; what was started has been killed.
    #[error("timed out after {0:?}")]
    Timeout(std::time::Duration),
    /// The sandbox's shim is gone; its containers are or will be killed. Create the sandbox anew.
    #[error("the shim of sandbox {0:?} is gone")]
    ShimGone(String),
    /// The shim could not be started.
    #[error("the shim of sandbox {id:?} did not start: {reason}")]
    ShimStart {
        /// The sandbox's id.
        id: String,
        /// What it said.
        reason: String,
    },
    /// The shim answered what cannot be understood (a defect, or a shim of another version).
    #[error("shim protocol: {0}")]
    Protocol(String),
    /// The shim could not do it.
    #[error("{0}")]
    Shim(String),
    /// A call of the operating system failed.
    #[error("{operation} {path:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}
