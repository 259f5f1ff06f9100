//! A byte stream within WebSocket messages: how kubectl carries SPDY for port-forward since 1.31.

use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::upgrade::Socket;

/// The bytes in the binary messages of a socket.
pub fn over(socket: Socket) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    let (sink, source) = socket.split();
    let bytes = source
        .take_while(|message| future::ready(!matches!(message, Ok(Message::Close(_)))))
        .filter_map(|message| {
            future::ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(_) => None,
                Err(error) => Some(Err(io::Error::other(error))),
            })
        })
        .boxed();
    let messages = sink
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| future::ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    tokio::io::join(StreamReader::new(bytes), SinkWriter::new(CopyToBytes::new(messages)))
}
