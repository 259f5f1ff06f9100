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
