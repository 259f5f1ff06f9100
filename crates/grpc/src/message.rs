//! Protocol buffers' wire format, as far as the few messages of these services need it.

use std::collections::BTreeMap;

/// A message in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// A string; an empty one is left out, as proto3 does.
    pub fn text(mut self, field: u32, value: &str) -> Self {
        if !value.is_empty() {
            self.bytes(field, value.as_bytes());
        }
        self
    }

    /// A number or an enumeration; zero is left out.
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
        self
    }

    /// A flag; `false` is left out.
    pub fn flag(self, field: u32, value: bool) -> Self {
        self.number(field, u64::from(value))
    }

    /// A message within; an empty one is there, too.
    pub fn message(mut self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0);
        self
    }

    /// Strings.
    pub fn texts<'a>(mut self, field: u32, values: impl IntoIterator<Item = &'a str>) -> Self {
        for value in values {
            self.bytes(field, value.as_bytes());
        }
        self
    }

    /// `map<string, string>`.
    pub fn map(mut self, field: u32, values: &BTreeMap<String, String>) -> Self {
        for (key, value) in values {
            let entry = Message::default().text(1, key).text(2, value);
            self.bytes(field, &entry.0);
        }
        self
    }

    /// Bytes; none are left out.
    pub fn data(mut self, field: u32, value: &[u8]) -> Self {
        if !value.is_empty() {
            self.bytes(field, value);
        }
        self
    }

    /// Messages within.
    pub fn messages(mut self, field: u32, values: impl IntoIterator<Item = Message>) -> Self {
        for value in values {
            self.bytes(field, &value.0);
        }
        self
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The fields of a message that was received; unknown kinds are passed over, a broken end is where it ends.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    numbers: Vec<(u32, u64)>,
    bytes: Vec<(u32, &'a [u8])>,
}

impl<'a> Fields<'a> {
    /// Reads a message.
    pub fn read(mut rest: &'a [u8]) -> Self {
        let mut out = Self::default();
        while !rest.is_empty() {
            let Some(tag) = varint(&mut rest) else { break };
            let Ok(field) = u32::try_from(tag >> 3) else { break };
            let length = match tag & 7 {
                0 => {
                    let Some(value) = varint(&mut rest) else { break };
                    out.numbers.push((field, value));
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => match varint(&mut rest).map(usize::try_from) {
                    Some(Ok(length)) => length,
                    _ => break,
                },
                _ => break,
            };
            let Some((value, after)) = rest.split_at_checked(length) else { break };
            if tag & 7 == 2 {
                out.bytes.push((field, value));
            }
            rest = after;
        }
        out
    }

    /// The last value of a number; zero if there is none.
    pub fn number(&self, field: u32) -> u64 {
        self.numbers.iter().rev().find(|(f, _)| *f == field).map_or(0, |(_, v)| *v)
    }

    /// The last value of a string; empty if there is none.
    pub fn text(&self, field: u32) -> String {
        self.all(field).last().map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default()
    }

    /// The last value of bytes; none if there are none.
    pub fn data(&self, field: u32) -> &'a [u8] {
        self.all(field).last().unwrap_or_default()
    }

    /// All values of a repeated string.
    pub fn texts(&self, field: u32) -> Vec<String> {
        self.all(field).map(|v| String::from_utf8_lossy(v).into_owned()).collect()
    }

    /// All values of a repeated string or message.
    pub fn all(&self, field: u32) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.iter().filter(move |(f, _)| *f == field).map(|(_, v)| *v)
    }

    /// The first message of that field, if there is one.
    pub fn message(&self, field: u32) -> Option<Fields<'a>> {
        self.all(field).next().map(Fields::read)
    }

    /// `map<string, string>`.
    pub fn map(&self, field: u32) -> BTreeMap<String, String> {
        let entries = self.all(field).map(Fields::read);
        entries.map(|entry| (entry.text(1), entry.text(2))).collect()
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
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
    fn what_is_written_is_read_again_and_broken_input_ends_quietly() {
        let map = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let inner = Message::default().number(1, 300);
        let message = Message::default()
            .text(1, "name")
            .text(2, "")
            .flag(3, true)
            .message(4, &inner)
            .map(5, &map)
            .texts(6, ["x", ""]);
        let fields = Fields::read(&message.0);
        assert_eq!((fields.text(1), fields.text(2), fields.number(3)), ("name".into(), String::new(), 1));
        assert_eq!(fields.all(4).map(|m| Fields::read(m).number(1)).collect::<Vec<_>>(), [300]);
        assert_eq!(fields.map(5), map);
        assert_eq!(fields.all(6).count(), 2);
        for end in 0..message.0.len() {
            Fields::read(&message.0[..end]);
        }
        assert_eq!(Message::default().text(1, "ab").0, [0x0a, 2, b'a', b'b']);
    }
}
