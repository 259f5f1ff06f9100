//! `POST /auth`: whether a registry lets somebody in (`docker login`).

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
        let text = call
            .headers
            .get("x-registry-auth")?
            .to_str()
            .ok()?
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_");
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
        let config: Self = serde_json::from_slice(&bytes).ok()?;
        let says_something =
            !config.username.is_empty() || !config.identitytoken.is_empty() || !config.registrytoken.is_empty();
        says_something.then_some(config)
    }
}

/// Tries the credentials at the registry.
pub(crate) async fn auth(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let config: AuthConfig = call.json().await?;
    let host = config.serveraddress.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    let host = if host.is_empty() || host == "index.docker.io" { "docker.io" } else { host };
    let registry = Registry::new(host, Some(config.clone()), &daemon.config.registries)?;
    match registry.check().await {
        Ok(()) => Ok(json_answer(&json!({"IdentityToken": "", "Status": "Login Succeeded"}))),
        Err(Unauthorized::Refused(address)) => Err(ApiError::new(
            http::StatusCode::UNAUTHORIZED,
            format!("login attempt to {address} failed with status: 401 Unauthorized"),
        )),
        Err(Unauthorized::Unreachable(text)) => Err(ApiError::internal(text)),
    }
}
