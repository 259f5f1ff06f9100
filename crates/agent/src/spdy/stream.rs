//! The two ends of a stream.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_util::sync::PollSender;

use super::frame::{FIN, Frame};

/// What the peer sends.
pub struct Reader {
    pub(super) chunks: mpsc::Receiver<Bytes>,
    pub(super) current: Bytes,
    pub(super) updates: mpsc::UnboundedSender<(u32, u32)>,
    pub(super) id: u32,
}

/// What the peer is sent. Dropping it closes this direction.
pub struct Writer {
    pub(super) frames: PollSender<Frame>,
    pub(super) id: u32,
    pub(super) closed: bool,
    pub(super) reset: Arc<AtomicBool>,
}

/// Bytes in one frame.
const CHUNK: usize = 32 << 10;

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.chunks.poll_recv(context)) {
                Some(chunk) => self.current = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.current.len().min(buffer.remaining());
        let chunk = self.current.split_to(count);
        buffer.put_slice(&chunk);
        // A connection that is gone needs no update.
        let _ = self.updates.send((self.id, u32::try_from(count).unwrap_or_default()));
        Poll::Ready(Ok(()))
    }
}

impl Writer {
    fn poll_send(&mut self, context: &mut Context<'_>, frame: Frame) -> Poll<io::Result<()>> {
        let broken = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.frames.poll_reserve(context)).map_err(broken)?;
        Poll::Ready(self.frames.send_item(frame).map_err(broken))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed || self.reset.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(CHUNK);
        let broken = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.frames.poll_reserve(context)).map_err(broken)?;
        let frame = Frame::Data { id: self.id, flags: 0, bytes: Bytes::copy_from_slice(&bytes[..count]) };
        self.frames.send_item(frame).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed || self.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let last = Frame::Data { id: self.id, flags: FIN, bytes: Bytes::new() };
        ready!(self.poll_send(context, last))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.closed
            && !self.reset.load(Ordering::Acquire)
            && let Some(frames) = self.frames.get_ref().cloned()
        {
            let last = Frame::Data { id: self.id, flags: FIN, bytes: Bytes::new() };
            if let Err(mpsc::error::TrySendError::Full(last)) = frames.try_send(last) {
                tokio::spawn(async move { frames.send(last).await });
            }
        }
    }
}
