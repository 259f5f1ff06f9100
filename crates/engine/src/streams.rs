//! The ends of a process's standard streams.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Streams of an exec or an attached container. Drop one to close it.
#[derive(Debug, Default)]
pub struct Streams {
    /// Writes to the process's stdin; shut down or drop it for end of file.
    pub stdin: Option<Input>,
    /// Reads what the process writes to stdout (or its terminal).
    pub stdout: Option<Output>,
    /// Reads what the process writes to stderr.
    pub stderr: Option<Output>,
}

/// The writing end of a stream.
#[derive(Debug)]
pub struct Input(Option<Arc<AsyncFd<OwnedFd>>>);

/// The reading end of a stream.
#[derive(Debug)]
pub struct Output(Arc<AsyncFd<OwnedFd>>);

impl Input {
    pub(crate) fn new(fd: Arc<AsyncFd<OwnedFd>>) -> Self {
        Self(Some(fd))
    }
}

impl Output {
    pub(crate) fn new(fd: Arc<AsyncFd<OwnedFd>>) -> Self {
        Self(fd)
    }
}

/// A descriptor made non-blocking and registered with the current runtime.
pub(crate) fn register(fd: OwnedFd) -> io::Result<Arc<AsyncFd<OwnedFd>>> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    // SAFETY: an `OwnedFd` stays open, and the same, until `AsyncFd` drops it after its registration.
    Ok(Arc::new(unsafe { AsyncFd::register(fd) }?))
}

impl AsyncRead for Output {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| nix::unistd::read(fd.get_ref(), unfilled).map_err(io::Error::from)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose last process is gone reads as EIO: that is its end of file.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(fd) = &self.0 else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        loop {
            let mut guard = ready!(fd.poll_write_ready(context))?;
            match guard.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A terminal shares its descriptor with the output: its end of file is the line discipline's business.
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

impl AsRawFd for Output {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.get_ref().as_raw_fd()
    }
}
