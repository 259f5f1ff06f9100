//! `moby.filesync.v1.Auth`: what the client knows of a registry.

use std::time::Duration;

use engine::content::{Credentials, Secret};
use grpc::{CallError, Fields, Message, Status};

use super::Session;

/// Credential helpers may ask their user.
const PATIENCE: Duration = Duration::from_secs(60);

/// Name and password for a registry, by its host; `None` if the client has none. Docker Hub's have a host of their own.
pub(crate) async fn login(session: &Session, registry: &str) -> Result<Option<(String, String)>, String> {
    const METHOD: &str = "moby.filesync.v1.Auth/Credentials";
    if !session.answers(METHOD) {
        return Ok(None);
    }
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let message = Message::default().text(1, host);
    let answer = match tokio::time::timeout(PATIENCE, session.channel.unary(METHOD, &message)).await {
        Err(_) => return Err(format!("resolving credentials for {registry}: context deadline exceeded")),
        Ok(Err(CallError::Refused(status))) if status.code == Status::UNIMPLEMENTED => return Ok(None),
        Ok(Err(error)) => return Err(format!("resolving credentials for {registry}: {error}")),
        Ok(Ok(answer)) => answer,
    };
    let fields = Fields::read(&answer);
    let (name, password) = (fields.text(1), fields.text(2));
    Ok((!password.is_empty()).then_some((name, password)))
}

/// The same for the engine's own client; a password without a name is a token.
pub(crate) fn credentials((username, password): (String, String)) -> Credentials {
    match username.as_str() {
        "" => Credentials::Token(Secret(password)),
        _ => Credentials::Basic { username, password: Secret(password) },
    }
}
