//! Messages in a stream of bytes: each has a flag and its length in front ("Length-Prefixed-Message").

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::LARGEST;

/// A message that is refused before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// More bytes than anybody sends.
    #[error("a message of {0} bytes is too large")]
    Size(usize),
    /// Nobody was told that this side could read it.
    #[error("a compressed message is not understood")]
    Compressed,
}

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
    ///
    /// # Errors
    /// [`TooLarge`], as soon as a message says so of itself.
    pub fn take(&mut self, data: &[u8]) -> Result<Vec<Bytes>, TooLarge> {
        self.pending.put_slice(data);
        let mut out = Vec::new();
        while let Some(head) = self.pending.get(..5) {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if head[0] != 0 {
                return Err(TooLarge::Compressed);
            }
            if length > LARGEST {
                return Err(TooLarge::Size(length));
            }
            if self.pending.len() < 5 + length {
                break;
            }
            self.pending.advance(5);
            out.push(self.pending.split_to(length).freeze());
        }
        Ok(out)
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
        let found: Vec<Bytes> = both.chunks(2).flat_map(|chunk| messages.take(chunk).unwrap()).collect();
        assert_eq!(found, [&b"one"[..], &b""[..], &b"three"[..]]);
        assert!(messages.pending.is_empty());
    }

    #[test]
    fn a_message_that_says_it_is_too_large_is_not_waited_for() {
        let mut messages = Messages::default();
        assert_eq!(messages.take(b"\0\xff\xff\xff\xff"), Err(TooLarge::Size(0xffff_ffff)));
        assert_eq!(Messages::default().take(b"\x01\0\0\0\0"), Err(TooLarge::Compressed));
    }
}
