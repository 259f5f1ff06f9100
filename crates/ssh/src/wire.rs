//! Values as they travel (RFC 4251, 5). Pure.

use crate::SshError;

/// What a message says, piece by piece.
pub(crate) struct Fields<'a>(&'a [u8]);

const SHORT: SshError = SshError::Protocol("a message is cut off");

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], SshError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, SshError> {
        Ok(self.take(1)?[0])
    }

    pub fn number(&mut self) -> Result<u32, SshError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], SshError> {
        let length = self.number()?;
        self.take(length as usize)
    }

    pub fn text(&mut self) -> Result<&'a str, SshError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| SshError::Protocol("a text is not UTF-8"))
    }

    /// A positive number, without zeros before it.
    pub fn big(&mut self) -> Result<&'a [u8], SshError> {
        let bytes = self.bytes()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(&bytes[zeros..])
    }

    pub fn skip(&mut self, count: usize) -> Result<(), SshError> {
        self.take(count).map(drop)
    }
}

/// A message under construction.
#[derive(Clone, Default)]
pub(crate) struct Message(pub Vec<u8>);

impl Message {
    pub fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut message = self.number(u32::try_from(bytes.len()).expect("no message is so long"));
        message.0.extend(bytes);
        message
    }

    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// A positive number of any size, the highest byte first.
    pub fn big(self, bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let plain = &bytes[zeros..];
        match plain.first() {
            // Else it would be a negative one.
            Some(first) if first & 0x80 != 0 => self.bytes(&[&[0], plain].concat()),
            _ => self.bytes(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_travel_as_the_standards_examples() {
        let of = |bytes: &[u8]| Message::default().big(bytes).0;
        assert_eq!(of(&[0]), [0, 0, 0, 0]);
        assert_eq!(of(&[0, 0x80]), [0, 0, 0, 2, 0, 0x80]);
        let example = [0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7];
        assert_eq!(of(&example), [&[0, 0, 0, 8], &example[..]].concat());
        assert_eq!(Fields::of(&of(&[0, 0x80])).big().unwrap(), [0x80]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = Message::new(7).number(9).text("abc").0;
        let read = |bytes: &[u8]| {
            let mut fields = Fields::of(bytes);
            Ok::<_, SshError>((fields.byte()?, fields.number()?, fields.text()?.to_owned()))
        };
        assert_eq!(read(&whole).unwrap(), (7, 9, "abc".to_owned()));
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }
}
