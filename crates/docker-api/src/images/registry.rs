//! Talking to registries on behalf of a user: pushing, and trying credentials.

use std::time::Duration;

use engine::content::{Connection, Credentials, PullOptions, Reference, Secret, causes};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;

use crate::error::{ApiError, Result};
use crate::system::AuthConfig;

/// How long a registry may take nothing and say nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one blob may take, on whatever line.
const LONGEST_UPLOAD: Duration = Duration::from_secs(24 * 3600);

/// A registry as one user sees it.
pub(crate) struct Registry {
    pub(super) connection: Connection,
    pub(super) host: String,
    pub(super) auth: RegistryAuth,
}

/// Why credentials were not accepted.
pub(crate) enum Unauthorized {
    /// The registry said no; its address.
    Refused(String),
    /// It could not be asked.
    Unreachable(String),
}

/// The same credentials for the engine's own client.
pub(crate) fn credentials(config: &AuthConfig) -> Vec<Credentials> {
    if !config.registrytoken.is_empty() {
        return vec![Credentials::Token(Secret(config.registrytoken.clone()))];
    }
    if !config.username.is_empty() {
        return vec![Credentials::Basic {
            username: config.username.clone(),
            password: Secret(config.password.clone()),
        }];
    }
    Vec::new()
}

impl Registry {
    /// Finds out which protocol the registry speaks, and logs in nowhere yet.
    pub async fn new(host: &str, config: Option<AuthConfig>, options: &PullOptions) -> Result<Self> {
        let auth = match config {
            Some(config) if !config.registrytoken.is_empty() => RegistryAuth::Bearer(config.registrytoken),
            Some(config) if !config.username.is_empty() => RegistryAuth::Basic(config.username, config.password),
            _ => RegistryAuth::Anonymous,
        };
        let connection = Connection::open(host, options, LONGEST_UPLOAD).await;
        let connection = connection.map_err(|error| ApiError::internal(causes(&error)))?;
        Ok(Self { connection, host: host.to_owned(), auth })
    }

    /// The name as the client has it.
    pub(super) fn reference(&self, reference: &Reference) -> Result<oci_client::Reference> {
        let tag = reference.tag.clone().unwrap_or_else(|| "latest".into());
        let host = if self.host == "docker.io" { "index.docker.io" } else { &self.host };
        Ok(oci_client::Reference::with_tag(host.to_owned(), reference.repository.clone(), tag))
    }

    /// Whether the registry lets the user in.
    pub async fn check(&self) -> Result<(), Unauthorized> {
        let address = format!("{}://{}/v2/", self.connection.scheme, self.host);
        // Any name will do: who is let in is told that there is no such thing.
        let reference = oci_client::Reference::with_tag(self.host.clone(), "hythe/login".into(), "latest".into());
        let asked =
            tokio::time::timeout(PATIENCE, self.connection.client.fetch_manifest_digest(&reference, &self.auth)).await;
        let Ok(answer) = asked else {
            return Err(Unauthorized::Unreachable(format!(
                "Get \"{address}\": net/http: request canceled while waiting"
            )));
        };
        match answer {
            Ok(_) => Ok(()),
            Err(OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. }) => {
                Err(Unauthorized::Refused(address))
            }
            Err(OciDistributionError::RequestError(error)) if error.status().is_none() => {
                Err(Unauthorized::Unreachable(match self.connection.explain(&error) {
                    told if told.starts_with("Get ") => told,
                    causes => format!("Get \"{address}\": {causes}"),
                }))
            }
            Err(_) => Ok(()),
        }
    }

    /// Sends a manifest under the reference's tag.
    pub async fn push_manifest(
        &self,
        there: &oci_client::Reference,
        name: &Reference,
        bytes: Vec<u8>,
        media_type: &str,
    ) -> Result<()> {
        let kind = media_type.parse().map_err(|_| ApiError::internal(format!("manifest of type {media_type:?}")))?;
        let pushed = self.in_time(self.connection.client.push_manifest_raw(there, bytes, kind)).await?;
        pushed.map_err(|error| self.failure(name, &error))?;
        Ok(())
    }

    /// A question that is answered soon or never.
    pub(super) async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T> {
        let silent = |_| ApiError::internal(format!("{}: the registry does not answer", self.host));
        tokio::time::timeout(PATIENCE, answer).await.map_err(silent)
    }

    pub(super) fn failure(&self, name: &Reference, error: &OciDistributionError) -> ApiError {
        let denied = || {
            let repository = name.name();
            let repository = repository.strip_prefix("docker.io/").unwrap_or(&repository).to_owned();
            ApiError::forbidden(format!(
                "push access denied, repository does not exist or may require authorization: {repository}"
            ))
        };
        match error {
            OciDistributionError::AuthenticationFailure(_) => denied(),
            // It asked for a password, and there is none.
            OciDistributionError::ServerError { code: 401, .. } => {
                ApiError::new(http::StatusCode::UNAUTHORIZED, "no basic auth credentials")
            }
            OciDistributionError::UnauthorizedError { .. } => {
                ApiError::new(http::StatusCode::UNAUTHORIZED, "unauthorized: authentication required")
            }
            other => ApiError::internal(self.connection.explain(other)),
        }
    }
}
