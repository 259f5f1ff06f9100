//! Netlink attributes (`struct nlattr`: u16 length, u16 type, value padded to four bytes) in a byte buffer.

const NESTED: u16 = libc::NLA_F_NESTED as u16;
const TYPE_MASK: u16 = libc::NLA_TYPE_MASK as u16;

/// Appends attributes to a buffer.
pub(crate) struct AttributeWriter<'a> {
    buffer: &'a mut Vec<u8>,
}

impl<'a> AttributeWriter<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>) -> Self {
        AttributeWriter { buffer }
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.header(kind, value.len());
        self.buffer.extend_from_slice(value);
        self.pad();
        self
    }

    /// A big-endian number, as nftables and conntrack want all of theirs.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A NUL-terminated string.
    pub(crate) fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        self.header(kind, value.len() + 1);
        self.buffer.extend_from_slice(value.as_bytes());
        self.buffer.push(0);
        self.pad();
        self
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut AttributeWriter<'_>)) -> &mut Self {
        let start = self.buffer.len();
        self.header(kind | NESTED, 0);
        fill(&mut AttributeWriter { buffer: self.buffer });
        let length = u16::try_from(self.buffer.len() - start).expect("callers keep a nest below 64 KiB");
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn header(&mut self, kind: u16, length: usize) {
        let length = u16::try_from(length + 4).expect("callers keep an attribute below 64 KiB");
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
    }
}

/// The (type, value) pairs in `bytes`; stops at the first that is cut short.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_through_nests() {
        let mut buffer = Vec::new();
        AttributeWriter::new(&mut buffer).string(1, "abc").nest(2, |inner| {
            inner.be32(7, 0x0102_0304).bytes(8, &[9]);
        });
        let read: Vec<_> = attributes(&buffer).collect();
        assert_eq!(read[0], (1, &b"abc\0"[..]));
        assert_eq!(read[1].0, 2);
        let inner: Vec<_> = attributes(read[1].1).collect();
        assert_eq!(inner, [(7, &[1, 2, 3, 4][..]), (8, &[9][..])]);
    }

    #[test]
    fn a_cut_or_lying_attribute_ends_the_walk() {
        assert_eq!(attributes(&[8, 0, 1, 0, 1, 2]).count(), 0);
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[]).count(), 0);
    }
}
