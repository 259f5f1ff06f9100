//! A connection, plain or with TLS, that one task reads and writes at once.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A connection. It belongs to one thread; its methods take `&self`, so that both directions can be under way at once.
pub struct Stream {
    io: RefCell<Io>,
}

enum Io {
    Tcp(TcpStream),
    Server(Box<server::TlsStream<TcpStream>>),
    Client(Box<client::TlsStream<TcpStream>>),
}

macro_rules! each {
    ($io:expr, $stream:ident => $body:expr) => {
        match $io {
            Io::Tcp($stream) => $body,
            Io::Server($stream) => $body,
            Io::Client($stream) => $body,
        }
    };
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { io: RefCell::new(Io::Tcp(stream)) }
    }
}

impl From<server::TlsStream<TcpStream>> for Stream {
    fn from(stream: server::TlsStream<TcpStream>) -> Self {
        Self { io: RefCell::new(Io::Server(Box::new(stream))) }
    }
}

impl From<client::TlsStream<TcpStream>> for Stream {
    fn from(stream: client::TlsStream<TcpStream>) -> Self {
        Self { io: RefCell::new(Io::Client(Box::new(stream))) }
    }
}

impl Stream {
    /// Whether bytes are readable without waiting on TLS records.
    pub fn is_plain(&self) -> bool {
        matches!(*self.io.borrow(), Io::Tcp(_))
    }

    /// Reads into the spare capacity of `buffer`. 0 is the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        debug_assert!(buffer.len() < buffer.capacity(), "there is room to read into");
        let mut into = ReadBuf::uninit(buffer.spare_capacity_mut());
        let mut io = self.io.borrow_mut();
        ready!(each!(&mut *io, s => Pin::new(s).poll_read(cx, &mut into)))?;
        let read = into.filled().len();
        let length = buffer.len() + read;
        // SAFETY: `poll_read` has initialised the first `read` bytes of the spare capacity.
        unsafe { buffer.set_len(length) };
        Poll::Ready(Ok(read))
    }

    /// Reads into the spare capacity of `buffer`. 0 is the end.
    pub async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Waits until something can be read, without a buffer where that is possible: idle connections hold none.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| match &*self.io.borrow() {
            Io::Tcp(stream) => stream.poll_read_ready(cx),
            _ => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Whether the system has said that more can be read. Costs nothing.
    pub fn has_more(&self) -> bool {
        match &*self.io.borrow() {
            Io::Tcp(stream) => stream.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready(),
            _ => true,
        }
    }

    /// Writes some of one or two pieces.
    pub fn poll_write(&self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        let mut io = self.io.borrow_mut();
        if second.is_empty() {
            each!(&mut *io, s => Pin::new(s).poll_write(cx, first))
        } else if first.is_empty() {
            each!(&mut *io, s => Pin::new(s).poll_write(cx, second))
        } else {
            let pieces = [IoSlice::new(first), IoSlice::new(second)];
            each!(&mut *io, s => Pin::new(s).poll_write_vectored(cx, &pieces))
        }
    }

    /// Pushes what TLS holds back.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        each!(&mut *io, s => Pin::new(s).poll_flush(cx))
    }

    /// Writes all of two pieces.
    pub async fn write_all(&self, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
        while !first.is_empty() || !second.is_empty() {
            let written = std::future::poll_fn(|cx| self.poll_write(cx, first, second)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_first = written.min(first.len());
            first = &first[of_first..];
            second = &second[written - of_first..];
        }
        if !self.is_plain() {
            std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
        }
        Ok(())
    }

    /// Ends the writing direction.
    pub async fn shutdown(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let mut io = self.io.borrow_mut();
            each!(&mut *io, s => Pin::new(s).poll_shutdown(cx))
        })
        .await
    }

    /// Whether nothing was received since the last read: an unused connection on which something arrives, be it the end,
    /// is of no further use.
    pub fn is_quiet(&self) -> bool {
        let io = self.io.borrow();
        let stream = match &*io {
            Io::Tcp(stream) => stream,
            Io::Server(stream) => stream.get_ref().0,
            Io::Client(stream) => stream.get_ref().0,
        };
        match stream.poll_read_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
            Poll::Ready(Ok(())) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }
}

/// For the HTTP/2 library, which owns its connection.
impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut().io.get_mut(), s => Pin::new(s).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut().io.get_mut(), s => Pin::new(s).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut().io.get_mut(), s => Pin::new(s).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut().io.get_mut(), s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut().io.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}
