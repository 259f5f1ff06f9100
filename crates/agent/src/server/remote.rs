//! A process and a far client, connected: streams both ways, sizes of the terminal, and how it ended.

use std::time::Duration;

use engine::TerminalSize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
};

use crate::runtime::Process;

/// The client's side.
pub struct Remote {
    /// What the client types.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where it reads stdout.
    pub stdout: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Where it reads stderr.
    pub stderr: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Where it reads how the process ended: a `Status`.
    pub error: Box<dyn AsyncWrite + Send + Unpin>,
    /// Sizes of its terminal.
    pub resize: mpsc::Receiver<TerminalSize>,
    /// The protocol carries a `Status` as JSON (v4 and later) rather than plain text.
    pub json_status: bool,
}

/// After a process ended, output that its children still hold open is waited for this long.
const LINGER: Duration = Duration::from_millis(500);

/// Connects them until the process has ended, or the client that leaves it to others, and its output is delivered.
pub async fn connect(process: Process, mut remote: Remote, command: Option<&[String]>) {
    let Process { stdin, stdout, stderr, ends_with_stdin, control } = process;
    let (exited, is_exited) = watch::channel(false);
    let mut input = tokio::spawn(feed(remote.stdin.take(), stdin));
    let outputs = async {
        let is_exited = &is_exited;
        futures::join!(
            deliver(stdout, remote.stdout.take(), is_exited.clone()),
            deliver(stderr, remote.stderr.take(), is_exited.clone())
        )
    };
    let ending = async {
        let wait = control.wait();
        tokio::pin!(wait);
        let status = loop {
            tokio::select! {
                status = &mut wait => break status.map(Some),
                _ = &mut input, if ends_with_stdin => break Ok(None),
                Some(size) = remote.resize.recv() => {
                    if let Err(error) = control.resize(size).await {
                        tracing::debug!(%error, "a terminal could not be resized");
                    }
                }
            }
        };
        exited.send_replace(true);
        status
    };
    let ((out, err), status) = futures::join!(outputs, ending);
    input.abort();
    let status = match status {
        Ok(exit) => exit_status(exit.map_or(0, |exit| exit.exit_code), command),
        Err(error) => internal_error(&error.to_string()),
    };
    tell(&mut remote.error, &status, remote.json_status).await;
    // The streams close after the status was sent: clients stop at the first of both.
    for mut stream in [out, err].into_iter().flatten() {
        let _ = stream.shutdown().await;
    }
    let _ = remote.error.shutdown().await;
}

/// Tells the client that nothing could be started.
pub async fn refuse(mut remote: Remote, message: &str) {
    tell(&mut remote.error, &internal_error(message), remote.json_status).await;
    let _ = remote.error.shutdown().await;
    for mut stream in [remote.stdout, remote.stderr].into_iter().flatten() {
        let _ = stream.shutdown().await;
    }
}

async fn feed(from: Option<Box<dyn AsyncRead + Send + Unpin>>, to: Option<Box<dyn AsyncWrite + Send + Unpin>>) {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        // A process that no longer reads is no error.
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    }
}

type Sink = Box<dyn AsyncWrite + Send + Unpin>;

async fn deliver(
    from: Option<Box<dyn AsyncRead + Send + Unpin>>,
    mut to: Option<Sink>,
    mut exited: watch::Receiver<bool>,
) -> Option<Sink> {
    let Some(mut from) = from else { return to };
    let mut buffer = vec![0; 32 << 10];
    loop {
        let lingering = async {
            // The sender lives until the process has ended.
            let _ = exited.wait_for(|e| *e).await;
            tokio::time::sleep(LINGER).await;
        };
        let count = tokio::select! {
            biased;
            count = from.read(&mut buffer) => count.unwrap_or(0),
            () = lingering => 0,
        };
        if count == 0 {
            return to;
        }
        let Some(sink) = &mut to else { continue };
        if sink.write_all(&buffer[..count]).await.is_err() || sink.flush().await.is_err() {
            // The client is gone: what comes is read on so that the process is not held up.
            to = None;
        }
    }
}

async fn tell(error: &mut Sink, status: &Value, json_status: bool) {
    let text = match (json_status, status["status"].as_str()) {
        (true, _) => status.to_string(),
        (false, Some("Success")) => return,
        (false, _) => status["message"].as_str().unwrap_or_default().to_owned(),
    };
    let _ = error.write_all(text.as_bytes()).await;
    let _ = error.flush().await;
}

fn exit_status(code: i32, command: Option<&[String]>) -> Value {
    match (code, command) {
        (0, _) | (_, None) => json!({"metadata": {}, "status": "Success"}),
        (code, Some(command)) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: error executing command [{}], exit code {code}", command.join(" ")),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
    }
}

fn internal_error(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}
