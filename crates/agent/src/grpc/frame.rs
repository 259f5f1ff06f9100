//! Messages in a stream of bytes: each has a flag and its length in front ("Length-Prefixed-Message").

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A message as it is sent, not compressed.
pub fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// Puts messages together from what comes.
#[derive(Default)]
pub struct Messages {
    pending: BytesMut,
}

impl Messages {
    /// The messages that are whole with this.
    pub fn take(&mut self, data: &[u8]) -> Vec<Bytes> {
        self.pending.put_slice(data);
        let mut out = Vec::new();
        while let Some(head) = self.pending.get(1..5) {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if self.pending.len() < 5 + length {
                break;
            }
            self.pending.advance(5);
            out.push(self.pending.split_to(length).freeze());
        }
        out
    }

    /// Bytes of the message that is not whole yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let both = [frame(b"one"), frame(b""), frame(b"three")].concat();
        assert_eq!(&both[..8], b"\0\0\0\0\x03one");
        let mut messages = Messages::default();
        let found: Vec<Bytes> = both.chunks(2).flat_map(|chunk| messages.take(chunk)).collect();
        assert_eq!(found, [&b"one"[..], &b""[..], &b"three"[..]]);
        assert_eq!(messages.pending(), 0);
    }
}
