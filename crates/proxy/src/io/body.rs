//! Bodies, in whatever framing they come and go.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Input, Stream};
use crate::http1::head::Field;
use crate::http1::{Broken, Chunked, Framing, Step};

/// Written at once rather than gathered, from this size on.
const DIRECT: usize = 8 << 10;

/// Why a body did not come or go through.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection failed, or ended before the body did.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The framing is broken.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// The HTTP/2 stream failed.
    #[error("{0}")]
    Stream(#[from] h2::Error),
    /// It is larger than allowed.
    #[error("the body is larger than allowed")]
    TooLarge,
}

/// A body that is read.
pub enum BodyIn<'a> {
    /// There is none, or no more.
    End,
    /// So many bytes of a connection.
    Length { stream: &'a Stream, input: &'a mut Input, left: u64 },
    /// Chunks of a connection.
    Chunked { stream: &'a Stream, input: &'a mut Input, decoder: Chunked, fields: Vec<Field>, offered: usize },
    /// All that comes.
    UntilClose { stream: &'a Stream, input: &'a mut Input },
    /// A stream of HTTP/2.
    Two { stream: &'a mut RecvStream, current: Bytes },
    /// A body that is here.
    Memory(Bytes),
}

impl<'a> BodyIn<'a> {
    /// A body that follows a head of HTTP/1.
    pub fn one(framing: Framing, stream: &'a Stream, input: &'a mut Input) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::End,
            Framing::Length(left) => Self::Length { stream, input, left },
            Framing::Chunked => {
                Self::Chunked { stream, input, decoder: Chunked::default(), fields: Vec::new(), offered: 0 }
            }
            Framing::UntilClose => Self::UntilClose { stream, input },
        }
    }

    /// A body that follows a head of HTTP/2.
    pub fn two(stream: &'a mut RecvStream) -> Self {
        if stream.is_end_stream() { Self::End } else { Self::Two { stream, current: Bytes::new() } }
    }

    /// Whether nothing more comes.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }

    /// The whole body, if it is here already and has no trailers: then a failed attempt can be repeated.
    pub fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::End => Some(&[]),
            Self::Length { input, left, .. } => input.rest().get(..usize::try_from(*left).ok()?),
            Self::Memory(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// What can be used now; empty if there is nothing, or nothing yet.
    fn data(&self) -> &[u8] {
        match self {
            Self::End => &[],
            Self::Length { input, left, .. } => {
                let rest = input.rest();
                &rest[..rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX))]
            }
            Self::Chunked { input, offered, .. } => &input.rest()[..*offered],
            Self::UntilClose { input, .. } => input.rest(),
            Self::Two { current, .. } | Self::Memory(current) => current,
        }
    }

    /// Passes over a body that is here as a whole.
    pub fn skip_whole(&mut self) {
        let length = self.data().len();
        self.took(length);
    }

    /// Looks at what is here without waiting. Trailers are handed to `trailers`.
    fn look(&mut self, trailers: &mut HeaderMap) -> Result<(), BodyError> {
        if let Self::Chunked { input, decoder, fields, offered, .. } = self {
            while *offered == 0 {
                match decoder.step(input.rest(), fields)? {
                    Step::More => break,
                    Step::Skip(bytes) => input.consume(bytes),
                    Step::Data(bytes) => *offered = bytes,
                    Step::End(bytes) => {
                        for field in fields.iter().filter(|f| !f.hop && is_trailer(f)) {
                            let text = input.rest();
                            if let (Ok(name), Ok(value)) = (
                                HeaderName::from_bytes(field.name.of(text)),
                                HeaderValue::from_bytes(field.value.of(text)),
                            ) {
                                trailers.append(name, value);
                            }
                        }
                        input.consume(bytes);
                        *self = Self::End;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// So many bytes of the data were used.
    fn took(&mut self, bytes: usize) {
        match self {
            Self::End => {}
            Self::Memory(here) => {
                let _ = here.split_to(bytes);
                if here.is_empty() {
                    *self = Self::End;
                }
            }
            Self::Length { input, left, .. } => {
                input.consume(bytes);
                *left -= bytes as u64;
                if *left == 0 {
                    *self = Self::End;
                }
            }
            Self::Chunked { input, decoder, offered, .. } => {
                input.consume(bytes);
                decoder.took(bytes);
                *offered -= bytes;
            }
            Self::UntilClose { input, .. } => input.consume(bytes),
            Self::Two { stream, current } => {
                let _ = current.split_to(bytes);
                // It fails only when the stream is gone, which the next read tells.
                let _ = stream.flow_control().release_capacity(bytes);
            }
        }
    }

    /// Waits for more.
    async fn fill(&mut self, trailers: &mut HeaderMap) -> Result<(), BodyError> {
        match self {
            Self::End => {}
            Self::Memory(_) => *self = Self::End,
            Self::Length { stream, input, .. } | Self::Chunked { stream, input, .. } => {
                if input.fill(stream).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
            Self::UntilClose { stream, input } => {
                if input.fill(stream).await? == 0 {
                    *self = Self::End;
                }
            }
            Self::Two { stream, current } => match stream.data().await {
                Some(data) => *current = data?,
                None => {
                    if let Some(fields) = stream.trailers().await? {
                        trailers.extend(fields);
                    }
                    *self = Self::End;
                }
            },
        }
        Ok(())
    }
}

/// Framing and routing fields mean nothing behind a body and are dangerous there (RFC 9110 section 6.5.1).
fn is_trailer(field: &Field) -> bool {
    field.known == crate::http1::Known::Other
}

/// A body that is written.
pub enum BodyOut<'a> {
    /// There is none: a response to HEAD, 204, 304. What is gathered in `out` still goes.
    Nothing { stream: &'a Stream, out: &'a mut Vec<u8> },
    /// Bytes whose number was told, or that end with the connection.
    Plain { stream: &'a Stream, out: &'a mut Vec<u8> },
    /// In chunks.
    Chunked { stream: &'a Stream, out: &'a mut Vec<u8> },
    /// A stream of HTTP/2; `None` once it has ended.
    Two { stream: Option<SendStream<Bytes>> },
    /// Nobody wants it.
    Discard,
}

impl BodyOut<'_> {
    /// Writes data, or gathers it until the next flush if it is little.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), BodyError> {
        match self {
            Self::Nothing { .. } | Self::Discard => Ok(()),
            Self::Plain { stream, out } => {
                if out.len() + data.len() <= DIRECT {
                    out.extend_from_slice(data);
                } else {
                    stream.write_all(out, data).await?;
                    out.clear();
                }
                Ok(())
            }
            Self::Chunked { stream, out } => {
                push_hex(out, data.len());
                if out.len() + data.len() <= DIRECT {
                    out.extend_from_slice(data);
                } else {
                    stream.write_all(out, data).await?;
                    out.clear();
                }
                out.extend_from_slice(b"\r\n");
                Ok(())
            }
            Self::Two { stream: Some(stream) } => {
                let mut data = Bytes::copy_from_slice(data);
                while !data.is_empty() {
                    stream.reserve_capacity(data.len());
                    let granted = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                        Some(granted) => granted?,
                        None => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
                    };
                    if granted > 0 {
                        stream.send_data(data.split_to(granted.min(data.len())), false)?;
                    }
                }
                Ok(())
            }
            Self::Two { stream: None } => Ok(()),
        }
    }

    /// Sends what was gathered.
    pub async fn flush(&mut self) -> Result<(), BodyError> {
        match self {
            Self::Nothing { stream, out } | Self::Plain { stream, out } | Self::Chunked { stream, out }
                if !out.is_empty() =>
            {
                let written = stream.write_all(out, &[]).await;
                out.clear();
                Ok(written?)
            }
            _ => Ok(()),
        }
    }

    /// Tells when nobody wants the rest any more: a stream of HTTP/2 that was reset.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        match self {
            Self::Two { stream: Some(stream) } => stream.poll_reset(cx).map(|reset| match reset {
                Ok(reason) => h2::Error::from(reason).into(),
                Err(error) => error.into(),
            }),
            _ => Poll::Pending,
        }
    }

    /// Ends the body.
    pub async fn end(&mut self, trailers: &HeaderMap) -> Result<(), BodyError> {
        match self {
            Self::Chunked { out, .. } => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    out.extend_from_slice(name.as_str().as_bytes());
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(value.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"\r\n");
            }
            Self::Two { stream } => {
                if let Some(mut stream) = stream.take() {
                    if trailers.is_empty() {
                        stream.send_data(Bytes::new(), true)?;
                    } else {
                        stream.send_trailers(trailers.clone())?;
                    }
                }
            }
            _ => {}
        }
        self.flush().await
    }
}

/// Which side a body failed on.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// Where it came from.
    #[error("{0}")]
    From(BodyError),
    /// Where it went to.
    #[error("{0}")]
    To(BodyError),
}

/// Carries a body from one side to the other. What is here is gathered and goes before more is waited for. `seen` sees
/// every piece and may refuse it.
///
/// # Errors
/// Which side failed, and how.
pub async fn pump(
    body: &mut BodyIn<'_>,
    out: &mut BodyOut<'_>,
    mut seen: impl FnMut(&[u8]) -> Result<(), BodyError>,
) -> Result<(), PumpError> {
    let mut trailers = HeaderMap::new();
    loop {
        body.look(&mut trailers).map_err(PumpError::From)?;
        let data = body.data();
        if !data.is_empty() {
            let length = data.len();
            seen(data).map_err(PumpError::From)?;
            out.write(data).await.map_err(PumpError::To)?;
            body.took(length);
            continue;
        }
        if body.is_end() {
            return out.end(&trailers).await.map_err(PumpError::To);
        }
        out.flush().await.map_err(PumpError::To)?;
        let mut fill = pin!(body.fill(&mut trailers));
        let filled = std::future::poll_fn(|cx| match fill.as_mut().poll(cx) {
            Poll::Pending => out.poll_gone(cx).map(|error| Err(PumpError::To(error))),
            Poll::Ready(filled) => Poll::Ready(filled.map_err(PumpError::From)),
        });
        filled.await?;
    }
}

/// `SIZE CR LF`.
fn push_hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for shift in (0..digits).rev() {
        out.push(b"0123456789abcdef"[number >> (shift * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}
