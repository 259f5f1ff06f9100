//! Failures in Docker's shape: a status code and `{"message": …}`.

use engine::content::ContentError;
use http::StatusCode;
use network::NetworkError;

/// A refusal or failure as the client sees it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status; 304 is sent without a body.
    pub status: StatusCode,
    /// dockerd's words.
    pub message: String,
}

/// The crate's result.
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Nothing to do: the thing is as wanted already.
    pub(crate) fn not_modified() -> Self {
        Self::new(StatusCode::NOT_MODIFIED, "")
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> Self {
        let status = match &error {
            engine::Error::Invalid { .. } | engine::Error::Start { .. } => StatusCode::BAD_REQUEST,
            engine::Error::NotFound { .. } => StatusCode::NOT_FOUND,
            engine::Error::AlreadyExists { .. } | engine::Error::State { .. } => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = match &error {
            engine::Error::ShimStart { reason, .. } => format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: {reason}: \
                 unknown"
            ),
            other => other.to_string(),
        };
        Self::new(status, message)
    }
}

impl From<ContentError> for ApiError {
    fn from(error: ContentError) -> Self {
        match &error {
            ContentError::InvalidReference(_) => Self::bad("invalid reference format"),
            ContentError::NotFound(name) => Self::not_found(format!("No such image: {name}")),
            ContentError::NotInRegistry { reference } => {
                let shown = engine::content::Reference::parse(reference)
                    .map_or_else(|_| reference.clone(), |reference| reference.familiar());
                Self::not_found(format!("manifest for {shown} not found: manifest unknown: manifest unknown"))
            }
            ContentError::Denied { reference } => Self::not_found(format!(
                "pull access denied for {}, repository does not exist or may require 'docker login': denied: \
                 requested access to the resource is denied",
                familiar_repository(reference)
            )),
            ContentError::Invalid(_) | ContentError::Unpack { .. } => Self::bad(error.to_string()),
            ContentError::InUse { .. } => Self::conflict(error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}

fn familiar_repository(reference: &str) -> String {
    let Ok(parsed) = engine::content::Reference::parse(reference) else { return reference.to_owned() };
    let name = parsed.name();
    let short = name.strip_prefix("docker.io/").unwrap_or(&name);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

impl From<NetworkError> for ApiError {
    fn from(error: NetworkError) -> Self {
        match &error {
            NetworkError::AddressesExhausted(_) => {
                Self::internal("no available IPv4 addresses on this network's address pools")
            }
            NetworkError::AddressTaken(_) => Self::internal("Address already in use"),
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Self::bad(format!("invalid JSON: {error}"))
    }
}

/// Runs what blocks off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(ApiError::internal(format!("defect: {panic}"))))
}
