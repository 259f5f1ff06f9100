//! Protocol buffers' wire format.

use super::Error;

/// Walks the fields of a message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// A field's value as it stands on the wire.
#[derive(Clone, Copy)]
pub(super) enum Token<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Reader<'a> {
        Reader { rest }
    }

    /// The next field: number and value.
    pub fn next(&mut self) -> Result<Option<(u64, Token<'a>)>, Error> {
        let Some(tag) = self.varint_or_end()? else { return Ok(None) };
        let token = match tag & 7 {
            0 => Token::Varint(self.varint()?),
            1 => Token::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
                Token::Bytes(self.take(length)?)
            }
            5 => Token::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Error::Truncated),
        };
        Ok(Some((tag >> 3, token)))
    }

    /// A number, or `None` at the end.
    pub fn varint_or_end(&mut self) -> Result<Option<u64>, Error> {
        if self.rest.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Error::Truncated)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Error::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| Error::Truncated)
    }
}

impl<'a> Token<'a> {
    pub fn bytes(self, number: u64) -> Result<&'a [u8], Error> {
        if let Token::Bytes(bytes) = self { Ok(bytes) } else { Err(Error::WireType(number)) }
    }

    pub fn varint(self, number: u64) -> Result<u64, Error> {
        if let Token::Varint(value) = self { Ok(value) } else { Err(Error::WireType(number)) }
    }

    pub fn double(self, number: u64) -> Result<f64, Error> {
        match self {
            Token::Fixed64(bits) => Ok(f64::from_bits(bits)),
            Token::Fixed32(bits) => Ok(f32::from_bits(bits).into()),
            _ => Err(Error::WireType(number)),
        }
    }
}

/// A message in the making.
#[derive(Default)]
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { out: Vec::with_capacity(bytes) }
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// What is there so far, of which nothing is kept.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Bytes outside of any field.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn varint(&mut self, number: u32, value: u64) {
        self.push(u64::from(number) << 3);
        self.push(value);
    }

    pub fn double(&mut self, number: u32, value: f64) {
        self.push(u64::from(number) << 3 | 1);
        self.raw(&value.to_le_bytes());
    }

    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.head(number, bytes.len());
        self.raw(bytes);
    }

    /// Tag and length of a field whose so many bytes follow.
    pub fn head(&mut self, number: u32, length: usize) {
        self.push(u64::from(number) << 3 | 2);
        self.push(length as u64);
    }

    /// A message within this one. Most are shorter than 128 bytes, whose length is one byte; longer ones are moved.
    pub fn message(&mut self, number: u32, fill: impl FnOnce(&mut Writer)) {
        self.push(u64::from(number) << 3 | 2);
        let at = self.out.len();
        self.out.push(0);
        fill(self);
        let length = self.out.len() - at - 1;
        if length < 0x80 {
            self.out[at] = length as u8;
            return;
        }
        let mut digits = Writer::default();
        digits.push(length as u64);
        self.out.splice(at..=at, digits.out);
    }

    fn push(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
