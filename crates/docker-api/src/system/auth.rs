//! `POST /auth`: whether a registry lets somebody in (`docker login`).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::json;

use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, json as json_answer};
use crate::images::registry::{Registry, Unauthorized};

/// The body; also what `X-Registry-Auth` holds.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct AuthConfig {
    pub username: String,
    pub password: String,
    pub auth: String,
    pub serveraddress: String,
    pub identitytoken: String,
    pub registrytoken: String,
}

impl AuthConfig {
    /// Of the `X-Registry-Auth` header: base64 (either alphabet) of JSON.
    pub fn of(call: &Call) -> Option<Self> {
        let config: Self = decoded(call.headers.get("x-registry-auth")?.to_str().ok()?)?;
        let says_something =
            !config.username.is_empty() || !config.identitytoken.is_empty() || !config.registrytoken.is_empty();
        says_something.then_some(config)
    }
}

/// The registry that an address is of, as in `https://index.docker.io/v1/`.
fn registry_of(address: &str) -> &str {
    let host = address.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    if host.is_empty() || host == "index.docker.io" { "docker.io" } else { host }
}

/// Of the `X-Registry-Config` header: the logins that a build may need, by registry.
pub(crate) fn logins(call: &Call) -> Vec<(String, AuthConfig)> {
    let Some(text) = call.headers.get("x-registry-config").and_then(|value| value.to_str().ok()) else {
        return Vec::new();
    };
    let configs: BTreeMap<String, AuthConfig> = decoded(text).unwrap_or_default();
    configs.into_iter().map(|(address, config)| (registry_of(&address).to_owned(), config)).collect()
}

/// Base64, of either alphabet, of JSON.
fn decoded<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    let text = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Tries the credentials at the registry.
pub(crate) async fn auth(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let config: AuthConfig = call.json().await?;
    let host = registry_of(&config.serveraddress);
    let registry = Registry::new(host, Some(config.clone()), &daemon.config.registries).await?;
    match registry.check().await {
        Ok(()) => Ok(json_answer(&json!({"IdentityToken": "", "Status": "Login Succeeded"}))),
        Err(Unauthorized::Refused(address)) => Err(ApiError::new(
            http::StatusCode::UNAUTHORIZED,
            format!("login attempt to {address} failed with status: 401 Unauthorized"),
        )),
        Err(Unauthorized::Unreachable(text)) => Err(ApiError::internal(text)),
    }
}
