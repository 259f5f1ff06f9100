//! Connections that leave HTTP: attach and exec.
//!
//! With a terminal the bytes go as they are; without, each piece of output has a header of eight bytes: the stream
//! (1 stdout, 2 stderr), three zeroes and the length, big-endian.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Call, Response, Version, empty, streamed};
use crate::error::Result;

/// The connection, once the client was told.
pub(crate) struct Hijacked {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// How output is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    Raw,
    Multiplexed,
}

impl Frames {
    pub fn of(tty: bool) -> Self {
        if tty { Self::Raw } else { Self::Multiplexed }
    }

    /// The media type, which older clients know only one of.
    pub fn media_type(self, version: Version) -> &'static str {
        match self {
            Self::Multiplexed if version >= Version(42) => "application/vnd.docker.multiplexed-stream",
            _ => "application/vnd.docker.raw-stream",
        }
    }

    /// Output of stream 1 or 2 as it goes over the wire.
    pub fn frame(self, stream: u8, bytes: &[u8]) -> Bytes {
        match self {
            Self::Raw => Bytes::copy_from_slice(bytes),
            Self::Multiplexed => {
                let mut frame = BytesMut::with_capacity(bytes.len() + 8);
                frame.put_u8(stream);
                frame.put_bytes(0, 3);
                frame.put_u32(bytes.len() as u32);
                frame.put_slice(bytes);
                frame.freeze()
            }
        }
    }
}

/// The answer that ends HTTP, and what becomes the connection when it was sent.
pub(crate) fn hijack(call: &mut Call, frames: Frames) -> Result<(Response, Pending)> {
    let Some(upgrade) = call.upgrade.take() else { return Ok(plain(call)) };
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(frames.media_type(call.version)));
    Ok((response, Pending::Upgrade(upgrade, call.socket)))
}

/// The same for clients that do not ask to leave HTTP: output is the answer's body, input the request's.
fn plain(call: &mut Call) -> (Response, Pending) {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (output, mut input) = tokio::io::split(theirs);
    let body = call.body.take();
    tokio::spawn(async move {
        if let Some(mut body) = body {
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                if input.write_all(&data).await.is_err() {
                    return;
                }
            }
        }
        let _ = input.shutdown().await;
    });
    let stream = futures::stream::unfold(output, |mut output| async move {
        let mut buffer = vec![0; BUFFER];
        let count = output.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        buffer.truncate(count);
        Some((Ok(Bytes::from(buffer)), output))
    });
    let (reader, writer) = tokio::io::split(ours);
    let connection = Hijacked { reader: Box::new(reader), writer: Box::new(writer) };
    (streamed("application/vnd.docker.raw-stream", stream), Pending::Plain(connection))
}

/// Bytes on their way between a container and a body.
const BUFFER: usize = 16 << 10;

/// A connection whose client has not been answered yet.
pub(crate) enum Pending {
    Upgrade(OnUpgrade, Option<Socket>),
    WebSocket(OnUpgrade),
    Plain(Hijacked),
}

/// The socket of a connection; valid while that is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket(pub RawFd);

impl Socket {
    /// Bytes that the other end has not read yet; 0 if the kernel does not say.
    fn unread(self) -> i32 {
        let mut count = 0;
        // SAFETY: the request writes an int to a place for one; a descriptor that is none makes it fail.
        if unsafe { libc::ioctl(self.0, libc::TIOCOUTQ, &raw mut count) } == 0 { count } else { 0 }
    }

    /// Waits until the other end has read everything, but not for long.
    async fn is_read(self) {
        for attempt in 0..HEAD_ATTEMPTS {
            match self.unread() {
                0 => return,
                _ if attempt < HEAD_ATTEMPTS / 2 => tokio::task::yield_now().await,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// How often it is looked whether a client has read the head of an answer; a millisecond each in the second half.
const HEAD_ATTEMPTS: u32 = 40;

impl Pending {
    pub async fn established(self) -> io::Result<Hijacked> {
        let (upgrade, socket) = match self {
            Self::Plain(connection) => return Ok(connection),
            Self::WebSocket(upgrade) => {
                return Ok(super::websocket::open(upgrade.await.map_err(io::Error::other)?).await);
            }
            Self::Upgrade(upgrade, socket) => (upgrade, socket),
        };
        let upgraded = upgrade.await.map_err(io::Error::other)?;
        // Many clients read the head through a buffer, and lose what comes with it.
        if let Some(socket) = socket {
            socket.is_read().await;
        }
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        Ok(Hijacked { reader: Box::new(reader), writer: Box::new(writer) })
    }
}

impl Hijacked {
    /// Says something and closes.
    pub async fn finish_with(mut self, frames: Frames, text: &str) {
        let _ = self.writer.write_all(&frames.frame(2, text.as_bytes())).await;
        let _ = self.writer.shutdown().await;
    }
}
