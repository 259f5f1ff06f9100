//! A process started in a running container.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::{Error, ExitStatus, Output, Result, Sandbox, Streams, TerminalSize};

/// More output than this of [`Sandbox::exec_sync`] is read and dropped.
const MAX_OUTPUT: usize = 16 << 20;

/// How long after a process's end its output is awaited: something it left in the background may hold it open.
const DRAIN: Duration = Duration::from_millis(500);

/// A process started by [`Sandbox::exec`].
#[derive(Debug)]
pub struct Exec {
    /// Its streams, as asked for. With a terminal, `stdout` carries both.
    pub streams: Streams,
    sandbox: Sandbox,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    pid: i32,
    end: End,
}

#[derive(Debug)]
enum End {
    Pending(oneshot::Receiver<ExitStatus>),
    Known(ExitStatus),
}

/// What [`Sandbox::exec_sync`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// At most the first 16 MiB.
    pub stdout: Vec<u8>,
    /// At most the first 16 MiB.
    pub stderr: Vec<u8>,
}

impl Exec {
    pub(crate) fn new(
        sandbox: Sandbox,
        streams: Streams,
        terminal: Option<Arc<AsyncFd<OwnedFd>>>,
        pid: i32,
        exit: oneshot::Receiver<ExitStatus>,
    ) -> Self {
        Self { streams, sandbox, terminal, pid, end: End::Pending(exit) }
    }

    /// Sets the terminal's size; nothing without a terminal.
    pub fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &self.terminal {
            crate::sandbox::resize(terminal.get_ref(), size);
        }
    }

    /// A handle that resizes while this one is waited for.
    pub fn resizer(&self) -> impl Fn(TerminalSize) + Send + Sync + use<> {
        let terminal = self.terminal.clone();
        move |size| {
            if let Some(terminal) = &terminal {
                crate::sandbox::resize(terminal.get_ref(), size);
            }
        }
    }

    /// Its process id on the host.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to the process; nothing if it has ended.
    pub async fn signal(&self, signal: i32) -> Result<()> {
        self.sandbox.signal_exec(self.pid, signal).await
    }

    /// Waits for its end. Streams may still hold output that was not read. Cancel-safe; may be called again.
    ///
    /// # Errors
    /// [`Error::ShimGone`].
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        match &mut self.end {
            End::Known(exit) => Ok(*exit),
            End::Pending(receiver) => {
                let exit = receiver.await.map_err(|_| Error::ShimGone(self.sandbox.id().to_owned()))?;
                self.end = End::Known(exit);
                Ok(exit)
            }
        }
    }
}

/// Waits for the end and collects the output.
pub(crate) async fn collect(mut exec: Exec, deadline: Instant, timeout: Duration) -> Result<ExecOutput> {
    let streams = std::mem::take(&mut exec.streams);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = {
        let mut reading = std::pin::pin!(async {
            tokio::join!(read_all(streams.stdout, &mut stdout), read_all(streams.stderr, &mut stderr))
        });
        let mut read = false;
        let ended = tokio::time::timeout_at(deadline, async {
            loop {
                tokio::select! {
                    _ = &mut reading, if !read => read = true,
                    exit = exec.wait() => break exit,
                }
            }
        });
        match ended.await {
            Ok(exit) => {
                if !read {
                    let _ = tokio::time::timeout(DRAIN, reading).await;
                }
                exit?
            }
            Err(_) => {
                exec.signal(libc::SIGKILL).await?;
                return Err(Error::Timeout(timeout));
            }
        }
    };
    Ok(ExecOutput { exit_code: exit.exit_code, stdout, stderr })
}

async fn read_all(stream: Option<Output>, into: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        let room = MAX_OUTPUT.saturating_sub(into.len());
        into.extend_from_slice(&chunk[..count.min(room)]);
    }
}
