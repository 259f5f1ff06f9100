//! BuildKit's API over this project's builder: what `docker build` and `docker compose build` speak where they have
//! buildx.
//!
//! ```text
//! client ── Solve, Status (gRPC, the client calls) ──> control ── solve ──> builder
//!        <── files, secrets, credentials, exported archives (a session: the client answers) ──┘
//! ```
//!
//! Dockerfiles are built; build graphs of a client's own making are not. Everything that a client sends is bounded and
//! checked: a context is written below a directory that nothing of it can leave, goes with its build, and a client that
//! leaves ends its build.

mod control;
mod host;
mod jobs;
mod progress;
mod session;
mod solve;
mod sync;
mod wire;

pub use host::{Host, Place};
pub use session::SessionError;
pub use sync::{Limits, SyncError, TreeError};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use builder::Builder;
use engine::content::Content;
use grpc::{Message, Status};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::jobs::Jobs;
use crate::session::Sessions;
use crate::wire::{Export, SolveRequest};

/// The API. Cheap to clone.
#[derive(Clone)]
pub struct BuildKit(Arc<Inner>);

pub(crate) struct Inner {
    pub host: Arc<dyn Host>,
    pub builder: Builder,
    pub content: Content,
    pub sessions: Sessions,
    pub jobs: Jobs,
}

/// A build that was asked for by other means than gRPC.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The client's name for it.
    pub build: String,
    /// The client's session.
    pub session: String,
    /// What the frontend `dockerfile.v0` is told.
    pub attributes: BTreeMap<String, String>,
    /// The context as an archive, where it is neither a directory of the session's nor a URL. It is moved away.
    pub archive: Option<std::path::PathBuf>,
    /// Exporters with their attributes.
    pub exports: Vec<(String, BTreeMap<String, String>)>,
}

/// A build's progress.
pub struct Progress(progress::Watch);

impl BuildKit {
    /// Over a builder that keeps its images in `content`.
    pub fn new(host: Arc<dyn Host>, builder: Builder, content: Content) -> Self {
        Self(Arc::new(Inner { host, builder, content, sessions: Sessions::default(), jobs: Jobs::default() }))
    }

    /// Answers a client's calls on a connection (HTTP/2) until it closes.
    pub async fn control<T>(&self, io: T)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let inner = self.0.clone();
        grpc::connection(io, move |call| control::answer(inner.clone(), call)).await;
    }

    /// Keeps a client's session, whose connection (HTTP/2) is this; the client answers `methods`
    /// (`/package.Service/Method`).
    ///
    /// # Errors
    /// [`SessionError`]
    pub async fn session<T>(
        &self,
        io: T,
        id: &str,
        methods: impl IntoIterator<Item = String>,
    ) -> Result<(), SessionError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let methods: BTreeSet<String> = methods.into_iter().map(|method| method.to_ascii_lowercase()).collect();
        self.0.sessions.run(io, id.to_owned(), methods).await
    }

    /// Builds; returns what programs are told of the result (`containerimage.digest`…). Drop the future to give it up.
    ///
    /// # Errors
    /// In words for a user.
    pub async fn build(&self, request: Request) -> Result<BTreeMap<String, String>, Status> {
        let exports = request.exports.into_iter().map(|(kind, attributes)| Export { kind, attributes });
        let request = SolveRequest {
            build: request.build,
            session: request.session,
            frontend: "dockerfile.v0".into(),
            attributes: request.attributes,
            exports: exports.collect(),
            archive: request.archive,
            ..SolveRequest::default()
        };
        self.0.solve(&request).await
    }

    /// The progress of a build that has begun, or is about to.
    ///
    /// # Errors
    /// There is no such build.
    pub async fn progress(&self, build: &str) -> Result<Progress, Status> {
        Ok(Progress(self.0.jobs.get(build).await?.journal.watch()))
    }
}

impl Progress {
    /// The next encoded `StatusResponse`; `None` when the build has ended.
    pub async fn next(&mut self) -> Option<Arc<Message>> {
        self.0.next().await
    }
}

impl Inner {
    /// This machine's, as images name it.
    fn platform(&self) -> String {
        builder::platform()
    }
}
