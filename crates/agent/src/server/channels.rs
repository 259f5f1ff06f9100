//! Streams as channels of WebSocket messages: the first byte of a message names the channel
//! (`v5.channel.k8s.io` and its elders, see `k8s.io/apimachinery/pkg/util/remotecommand`). Clients that can't send bytes
//! name the channel by a digit, and what follows is base64 (`base64.channel.k8s.io`).

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, stream::SplitStream};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::PollSender;

use super::upgrade::Socket;

/// In version 5, the client names with it a channel that it closes.
const CLOSE: u8 = 255;
/// Bytes of a channel that wait for a slow reader.
const BUFFER: usize = 64 << 10;
/// Messages that wait for a slow client.
const MESSAGES: usize = 16;
/// kubectl up to 1.32 makes its streams only after it has begun to read, and throws away ("Unknown stream id") what
/// comes before: the first frame gives it this long.
const FIRST_FRAME: Duration = Duration::from_millis(20);
/// Bytes in one message.
const CHUNK: usize = 32 << 10;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Binary,
    Base64,
}

impl Encoding {
    /// That of a subprotocol.
    pub fn of(protocol: &str) -> Self {
        if protocol.contains("base64.") { Self::Base64 } else { Self::Binary }
    }

    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self == Self::Base64 {
            return Message::text(format!("{}{}", char::from(b'0' + channel), STANDARD.encode(bytes)));
        }
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(channel);
        message.put_slice(bytes);
        Message::Binary(message.freeze())
    }

    /// The channel and its bytes; nothing of a message that is none.
    fn read(self, message: &Bytes) -> Option<(u8, Bytes)> {
        let channel = *message.first()?;
        match self {
            Self::Binary => Some((channel, message.slice(1..))),
            Self::Base64 => Some((channel.checked_sub(b'0')?, STANDARD.decode(&message[1..]).ok()?.into())),
        }
    }
}

/// The channels of one socket.
pub struct Channels {
    encoding: Encoding,
    outgoing: mpsc::Sender<Message>,
    readers: HashMap<u8, DuplexStream>,
}

impl Channels {
    /// Serves a socket; `inputs` are the channels that the client writes to.
    pub fn serve(socket: Socket, inputs: &[u8], encoding: Encoding) -> Self {
        let (mut sink, source) = socket.split();
        let (outgoing, mut messages) = mpsc::channel(MESSAGES);
        let (mut readers, mut writers) = (HashMap::new(), HashMap::new());
        for channel in inputs {
            let (reader, writer) = tokio::io::duplex(BUFFER);
            readers.insert(*channel, reader);
            writers.insert(*channel, writer);
        }
        tokio::spawn(read(source, writers, encoding));
        tokio::spawn(async move {
            tokio::time::sleep(FIRST_FRAME).await;
            while let Some(message) = messages.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            // All writers are gone: the session is over. Clients take any other code, or none, for a failure.
            let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
            let _ = sink.send(Message::Close(Some(normal))).await;
            let _ = sink.close().await;
        });
        Self { encoding, outgoing, readers }
    }

    /// What the client writes to a channel.
    pub fn reader(&mut self, channel: u8) -> Option<DuplexStream> {
        self.readers.remove(&channel)
    }

    /// What the client reads from a channel.
    pub fn writer(&self, channel: u8) -> ChannelWriter {
        ChannelWriter { channel, encoding: self.encoding, messages: PollSender::new(self.outgoing.clone()) }
    }
}

async fn read(mut source: SplitStream<Socket>, mut writers: HashMap<u8, DuplexStream>, encoding: Encoding) {
    while let Some(Ok(message)) = source.next().await {
        let bytes: Bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => return,
            _ => continue,
        };
        let Some((channel, rest)) = encoding.read(&bytes) else { continue };
        if channel == CLOSE {
            if let Some(closed) = rest.first() {
                writers.remove(closed);
            }
        } else if let Some(writer) = writers.get_mut(&channel) {
            // A reader that went away does not stop the other channels.
            let _ = writer.write_all(&rest).await;
        }
    }
}

/// One channel to the client.
pub struct ChannelWriter {
    channel: u8,
    encoding: Encoding,
    messages: PollSender<Message>,
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let broken = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.messages.poll_reserve(context)).map_err(broken)?;
        let count = bytes.len().min(CHUNK);
        let message = self.encoding.message(self.channel, &bytes[..count]);
        self.messages.send_item(message).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.messages.close();
        Poll::Ready(Ok(()))
    }
}
