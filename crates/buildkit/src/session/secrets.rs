//! `moby.buildkit.secrets.v1.Secrets`: the client's secrets, asked for when a step wants one.

use std::time::Duration;

use builder::Secrets;
use futures::future::BoxFuture;
use grpc::{CallError, Fields, Message, Status};

use super::Session;

/// How long a client may look for a secret.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest, as BuildKit has it.
const LARGEST: usize = 500 << 10;

/// Those of one session.
pub(crate) struct SessionSecrets(pub Session);

impl Secrets for SessionSecrets {
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        Box::pin(async move {
            const METHOD: &str = "moby.buildkit.secrets.v1.Secrets/GetSecret";
            if !self.0.answers(METHOD) {
                return Ok(None);
            }
            let message = Message::default().text(1, id);
            match tokio::time::timeout(PATIENCE, self.0.channel.unary(METHOD, &message)).await {
                Err(_) => Err("context deadline exceeded".to_owned()),
                Ok(Err(CallError::Refused(status)))
                    if matches!(status.code, Status::NOT_FOUND | Status::UNIMPLEMENTED) =>
                {
                    Ok(None)
                }
                Ok(Err(error)) => Err(error.to_string()),
                Ok(Ok(answer)) => {
                    let data = Fields::read(&answer).data(1).to_vec();
                    if data.len() > LARGEST { Err(format!("more than {LARGEST} bytes")) } else { Ok(Some(data)) }
                }
            }
        })
    }
}
