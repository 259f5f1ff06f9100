//! Frames of SPDY/3.1 (draft, section 2.2 and 2.6).

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The last frame of a direction of a stream.
pub const FIN: u8 = 1;
/// A frame may carry this much.
const LIMIT: usize = 1 << 20;

/// One frame; header blocks are still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// The stream.
        id: u32,
        /// [`FIN`] or 0.
        flags: u8,
        /// Header block.
        block: Bytes,
    },
    /// Accepts a stream.
    SynReply {
        /// The stream.
        id: u32,
        /// Header block.
        block: Bytes,
    },
    /// Ends a stream at once.
    Reset {
        /// The stream.
        id: u32,
        /// Why.
        status: u32,
    },
    /// More headers.
    Headers {
        /// The stream.
        id: u32,
        /// [`FIN`] or 0.
        flags: u8,
        /// Header block.
        block: Bytes,
    },
    /// To be sent back as it is.
    Ping(u32),
    /// No more streams are accepted.
    GoAway {
        /// The last stream that was.
        last: u32,
        /// Why.
        status: u32,
    },
    /// The sender may send more.
    WindowUpdate {
        /// The stream, or 0 for the connection.
        id: u32,
        /// Bytes.
        delta: u32,
    },
    /// Bytes of a stream.
    Data {
        /// The stream.
        id: u32,
        /// [`FIN`] or 0.
        flags: u8,
        /// The bytes.
        bytes: Bytes,
    },
    /// One that means nothing here (settings, …).
    Other,
}

/// Cuts a byte stream into frames.
#[derive(Default)]
pub struct Codec;

impl Decoder for Codec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<Frame>> {
        if source.len() < 8 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([0, source[5], source[6], source[7]]) as usize;
        if length > LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a SPDY frame that is too long"));
        }
        if source.len() < 8 + length {
            source.reserve(8 + length - source.len());
            return Ok(None);
        }
        let head = source.get_u32();
        let flags = (source.get_u32() >> 24) as u8;
        let mut body = source.split_to(length).freeze();
        if head & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data { id: head, flags, bytes: body }));
        }
        if head >> 16 != 0x8003 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not SPDY/3"));
        }
        let short = || io::Error::new(io::ErrorKind::InvalidData, "a SPDY frame that ends early");
        let word = |body: &mut Bytes| if body.remaining() < 4 { Err(short()) } else { Ok(body.get_u32()) };
        Ok(Some(match head & 0xffff {
            1 => {
                let id = word(&mut body)? & 0x7fff_ffff;
                word(&mut body)?;
                if body.remaining() < 2 {
                    return Err(short());
                }
                body.advance(2);
                Frame::SynStream { id, flags, block: body }
            }
            2 => Frame::SynReply { id: word(&mut body)? & 0x7fff_ffff, block: body },
            3 => Frame::Reset { id: word(&mut body)? & 0x7fff_ffff, status: word(&mut body)? },
            6 => Frame::Ping(word(&mut body)?),
            7 => Frame::GoAway { last: word(&mut body)? & 0x7fff_ffff, status: word(&mut body)? },
            8 => Frame::Headers { id: word(&mut body)? & 0x7fff_ffff, flags, block: body },
            9 => Frame::WindowUpdate { id: word(&mut body)? & 0x7fff_ffff, delta: word(&mut body)? },
            _ => Frame::Other,
        }))
    }
}

impl Encoder<Frame> for Codec {
    type Error = io::Error;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> io::Result<()> {
        match frame {
            Frame::Data { id, flags, bytes } => {
                out.reserve(8 + bytes.len());
                out.put_u32(id);
                out.put_u32(length(bytes.len(), flags));
                out.put(bytes);
            }
            Frame::SynStream { id, flags, block } => {
                control(out, 1, flags, 10 + block.len());
                out.put_u32(id);
                out.put_u32(0);
                out.put_u16(0);
                out.put(block);
            }
            Frame::SynReply { id, block } => {
                control(out, 2, 0, 4 + block.len());
                out.put_u32(id);
                out.put(block);
            }
            Frame::Headers { id, flags, block } => {
                control(out, 8, flags, 4 + block.len());
                out.put_u32(id);
                out.put(block);
            }
            Frame::Reset { id, status } => two(out, 3, id, status),
            Frame::GoAway { last, status } => two(out, 7, last, status),
            Frame::WindowUpdate { id, delta } => two(out, 9, id, delta),
            Frame::Ping(id) => {
                control(out, 6, 0, 4);
                out.put_u32(id);
            }
            Frame::Other => {}
        }
        Ok(())
    }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, body: usize) {
    out.put_u16(0x8003);
    out.put_u16(kind);
    out.put_u32(length(body, flags));
}

fn two(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    control(out, kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
}

fn length(body: usize, flags: u8) -> u32 {
    u32::from(flags) << 24 | (u32::try_from(body).unwrap_or(u32::MAX) & 0x00ff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_way_in_pieces() {
        let frames = [
            Frame::SynStream { id: 1, flags: FIN, block: Bytes::from_static(b"block") },
            Frame::SynReply { id: 1, block: Bytes::from_static(b"b") },
            Frame::Data { id: 3, flags: 0, bytes: Bytes::from_static(b"hello") },
            Frame::Data { id: 3, flags: FIN, bytes: Bytes::new() },
            Frame::Ping(7),
            Frame::GoAway { last: 3, status: 0 },
            Frame::Reset { id: 5, status: 1 },
            Frame::WindowUpdate { id: 3, delta: 65_536 },
            Frame::Headers { id: 3, flags: 0, block: Bytes::from_static(b"x") },
        ];
        let mut wire = BytesMut::new();
        for frame in &frames {
            Codec.encode(frame.clone(), &mut wire).expect("encoded");
        }
        let mut got = Vec::new();
        let mut buffer = BytesMut::new();
        for byte in wire {
            buffer.put_u8(byte);
            while let Some(frame) = Codec.decode(&mut buffer).expect("decoded") {
                got.push(frame);
            }
        }
        assert_eq!(got, frames);
    }

    #[test]
    fn other_protocols_and_oversized_frames_are_refused() {
        assert!(Codec.decode(&mut BytesMut::from(&[0x80, 2, 0, 1, 0, 0, 0, 0][..])).is_err());
        assert!(Codec.decode(&mut BytesMut::from(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff][..])).is_err());
    }
}
