//! Commands in a container: probes and hooks.

use std::{sync::Arc, time::Duration};

use engine::ExecSpec;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{context::Context, runtime::Process};

/// Bytes of output kept, as upstream cuts a probe's.
const LIMIT: u64 = 10 << 10;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub exit_code: i32,
    /// The beginning of what it wrote to stdout and stderr.
    pub text: Vec<u8>,
}

/// Why there is no exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command took longer than it may, and was killed.
    #[error("command timed out: {0:?} timed out after {1}s")]
    TimedOut(String, u64),
    /// The command could not be run: it is not there, or its container has gone.
    #[error("{0}")]
    NotRun(String),
}

/// Runs a command to its end; after `timeout` it is killed.
pub async fn run(
    context: &Arc<Context>,
    sandbox: &str,
    container: &str,
    command: &[String],
    timeout: Option<Duration>,
) -> Result<Output, Failure> {
    let spec = ExecSpec {
        container: container.to_owned(),
        args: command.to_vec(),
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    };
    let mut process = match context.runtime.exec(sandbox, spec).await {
        Ok(process) => process,
        // In containerd's words, as upstream tells them on.
        Err(engine::Error::Start { message, .. }) => {
            return Err(Failure::NotRun(format!(
                "rpc error: code = Unknown desc = failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: {message}: unknown"
            )));
        }
        Err(error) => return Err(Failure::NotRun(error.to_string())),
    };
    let whole = finish(&mut process);
    match timeout {
        None => whole.await,
        Some(timeout) => match tokio::time::timeout(timeout, whole).await {
            Ok(result) => result,
            Err(_) => {
                process.control.kill().await;
                Err(Failure::TimedOut(command.join(" "), timeout.as_secs()))
            }
        },
    }
}

async fn finish(process: &mut Process) -> Result<Output, Failure> {
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let (mut text, more, exit) = futures::join!(collect(stdout), collect(stderr), process.control.wait());
    text.extend(more);
    text.truncate(usize::try_from(LIMIT).unwrap_or(usize::MAX));
    exit.map(|exit| Output { exit_code: exit.exit_code, text }).map_err(|e| Failure::NotRun(e.to_string()))
}

async fn collect(stream: Option<Box<dyn AsyncRead + Send + Unpin>>) -> Vec<u8> {
    let Some(mut stream) = stream else { return Vec::new() };
    let mut kept = Vec::new();
    // A stream that breaks ends here; what came is kept.
    let _ = (&mut stream).take(LIMIT).read_to_end(&mut kept).await;
    // The rest is read so that the command is not held up.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    kept
}
