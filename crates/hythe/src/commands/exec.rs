//! `hythe exec`: a command in a container, with its exit code.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, TerminalSize};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy},
    signal::unix::{SignalKind, signal},
};

use super::session::{Session, block_on};
use crate::instance::Instance;

/// What to run where.
#[derive(Args)]
pub struct ExecFlags {
    /// The pod.
    pod: String,
    /// The command, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
    /// The container; the first one by default.
    #[arg(short, long)]
    container: Option<String>,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Pass standard input.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal.
    #[arg(short = 't', long)]
    tty: bool,
}

pub fn run(instance: &Instance, flags: ExecFlags) -> Result<ExitCode> {
    block_on(async {
        let session = Session::open(instance).await?;
        let pods: Api<Pod> = Api::namespaced(session.client, &flags.namespace);
        let params = AttachParams {
            container: flags.container.clone(),
            stdin: flags.stdin,
            stdout: true,
            stderr: !flags.tty,
            tty: flags.tty,
            ..Default::default()
        };
        let mut process = pods.exec(flags.pod.trim_start_matches("pod/"), &flags.command, &params).await?;
        let _raw = flags.tty.then(RawTerminal::enter).flatten();
        let status = process.take_status().context("the server reports no status")?;
        let output = tokio::spawn(pump(process.stdout(), tokio::io::stdout()));
        let errors = tokio::spawn(pump(process.stderr(), tokio::io::stderr()));
        if let Some(mut stdin) = process.stdin() {
            tokio::spawn(async move {
                let _ = copy(&mut tokio::io::stdin(), &mut stdin).await;
                let _ = stdin.shutdown().await;
            });
        }
        if let Some(mut sizes) = process.terminal_size() {
            use futures::SinkExt;
            let mut changed = signal(SignalKind::window_change())?;
            tokio::spawn(async move {
                loop {
                    let Some(size) = terminal_size() else { return };
                    if sizes.send(size).await.is_err() || changed.recv().await.is_none() {
                        return;
                    }
                }
            });
        }
        let status = status.await;
        let _ = tokio::join!(output, errors);
        let Some(status) = status.filter(|s| s.status.as_deref() != Some("Success")) else {
            return Ok(ExitCode::SUCCESS);
        };
        let code = status
            .details
            .iter()
            .flat_map(|d| d.causes.iter().flatten())
            .find(|c| c.reason.as_deref() == Some("ExitCode"))
            .and_then(|c| c.message.as_ref()?.parse::<u8>().ok());
        if let Some(message) = &status.message {
            eprintln!("{message}");
        }
        Ok(ExitCode::from(code.unwrap_or(1)))
    })
}

async fn pump(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) {
    if let Some(mut from) = from {
        let _ = copy(&mut from, &mut to).await;
        let _ = to.flush().await;
    }
}

fn terminal_size() -> Option<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdin()).ok()?;
    Some(TerminalSize { width: size.ws_col, height: size.ws_row })
}

/// The terminal passes every key on until this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
