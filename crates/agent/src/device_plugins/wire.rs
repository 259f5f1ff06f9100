//! Protocol buffers as far as these few messages need them: varints and length-delimited fields.

use bytes::{BufMut, Bytes, BytesMut};

/// A message being written.
#[derive(Default)]
pub struct Writer(BytesMut);

impl Writer {
    /// A string or message field.
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        varint(&mut self.0, u64::from(field) << 3 | 2);
        varint(&mut self.0, value.len() as u64);
        self.0.put_slice(value);
        self
    }

    /// The message.
    pub fn done(self) -> Bytes {
        self.0.freeze()
    }
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a truth value or an enumeration.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.raw()).into_owned()
    }

    /// As bytes; nothing for a number.
    pub fn raw(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    /// As a truth value.
    pub fn truth(&self) -> bool {
        matches!(self, Self::Number(n) if *n != 0)
    }
}

/// All fields in order; what comes after something malformed is left out.
pub fn fields(mut message: &[u8]) -> Vec<(u32, Value<'_>)> {
    let mut out = Vec::new();
    while let Some(key) = read_varint(&mut message) {
        let Ok(field) = u32::try_from(key >> 3) else { break };
        match key & 7 {
            0 => match read_varint(&mut message) {
                Some(number) => out.push((field, Value::Number(number))),
                None => break,
            },
            2 => {
                let Some(length) = read_varint(&mut message).and_then(|n| usize::try_from(n).ok()) else { break };
                let Some((value, rest)) = message.split_at_checked(length) else { break };
                out.push((field, Value::Bytes(value)));
                message = rest;
            }
            kind @ (1 | 5) => match message.split_at_checked(if kind == 1 { 8 } else { 4 }) {
                Some((_, rest)) => message = rest,
                None => break,
            },
            _ => break,
        }
    }
    out
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_broken_ends_quietly() {
        let long = vec![7; 300];
        let message = Writer::default().bytes(1, b"abc").bytes(20, &long).done();
        assert_eq!(fields(&message), [(1, Value::Bytes(b"abc")), (20, Value::Bytes(&long))]);
        assert_eq!(fields(&[0x08, 0x96, 0x01]), [(1, Value::Number(150))]);
        for cut in 0..message.len() {
            assert!(fields(&message[..cut]).len() < 2);
        }
    }
}
