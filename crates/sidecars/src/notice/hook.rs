//! A webhook or a command that hears of the newest change, and of it until it succeeds.

use std::{path::PathBuf, process::Stdio, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri};
use http_ends::Client;
use tokio::sync::watch;

/// A webhook's answer is read up to so many bytes.
const ANSWER: usize = 1 << 20;

/// What is called.
#[derive(Clone)]
pub enum Kind {
    /// An address.
    Web {
        /// Who asks.
        client: Client,
        /// The address.
        url: Uri,
        /// The method.
        method: Method,
        /// The status of a success; any if not given.
        accepts: Option<u16>,
    },
    /// A command with its arguments.
    Command(Vec<String>),
}

/// What the call tells.
#[derive(Clone, Debug)]
pub struct Context {
    /// A header for a webhook.
    pub header: (&'static str, String),
    /// A variable for a command.
    pub variable: (&'static str, String),
    /// A command's working directory.
    pub directory: PathBuf,
}

/// A webhook or a command.
pub struct Hook {
    kind: Kind,
    timeout: Duration,
    newest: watch::Sender<Option<Context>>,
}

impl Hook {
    /// A hook whose calls take `timeout` at most, and are repeated after `backoff`.
    #[must_use]
    pub fn new(kind: Kind, timeout: Duration, backoff: Duration) -> Self {
        let (newest, mut changes) = watch::channel(None::<Context>);
        let called = kind.clone();
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                loop {
                    let Some(context) = changes.borrow_and_update().clone() else { break };
                    match call(&called, &context, timeout).await {
                        Ok(()) => break,
                        Err(error) => tracing::warn!(error, "the hook failed and is called again"),
                    }
                    tokio::time::sleep(backoff).await;
                }
            }
        });
        Self { kind, timeout, newest }
    }

    /// Tells of a change. One that has not been told with success yet is forgotten for it.
    pub fn tell(&self, context: Context) {
        self.newest.send_replace(Some(context));
    }
}

/// Calls each hook once, and waits for it.
///
/// # Errors
/// With what the first that failed says.
pub async fn once(hooks: &[Hook], context: &Context) -> Result<(), String> {
    for hook in hooks {
        call(&hook.kind, context, hook.timeout).await?;
    }
    Ok(())
}

async fn call(kind: &Kind, context: &Context, timeout: Duration) -> Result<(), String> {
    match kind {
        Kind::Web { client, url, method, accepts } => {
            let value = HeaderValue::from_str(&context.header.1).map_err(|error| error.to_string())?;
            let mut request = Request::new(Bytes::new());
            *request.method_mut() = method.clone();
            *request.uri_mut() = url.clone();
            request.headers_mut().insert(context.header.0, value);
            let answer = client.send(request, ANSWER, timeout).await.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            if accepts.is_none_or(|accepts| accepts == status) {
                Ok(())
            } else {
                Err(format!("{url}: status {status}"))
            }
        }
        Kind::Command(words) => {
            let Some((program, arguments)) = words.split_first() else { return Ok(()) };
            let ended = tokio::process::Command::new(program)
                .args(arguments)
                .env(context.variable.0, &context.variable.1)
                .current_dir(&context.directory)
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .status();
            match tokio::time::timeout(timeout, ended).await {
                Ok(Ok(status)) if status.success() => Ok(()),
                Ok(Ok(status)) => Err(format!("{program}: {status}")),
                Ok(Err(error)) => Err(format!("{program}: {error}")),
                Err(_) => Err(format!("{program} took longer than {timeout:?}")),
            }
        }
    }
}
