//! One connection: a task reads frames and hands data to streams, another writes what the streams send.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_util::{
    codec::{FramedRead, FramedWrite},
    sync::PollSender,
};

use super::{
    frame::{Codec, FIN, Frame},
    header_block::{Decoder, Encoder, Headers, value},
    stream::{Reader, Writer},
};

/// Streams a peer may have open at the same time.
const STREAMS: usize = 4096;
/// Chunks that wait for a slow reader before the whole connection does.
const CHUNKS: usize = 16;
/// Frames that wait to be written.
const FRAMES: usize = 64;
/// A stream id that is not valid.
const PROTOCOL_ERROR: u32 = 1;
/// A stream nobody takes.
const REFUSED: u32 = 3;

/// The server's side of a connection.
pub struct Connection {
    incoming: mpsc::Receiver<Incoming>,
}

/// A stream that the peer opened; it is accepted already.
pub struct Incoming {
    headers: Headers,
    /// What the peer sends.
    pub reader: Reader,
    /// What the peer is sent.
    pub writer: Writer,
}

impl Incoming {
    /// A header of the stream.
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }
}

impl Connection {
    /// Speaks SPDY over `io`.
    pub fn serve<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> Self {
        let (read, write) = tokio::io::split(io);
        let (streams, incoming) = mpsc::channel(16);
        let (frames, outgoing) = mpsc::channel(FRAMES);
        let (updates, consumed) = mpsc::unbounded_channel();
        tokio::spawn(write_frames(FramedWrite::new(write, Codec), outgoing, consumed));
        tokio::spawn(async move {
            let peer = Peer {
                frames,
                updates,
                streams,
                open: HashMap::new(),
                resets: HashMap::new(),
                leaving: false,
                decoder: Decoder::new(),
                encoder: Encoder::default(),
            };
            if let Err(error) = peer.read(FramedRead::new(read, Codec)).await {
                tracing::debug!(%error, "a SPDY connection ended early");
            }
        });
        Self { incoming }
    }

    /// The next stream that the peer opens; `None` when the connection is over.
    pub async fn accept(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}

struct Peer {
    frames: mpsc::Sender<Frame>,
    updates: mpsc::UnboundedSender<(u32, u32)>,
    streams: mpsc::Sender<Incoming>,
    /// Streams on which the peer may still send.
    open: HashMap<u32, mpsc::Sender<Bytes>>,
    /// Streams that are written to, and whether the peer has given them up.
    resets: HashMap<u32, Arc<AtomicBool>>,
    /// The peer opens no more streams; those it has opened go on.
    leaving: bool,
    decoder: Decoder,
    encoder: Encoder,
}

impl Peer {
    async fn read(mut self, mut source: FramedRead<impl AsyncRead + Unpin, Codec>) -> io::Result<()> {
        while let Some(frame) = source.next().await {
            match frame? {
                Frame::SynStream { id, flags, block } => self.opened(id, flags, &block).await?,
                Frame::Data { id, flags, bytes } => {
                    if let Some(stream) = self.open.get(&id) {
                        // A reader that went away does not stop the others.
                        if !bytes.is_empty() {
                            let _ = stream.send(bytes).await;
                        }
                        if flags & FIN != 0 {
                            self.open.remove(&id);
                        }
                    }
                }
                Frame::Headers { id, flags, block } => {
                    self.decoder.decode(&block).map_err(io::Error::other)?;
                    if flags & FIN != 0 {
                        self.open.remove(&id);
                    }
                }
                Frame::Reset { id, .. } => {
                    self.open.remove(&id);
                    if let Some(reset) = self.resets.remove(&id) {
                        reset.store(true, Ordering::Release);
                    }
                }
                Frame::Ping(id) => self.send(Frame::Ping(id)).await?,
                Frame::GoAway { .. } => self.leaving = true,
                Frame::SynReply { block, .. } => drop(self.decoder.decode(&block).map_err(io::Error::other)?),
                Frame::WindowUpdate { .. } | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn opened(&mut self, id: u32, flags: u8, block: &[u8]) -> io::Result<()> {
        let headers = self.decoder.decode(block).map_err(io::Error::other)?;
        if id.is_multiple_of(2) || self.open.contains_key(&id) {
            return self.send(Frame::Reset { id, status: PROTOCOL_ERROR }).await;
        }
        // A stream's writer holds its mark: what nobody but this map holds is over.
        if self.resets.len() >= STREAMS {
            self.resets.retain(|_, reset| Arc::strong_count(reset) > 1);
        }
        if self.leaving || self.resets.len().max(self.open.len()) >= STREAMS {
            return self.send(Frame::Reset { id, status: REFUSED }).await;
        }
        let (sender, chunks) = mpsc::channel(CHUNKS);
        if flags & FIN == 0 {
            self.open.insert(id, sender);
        }
        let block = self.encoder.encode(&Headers::new()).into();
        self.send(Frame::SynReply { id, block }).await?;
        let reader = Reader { chunks, current: Bytes::new(), updates: self.updates.clone(), id };
        let reset = Arc::<AtomicBool>::default();
        self.resets.insert(id, Arc::clone(&reset));
        let writer = Writer { frames: PollSender::new(self.frames.clone()), id, closed: false, reset };
        if self.streams.send(Incoming { headers, reader, writer }).await.is_err() {
            return self.send(Frame::Reset { id, status: REFUSED }).await;
        }
        Ok(())
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Ends when every stream and the reading side are gone.
async fn write_frames(
    mut sink: FramedWrite<impl AsyncWrite + Unpin, Codec>,
    mut frames: mpsc::Receiver<Frame>,
    mut consumed: mpsc::UnboundedReceiver<(u32, u32)>,
) {
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => break,
            },
            Some((id, delta)) = consumed.recv() => Frame::WindowUpdate { id, delta },
        };
        if sink.feed(frame).await.is_err() {
            return;
        }
        while let Ok(frame) = frames.try_recv() {
            if sink.feed(frame).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_stream_carries_bytes_both_ways_and_closes_each_way_by_itself() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let mut connection = Connection::serve(server);
        let (read, write) = tokio::io::split(client);
        let (mut source, mut sink) = (FramedRead::new(read, Codec), FramedWrite::new(write, Codec));
        let block = Encoder::default().encode(&vec![("streamtype".to_owned(), "data".to_owned())]).into();
        sink.send(Frame::SynStream { id: 1, flags: 0, block }).await.expect("sent");
        sink.send(Frame::Data { id: 1, flags: FIN, bytes: Bytes::from_static(b"question") }).await.expect("sent");
        let mut stream = connection.accept().await.expect("a stream");
        assert_eq!(stream.header("streamType"), Some("data"));
        let mut question = String::new();
        stream.reader.read_to_string(&mut question).await.expect("read");
        assert_eq!(question, "question");
        stream.writer.write_all(b"answer").await.expect("written");
        drop(stream);
        let mut answer = Vec::new();
        while let Some(frame) = source.next().await {
            match frame.expect("a frame") {
                Frame::Data { id: 1, flags, bytes } => {
                    answer.extend_from_slice(&bytes);
                    if flags & FIN != 0 {
                        break;
                    }
                }
                Frame::SynReply { id: 1, .. } | Frame::WindowUpdate { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn a_peer_that_leaves_ends_its_streams_in_peace_and_one_that_resets_a_stream_is_sent_no_more() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let mut connection = Connection::serve(server);
        let (read, write) = tokio::io::split(client);
        let (mut source, mut sink) = (FramedRead::new(read, Codec), FramedWrite::new(write, Codec));
        let mut encoder = Encoder::default();
        let mut open = |id| Frame::SynStream { id, flags: 0, block: encoder.encode(&Headers::new()).into() };
        let frames = [open(1), open(3), Frame::GoAway { last: 0, status: 0 }, open(5)];
        for frame in frames {
            sink.send(frame).await.expect("sent");
        }
        let mut first = connection.accept().await.expect("a stream");
        let mut second = connection.accept().await.expect("another");
        let refused = async {
            loop {
                if let Frame::Reset { id: 5, status } = source.next().await.expect("a frame").expect("read") {
                    return status;
                }
            }
        };
        assert_eq!(refused.await, REFUSED);
        sink.send(Frame::Data { id: 1, flags: FIN, bytes: Bytes::from_static(b"late") }).await.expect("sent");
        let mut late = String::new();
        first.reader.read_to_string(&mut late).await.expect("read");
        assert_eq!(late, "late");
        sink.send(Frame::Reset { id: 3, status: 5 }).await.expect("sent");
        assert_eq!(second.reader.read_to_end(&mut Vec::new()).await.expect("ended"), 0);
        assert!(second.writer.write_all(b"x").await.is_err());
        first.writer.write_all(b"x").await.expect("the other goes on");
    }

    #[tokio::test]
    async fn whatever_comes_the_connection_only_ends() {
        let mut valid = bytes::BytesMut::new();
        let block = || Bytes::from(Encoder::default().encode(&vec![("streamtype".to_owned(), "data".to_owned())]));
        let frames = [
            Frame::SynStream { id: 1, flags: 0, block: block() },
            Frame::Headers { id: 1, flags: 0, block: block() },
            Frame::Data { id: 1, flags: 0, bytes: Bytes::from_static(b"some bytes") },
            Frame::Ping(9),
            Frame::WindowUpdate { id: 1, delta: 7 },
            Frame::Reset { id: 1, status: 5 },
            Frame::SynStream { id: 3, flags: FIN, block: block() },
            Frame::GoAway { last: 1, status: 0 },
        ];
        for frame in frames {
            tokio_util::codec::Encoder::encode(&mut Codec, frame, &mut valid).expect("encoded");
        }
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).unwrap_or_default()
        };
        for _ in 0..2_000 {
            let mut bytes = valid.to_vec();
            for _ in 0..=random(8) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = random(256) as u8,
                    1 => drop(bytes.drain(at..(at + random(16)).min(bytes.len()))),
                    _ => bytes.insert(at, random(256) as u8),
                }
            }
            let (mut client, server) = tokio::io::duplex(1 << 16);
            let mut connection = Connection::serve(server);
            client.write_all(&bytes).await.expect("sent");
            client.shutdown().await.expect("ended");
            while let Some(stream) = connection.accept().await {
                drop(stream);
            }
        }
    }

    #[tokio::test]
    async fn pings_come_back() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let _connection = Connection::serve(server);
        let (read, write) = tokio::io::split(client);
        FramedWrite::new(write, Codec).send(Frame::Ping(5)).await.expect("sent");
        let frame = FramedRead::new(read, Codec).next().await.expect("a frame");
        assert_eq!(frame.expect("a frame"), Frame::Ping(5));
    }
}
